"""Two transformations of a list of digits, one after the other."""

import re
from collections.abc import Callable, Iterator
from random import Random

from recipes.benchmarks.base import Benchmark, Item, item_id

OPERATIONS: dict[str, Callable[[list[int]], list[int]]] = {
    "sort": sorted,
    "reverse": lambda numbers: numbers[::-1],
    "rotate": lambda numbers: numbers[1:] + numbers[:1],
    "double": lambda numbers: [2 * number for number in numbers],
}


class Lists(Benchmark):
    name = "lists"
    title = "Sort, reverse, rotate or double a list of digits, two operations in a row"
    max_new_tokens = 80  # the longest worked solution is 69 tokens of the starter's tokenizer

    def stream(self, seed: int) -> Iterator[Item]:
        rng = Random(seed)
        while True:
            first, second = rng.sample(list(OPERATIONS), 2)
            yield transformed([rng.randint(0, 9) for _ in range(rng.randint(3, 6))], first, second)

    def prompt(self, item: Item) -> str:
        return f"Apply {item.question}. Finish with Answer: N\n"

    def extract(self, output: str) -> str | None:
        found = re.findall(r"Answer:[ \[]*(\d+(?:,? +\d+)*)", output)
        return " ".join(re.findall(r"\d+", found[-1])) if found else None


def transformed(numbers: list[int], first: str, second: str) -> Item:
    """An item that applies `first`, then `second` ("rotate" moves the first number to the end)."""
    middle = OPERATIONS[first](numbers)
    last = OPERATIONS[second](middle)
    question = f"{first}, then {second} to {spaced(numbers)}"
    worked = f"{first} {spaced(numbers)} = {spaced(middle)}, {second} {spaced(middle)} = {spaced(last)}"
    return Item(id=item_id(question), question=question, answer=spaced(last), worked=worked)


def spaced(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))
