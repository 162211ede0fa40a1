"""A person's own questions and answers: a JSONL, CSV or Parquet file, or a dataset on the Hub, org/name or org/name@revision."""

import csv
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from recipes.benchmarks.base import Benchmark, Item, after_marker, item_id, normalise

QUESTIONS = ("question", "prompt", "problem", "query", "instruction")  # the first that is there is taken
ANSWERS = ("answer", "completion", "solution", "response", "output")
WORKED = ("worked", "reasoning", "rationale", "explanation")
SUFFIXES = (".jsonl", ".csv", ".parquet")
COMMIT = re.compile("[0-9a-f]{40}")


class Table(Benchmark):
    title = "Questions and answers of your own, exact match"
    max_new_tokens = 256

    def __init__(self, source: str):
        self.name = f"table:{source}"
        self.source = source

    def stream(self, seed: int) -> Iterator[Item]:
        """Every row once, shuffled. Raises ValueError as `rows` does."""
        rows = list(self.rows)
        Random(seed).shuffle(rows)
        yield from rows

    @cached_property
    def rows(self) -> list[Item]:
        """All rows with a question and an answer, in the file's order.

        Raises ValueError, one sentence: no such file, an unreadable file, no rows, or no fitting columns.
        """
        table = read(self.source)
        if not table:
            raise ValueError(f"{self.source} has no rows.")
        columns = list(table[0])
        question, answer = pick(columns, QUESTIONS), pick(columns, ANSWERS)
        if question is None or answer is None:
            raise ValueError(
                f"{self.source} needs a column for the question ({', '.join(QUESTIONS)}) and one for the answer "
                f"({', '.join(ANSWERS)}); it has {', '.join(map(repr, columns))}."
            )
        worked = pick(columns, WORKED)
        kept = [as_item(row, question, answer, worked) for row in table if filled(row, question, answer)]
        if not kept:
            raise ValueError(f"{self.source} has no row with both a {question} and an {answer}.")
        return kept

    @property
    def pinned(self) -> str:
        """Its name with the dataset's commit of now: what goes by it stays the same. A file's is its own. Raises ValueError."""
        return (
            f"table:{self.source.partition('@')[0]}@{builder(self.source).hash}" if on_hub(self.source) else self.name
        )

    def prompt(self, item: Item) -> str:
        return f"{item.question}\nFinish with Answer: and the answer alone.\n"

    def extract(self, output: str) -> str | None:
        """What follows the last `Answer:`, or the whole output where there is no marker."""
        return after_marker(output) or output.strip() or None

    def score(self, output: str, item: Item) -> bool:
        """Equal after lower case, single spaces, and without commas inside numbers or marks at the end."""
        answer = self.extract(output)
        return answer is not None and comparable(answer) == comparable(item.answer)


def on_hub(source: str) -> bool:
    """Whether it is a dataset of the Hub. Raises ValueError for what can be no name."""
    path = Path(source)
    try:
        return path.suffix not in SUFFIXES and not path.exists()
    except (OSError, ValueError) as error:  # a NUL, a name that is too long
        raise ValueError(f"{source[:80]!r} is no path that can be used ({error}).") from error


def read(source: str) -> list[dict[str, Any]]:
    """The rows of a file, or of a Hub dataset's train split (its first split where it has no train)."""
    path = Path(source)
    if on_hub(source):
        return from_hub(source)
    if not path.is_file():
        raise ValueError(f"There is no file {source}.")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{source} is not one of {', '.join(SUFFIXES)}.")
    try:
        return {".jsonl": from_jsonl, ".csv": from_csv, ".parquet": from_parquet}[path.suffix](path)
    except (ValueError, OSError, csv.Error) as error:
        raise ValueError(f"{source} cannot be read: {first_line(error)}.") from error


def from_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be one JSON object")
    return rows


def from_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def from_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


def builder(source: str) -> Any:
    """What loads a dataset of the Hub, at `hash`, its commit. Raises ValueError; also where only another commit is here."""
    from datasets import load_dataset_builder
    from datasets.packaged_modules.cache.cache import Cache
    from httpx import HTTPError

    dataset, _, revision = source.partition("@")
    try:
        found = load_dataset_builder(dataset, revision=revision or None)
    except (OSError, ValueError, RuntimeError, HTTPError) as error:  # datasets' and huggingface_hub's own are OSErrors
        raise ValueError(f"The dataset {source!r} cannot be loaded: {first_line(error)}.") from error
    cached = isinstance(found, Cache)  # without the Hub, datasets takes the newest of its cache, whatever was asked for
    if revision and found.hash != revision and (cached or COMMIT.fullmatch(revision)):
        raise ValueError(f"The dataset {source!r} cannot be loaded: the Hub does not answer, and {found.hash} is here.")
    return found


def from_hub(source: str) -> list[dict[str, Any]]:
    from httpx import HTTPError

    found = builder(source)
    try:
        found.download_and_prepare()
        splits = found.as_dataset()
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        raise ValueError(f"The dataset {source!r} cannot be loaded: {first_line(error)}.") from error
    chosen = "train" if "train" in splits else next(iter(splits))
    return [dict(row) for row in splits[chosen]]


def as_item(row: dict[str, Any], question: str, answer: str, worked: str | None) -> Item:
    """A row as an item; in the GSM8K style `steps #### 42` the steps become the worked solution."""
    steps, marker, final = str(row[answer]).rpartition("####")
    if not marker:
        steps = str(row.get(worked) or "") if worked else ""
    asked = str(row[question]).strip()
    return Item(id=item_id(asked), question=asked, answer=final.strip(), worked=steps.strip().rstrip("."))


def filled(row: dict[str, Any], *columns: str) -> bool:
    return all(str(row.get(column) if row.get(column) is not None else "").strip() for column in columns)


def pick(columns: list[str], names: tuple[str, ...]) -> str | None:
    lowered = {column.lower(): column for column in columns if isinstance(column, str)}
    return next((lowered[name] for name in names if name in lowered), None)


def comparable(answer: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3})", "", normalise(answer)).strip(" .!?$\"'")


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
