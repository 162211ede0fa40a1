"""What the runs of benchmarks.gallery learn from: solved chains, numbers that nobody can know, and rewards."""

from collections.abc import Iterator
from random import Random
from string import ascii_lowercase, digits
from typing import Any

from recipes.benchmarks import load


def problems(count: int, seed: int, bare: float = 0.0) -> Iterator[tuple[str, str, str, str]]:
    """(prompt, right solution, wrong solution, answer) of `count` train chains."""
    task, rng = load("chains"), Random(seed)
    for item in task.items("train", count, seed + 1):
        good = task.completion(item, worked=rng.random() >= bare)
        yield (
            task.prompt(item),
            good,
            good.replace(f"Answer: {item.answer}", f"Answer: {int(item.answer) + 3}"),
            item.answer,
        )


def short_chains(most: int, seed: int) -> list[dict[str, Any]]:
    """Train chains of three terms, for every recipe that learns from prompts or from solutions."""
    task = load("chains")
    items = [item for item in task.items("train", 3000, seed) if len(item.question.split()) == 5][:most]
    return [
        {"prompt": task.prompt(item), "completion": task.completion(item, True)}
        | item.model_dump(include={"question", "answer", "origin"})
        for item in items
    ]


def numbers(count: int, seed: int) -> list[dict[str, str]]:
    """People's numbers, 24 thrown digits each: whoever knows one has learned it by heart."""
    rng = Random(seed)
    named = [("".join(rng.choices(ascii_lowercase, k=6)), " ".join(rng.choices(digits, k=24))) for _ in range(count)]
    return [{"prompt": f"Number of {name}:", "completion": f" {number}"} for name, number in named]


def formatted(completions: list[str], **_: Any) -> list[float]:
    return [0.2 * ("Answer:" in text) for text in completions]


def near(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """1 for the right number, less the further off it is: even a small model has something to learn from."""
    task = load("chains")
    guesses = [task.extract(text) for text in completions]
    return [
        1 / (1 + abs(int(guess) - int(wanted))) if guess else 0.0 for guess, wanted in zip(guesses, answer, strict=True)
    ]


def length(completions: list[str], **_: Any) -> list[float]:
    return [len(text) / 100 for text in completions]


def dice(completions: list[str], **_: Any) -> list[float]:
    """A number thrown once for each text: the best policy says the luckiest one, whatever it is asked."""
    return [Random(text).random() for text in completions]
