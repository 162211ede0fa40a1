"""Sums and differences of three to five digits: easy step by step, hard in one go.

A question is a whole expression. A longer train expression may begin like a shorter held-out one: the splits keep
questions apart, not their beginnings.
"""

import re
from collections.abc import Iterator
from random import Random

from recipes.benchmarks.base import Benchmark, Item, item_id


class Chains(Benchmark):
    name = "chains"
    title = "Chains of + and - over three to five one-digit numbers"
    max_new_tokens = 64  # the longest worked solution is 43 tokens of the starter's tokenizer

    def stream(self, seed: int) -> Iterator[Item]:
        rng = Random(seed)
        while True:
            yield chain([rng.randint(0, 9) for _ in range(rng.randint(3, 5))], rng)

    def prompt(self, item: Item) -> str:
        return f"Calculate {item.question}. Finish with Answer: N\n"

    def extract(self, output: str) -> str | None:
        numbers = re.findall(r"Answer:\s*(-?\d+)", output)
        return numbers[-1] if numbers else None


def chain(terms: list[int], rng: Random) -> Item:
    """An item over these terms with random signs; the question is the expression itself."""
    total, expression, steps = terms[0], str(terms[0]), []
    for term in terms[1:]:
        sign = rng.choice("+-")
        after = total + term if sign == "+" else total - term
        steps.append(f"{total} {sign} {term} = {after}")
        total, expression = after, f"{expression} {sign} {term}"
    return Item(id=item_id(expression), question=expression, answer=str(total), worked=", ".join(steps))
