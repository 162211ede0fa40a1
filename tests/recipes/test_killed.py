"""kill -9 at random steps of every recipe, and at bad moments of one: what is left is what a run without them leaves."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from math import ceil
from pathlib import Path
from random import Random, randrange
from typing import Any

import pytest

from recipes.job import read_lines
from recipes.recorder import COMPLETE, unmark
from tests.recipes.forked import start
from tests.recipes.rig import SMALL, with_rows
from tests.recipes.test_chat import MARKS, spoken
from tests.recipes.test_resume import METHODS, SETTINGS, weights
from tests.recipes.test_resume import ROWS as SHAPED

ROWS = [{"prompt": "Go on:", "completion": "1 2 3 " * (1 + at % 16 * 2)} for at in range(60)]  # up to 93 numbers
STEPS = 32  # enough for a probe; the last one is not an epoch's, and most checkpoints fall between two logged steps
JOB = {"max_steps": STEPS, "batch_size": 8, "max_length": 256, "save_steps": 3, "log_steps": 2, "eval_steps": 5}
SHORT: dict[str, Any] = SMALL | {"max_steps": 12, "batch_size": 8, "save_steps": 3, "eval_steps": 5}
FEW = 12  # rows: every recipe comes to a second epoch
KILLS = ceil(20 / len(METHODS))  # of each recipe: twenty or more of all
CLOCKS = ("at", "tokens_per_second", "step_time", "seconds", "peak_rss_mb", "resumed_from")  # differ from run to run

Moment = Callable[[Path, float], bool]  # (the job's folder, when this attempt began)


def begun(folder: Path, since: float) -> bool:
    return (folder / "heartbeat").exists() and (folder / "heartbeat").stat().st_mtime > since


def newer(path: Path, since: float) -> bool:
    """Whether it is there, and was made since: a trainer deletes, too."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime > since
    return False


def half_saved(folder: Path, since: float) -> bool:
    made = (path for path in (folder / "checkpoints").glob("checkpoint-*") if newer(path, since))
    return any(not (path / COMPLETE).exists() for path in made)


def trained(folder: Path, since: float) -> bool:
    return any(newer(folder / name, since) for name in (".model.tmp", "model"))


def reached(step: int) -> Moment:
    return lambda folder, since: any(
        line["step"] >= step and line["at"] > since for line in read_lines(folder / "metrics.jsonl")
    )


def killed(folder: Path, moment: Moment, later: float = 0.0, recipe: str = "sft") -> bool:
    """Start the job, kill it `later` seconds after a moment; whether it died in that very moment: its end may come first."""
    since = time.time()
    process = start(recipe, folder)
    while not moment(folder, since):
        assert process.is_alive() and time.time() < since + 120, (folder / "log.txt").read_text()[-2000:]
        time.sleep(0.0005)
    time.sleep(later)
    process.kill()
    process.join()
    assert process.exitcode == -9 or moment is trained
    return process.exitcode == -9 and moment(folder, since)


def left(folder: Path) -> list[dict]:
    """The curves and the result, without what depends on the clock."""
    lines = [*read_lines(folder / "metrics.jsonl"), json.loads((folder / "result.json").read_text())]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def finish(folder: Path, recipe: str = "sft") -> None:
    process = start(recipe, folder)
    process.join(120)
    assert process.exitcode == 0, (folder / "log.txt").read_text()[-2000:]


def test_a_checkpoint_is_no_checkpoint_any_more_before_it_is_deleted(tmp_path):
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / COMPLETE).touch()
    unmark(tmp_path, limit=2)  # the one that is written now, and one more
    assert [path.parent.name for path in tmp_path.glob(f"*/{COMPLETE}")] == ["checkpoint-12"]
    unmark(tmp_path, limit=None)
    assert [path.parent.name for path in tmp_path.glob(f"*/{COMPLETE}")] == ["checkpoint-12"]


def same(one: Path, other: Path) -> bool:
    """Whether two jobs have left the same weights."""
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", METHODS)
def test_kills_at_random_steps_of_any_recipe_change_nothing(recipe, tmp_path):
    """Steps that are drawn anew each time, and a random moment of the step that follows each."""
    whole, cut, seed = tmp_path / "whole", tmp_path / "cut", randrange(10**6)
    for folder in (whole, cut):
        asks = SHORT | SETTINGS.get(recipe, {})
        asks |= {"model": spoken(folder / "start", MARKS)} if recipe == "chat" else {}
        with_rows(folder, SHAPED[recipe][:FEW], **asks)
    finish(whole, recipe)
    lines = [line for line in read_lines(whole / "metrics.jsonl") if "loss" in line]
    draw, pace = Random(seed), (lines[-1]["at"] - lines[0]["at"]) / (len(lines) - 1)
    steps = sorted(draw.sample(range(1, SHORT["max_steps"]), KILLS))
    for step in steps:
        assert killed(cut, reached(step), draw.uniform(0, pace), recipe), (seed, step)
    finish(cut, recipe)
    said = f"{recipe}, killed at the steps {steps} (seed {seed})"
    assert left(cut) == left(whole), said
    assert same(cut, whole), said


@pytest.mark.slow
def test_kills_at_the_worst_moments_change_nothing(tmp_path):
    draw, whole, cut = Random(5), tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        with_rows(folder, ROWS, **SMALL | JOB)
    finish(whole)
    for _ in range(4):  # while it loads, and in the probe
        killed(cut, begun, draw.uniform(0, 1))
    assert sum(killed(cut, half_saved, draw.uniform(0, 0.004)) for _ in range(5))  # early: there are saves to come
    tries = (killed(cut, trained, draw.uniform(0, 0.02)) for _ in range(20))
    assert list(islice(filter(None, tries), 2)) == [True, True]
    finish(cut)
    assert json.loads((cut / "result.json").read_text())["resumed_from"] == STEPS
    assert left(cut) == left(whole)
    assert same(cut, whole)
