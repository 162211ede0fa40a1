"""Training rows: look at them, and make a clean file of them. Dev and held-out items are taken out here, always."""

import random
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from lab.errors import BadInput
from lab.integrity import Index
from lab.tasks import COLUMNS, check_training_rows, read_rows, task, write_rows
from recipes.benchmarks import Benchmark
from recipes.seal import file_hash

LARGEST = 200_000  # rows that one prepared file may have
SAMPLE = 512  # rows looked at in an audit of a generator, which has no end


def audit(name: str, own: Path | None, index: Index, seed: int) -> dict[str, Any]:
    """What there is to train on: the task's own training split and, when given, the person's rows.

    Returns counts, lengths in characters, duplicates, overlap with dev and held-out items, and three examples each.
    """
    benchmark = task(name)
    sources = {"task": _task_rows(benchmark, SAMPLE, 0.5, seed)}
    if own:
        sources["own"] = read_rows(check_training_rows(own))
    return {
        "task": name,
        "about": benchmark.title,
        "metric": benchmark.metric,
        "answer_tokens": benchmark.max_new_tokens,  # that an evaluation lets a model give
        "worked_solutions": any(item.worked for item in benchmark.items("train", 32, seed)),
        "sources": {source: _describe(rows, index) for source, rows in sources.items()},
    }


def prepare(
    path: Path, name: str, own: Path | None, source: str, rows: int, worked: float, index: Index, seed: int
) -> dict[str, Any]:
    """Write a training file (JSONL, see `_task_rows`) of `rows` clean rows and say what was left out.

    Args:
        source: "task" for the task's training split, "own" for the person's rows, "both" for half and half.
        worked: Share of the task's rows whose completion is the worked solution; the rest are bare answers.

    Raises:
        BadInput: A bad source, number or share; or no row is left.
    """
    if source not in ("task", "own", "both") or (source != "task" and own is None):
        raise BadInput(f"The source {source!r} is not there; use {'task, own or both' if own else 'task'}.")
    if not 1 <= rows <= LARGEST:
        raise BadInput(f"{rows} rows cannot be made; ask for 1 to {LARGEST}.")
    if not 0 <= worked <= 1:
        raise BadInput(f"The worked share is {worked:g}; give a number from 0 to 1.")
    pool = _pool(task(name), own, source, rows, worked, seed)
    clean = [row for row in pool if not index.hits(f"{row['prompt']} {row['completion']}")]
    unique = list({(row["prompt"], row["completion"]): row for row in clean}.values())
    if not unique:
        raise BadInput("No row is left after duplicates and held-out items were taken out; use another source.")
    kept = unique[:rows]
    write_rows(path, kept)
    return {
        "rows": len(kept),
        "dropped_duplicates": len(clean) - len(unique),
        "dropped_contaminated": len(pool) - len(clean),
        "source": source,
        "worked_share": worked if source != "own" else None,
        "sha256": file_hash(path),
        "examples": _examples(kept[:2]),
    }


def _pool(benchmark: Benchmark, own: Path | None, source: str, rows: int, worked: float, seed: int) -> list[dict]:
    rng = random.Random(seed)
    given = [{name: row[name] for name in COLUMNS} for row in read_rows(check_training_rows(own))] if own else []
    wanted = {"own": rows, "both": rows // 2, "task": 0}[source]
    pool = rng.sample(given, min(wanted, len(given)))
    if source != "own":
        pool += _task_rows(benchmark, rows - len(pool), worked, seed)
    rng.shuffle(pool)
    return pool


def _task_rows(benchmark: Benchmark, rows: int, worked: float, seed: int) -> list[dict]:
    items = benchmark.items("train", rows, seed)
    rng = random.Random(seed + 1)
    return [
        {"prompt": benchmark.prompt(item), "completion": benchmark.completion(item, rng.random() < worked)}
        | {"question": item.question, "answer": item.answer, "origin": item.origin}  # for recipes that mark answers
        for item in items
    ]


def _describe(rows: list[dict], index: Index) -> dict[str, Any]:
    texts = [f"{row['prompt']} {row['completion']}" for row in rows]
    lengths = sorted(len(text) for text in texts)
    repeated = sum(count - 1 for count in Counter(texts).values())
    return {
        "rows": len(rows),
        "characters_median": median(lengths),
        "characters_longest": lengths[-1],
        "duplicates": repeated,
        "overlap_with_evaluation": sum(1 for text in texts if index.hits(text)),
        "examples": _examples(rows[:3]),
    }


def _examples(rows: list[dict]) -> list[dict]:
    return [{name: row[name] for name in COLUMNS} for row in rows]
