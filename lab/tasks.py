"""What a session is measured on: its benchmark, and the vault of items that no tool of the agent can read."""

import fcntl
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.integrity import Index
from recipes.benchmarks import Benchmark, Item, Split, load
from recipes.benchmarks.table import Table
from recipes.job import write_whole
from recipes.seal import file_hash, judge_hash

SIZES: dict[Split, int] = {"dev": 200, "heldout": 400}  # items; at n = 400 one standard error is at most 2.5 points
COLUMNS = ("prompt", "completion")


def task(name: str) -> Benchmark:
    """The benchmark of a name. Raises BadInput, with the names there are."""
    try:
        return load(name)
    except ValueError as error:
        raise BadInput(str(error)) from error


def check_task(name: str) -> str:
    """The task's name for a session's log: a Hub dataset's with its commit, since it may change and the session's items may not.

    Raises BadInput unless the task exists and has items to measure and to train on.
    """
    benchmark = task(name)
    try:
        if isinstance(benchmark, Table):
            benchmark = task(benchmark.pinned)
        for split in ("heldout", "dev", "train"):
            if not benchmark.items(split, 1, seed=0):
                raise BadInput(f"The task {name!r} has no {split} items; give it more rows.")
    except ValueError as error:
        raise BadInput(str(error)) from error
    return benchmark.name


def check_training_rows(path: Path) -> Path:
    """The absolute path of a person's own training rows. Raises BadInput for an empty file or a missing column."""
    rows = read_rows(path)
    if not rows:
        raise BadInput(f"{path} is empty; give JSON lines with the columns prompt and completion.")
    bad = odd_row(rows)
    if bad is not None:
        missing = next(name for name in COLUMNS if not isinstance(rows[bad].get(name), str))
        there = ", ".join(rows[bad]) or "none"
        raise BadInput(f"{path} has no column {missing!r} (there are: {there}); rename yours to prompt and completion.")
    return path.expanduser().resolve()


def odd_row(rows: Sequence[dict[str, Any]]) -> int | None:
    """The place of the first row that lacks one of the texts prompt and completion."""
    return next((i for i, row in enumerate(rows) if not all(isinstance(row.get(c), str) for c in COLUMNS)), None)


def read_rows(path: Path) -> list[dict]:
    """Rows of a JSONL file. Raises BadInput with the line that is not JSON."""
    try:
        lines = path.expanduser().read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} could not be read ({error}); give a file of JSON lines.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadInput(f"{path}: line {number} is not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise BadInput(f"{path}: line {number} is not a JSON object.")
            rows.append(row)
    return rows


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """Write JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _lines(rows))


def rows_hash(rows: Iterable[dict]) -> str:
    """The hash of the file that `write_rows` would make."""
    return hashlib.sha256(_lines(rows).encode()).hexdigest()


def _lines(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Vault:
    """Dev and held-out items on disk, made once per task and judge; readable by our user only."""

    def __init__(self, root: Path):
        self._root = root

    def items(self, name: str, split: Split) -> Path:
        """The file of a split's items, made when it is not there. Raises BadInput."""
        path = self._folder(name) / f"{split}.jsonl"
        with open(self._root / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two sessions may begin at once
            if not path.exists():
                benchmark = task(name)
                write_rows(path, (item.model_dump() for item in benchmark.items(split, SIZES[split], seed=0)))
                path.chmod(0o600)
        return path

    def index(self, name: str) -> Index:
        """An index of every dev and held-out question, for finding them in training rows."""
        rows = [row for split in SIZES for row in read_rows(self.items(name, split))]
        return Index([Item(**row) for row in rows])

    def _folder(self, name: str) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o700)
        source = Path(name.partition(":")[2])  # a person's own file may change, and is then another task
        content = file_hash(source) if source.is_file() else ""
        version = hashlib.sha256(f"{name}\n{judge_hash(name)}\n{content}".encode()).hexdigest()[:12]
        return self._root / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[-40:]}-{version}"
