"""What a benchmark is, and how its questions are split. Pure: no files, no network, no clock."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

Split = Literal["train", "dev", "heldout"]

FIXED_SEED = 20_240_607  # dev and held-out items never depend on a session's seed
DRAWS_PER_ITEM = 40  # a tenth of the questions is held out: 40 draws an item find it unless the source runs dry
SPARE_DRAWS = 2_000  # the same patience for very small n


class Item(BaseModel):
    """One question. `worked` may be empty; `origin` lets a generator make its own entry again, to score with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    question: str
    answer: str
    worked: str = ""
    origin: dict[str, int] = {}


def normalise(text: str) -> str:
    """Lower case, single spaces: what makes two questions the same question."""
    return re.sub(r"\s+", " ", text).strip().lower()


def split_of(question: str) -> Split:
    """Which split a question belongs to, by its own hash: no two splits can share one, whoever generates it."""
    bucket = int(sha256(normalise(question).encode()).hexdigest(), 16) % 10
    if bucket == 0:
        return "heldout"
    return "dev" if bucket == 1 else "train"


def item_id(question: str) -> str:
    """Twelve hex digits of the normalised question's hash."""
    return sha256(normalise(question).encode()).hexdigest()[:12]


def after_marker(output: str) -> str | None:
    """The rest of the line after the last `Answer:`, or None where an output has no such marker."""
    _, marker, rest = output.rpartition("Answer:")
    lines = rest.strip().splitlines()
    return lines[0].strip() if marker and lines else None


class Benchmark(ABC):
    """A source of questions, the words that ask them, and the rule that marks an answer."""

    name: str
    title: ClassVar[str]
    metric: ClassVar[str] = "accuracy"
    max_new_tokens: ClassVar[int]

    @abstractmethod
    def stream(self, seed: int) -> Iterator[Item]:
        """Items of every split, in an order fixed by `seed`; may repeat itself, may never end."""

    @abstractmethod
    def prompt(self, item: Item) -> str:
        """The text a model is asked with, before any chat template."""

    @abstractmethod
    def extract(self, output: str) -> str | None:
        """The answer inside an output; None where there is none."""

    def score(self, output: str, item: Item) -> bool:
        """Exact match of the extracted answer."""
        return self.extract(output) == item.answer

    def completion(self, item: Item, worked: bool) -> str:
        """What a model is trained to say; the bare answer where an item has no worked solution."""
        return f"{item.worked}. Answer: {item.answer}" if worked and item.worked else f"Answer: {item.answer}"

    def items(self, split: Split, n: int, seed: int = 0) -> list[Item]:
        """At most `n` distinct items of a split; fewer only where the source has no more.

        `seed` moves the train items alone: dev and held-out lists are the same for everybody.
        Raises ValueError for an unknown split, or where the source has no item of this split at all.
        """
        if split not in get_args(Split):
            raise ValueError(f"There is no split {split!r}; the splits are {', '.join(get_args(Split))}.")
        candidates = self.stream(seed if split == "train" else FIXED_SEED)
        found: dict[str, Item] = {}
        for item in islice(candidates, n * DRAWS_PER_ITEM + SPARE_DRAWS):
            if len(found) == n:
                break
            if split_of(item.question) == split:
                found.setdefault(item.id, item)
        if n and not found:
            raise ValueError(f"{self.name} has no {split} items.")
        return list(found.values())
