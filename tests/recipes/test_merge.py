"""An adapter's checkpoint becomes the very model that its job would have left, or nothing: never half of one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from typing import Any

import pytest
from safetensors.numpy import load_file

from recipes.seal import file_hash
from tests.recipes.rig import ROOT, STARTER, run, sft_rows

ROOM = 2**34  # bytes that are said to be free
SHORT = {"max_steps": 3, "save_steps": 3, "batch_size": 8, "lora_rank": 4, "warmup_steps": 1, "lr": 1e-2}


def rows_of(recipe: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = list(sft_rows(40))
    if recipe == "reward":
        return [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "Answer: 0"} for row in rows]
    if recipe == "prm":
        texts = [(row["prompt"], row["completion"].split(", ")) for row in rows]
        return [
            {"prompt": p, "steps": steps, "labels": [at % 2 == 0 for at in range(len(steps))]} for p, steps in texts
        ]
    return rows


def adapter(folder: Path, recipe: str = "sft", **more: Any) -> Path:
    """A job's folder with its own model as `own`, and what its last checkpoint has of the adapter."""
    run(recipe, folder, rows_of(recipe), **SHORT | more)
    (folder / "model").rename(folder / "own")
    left = shutil.ignore_patterns(
        "optimizer*", "scheduler*", "rng_state*", "trainer_state*", "training_args*", "complete"
    )
    shutil.copytree(folder / "checkpoints" / "checkpoint-3", folder / "adapter", ignore=left)
    return folder


def merge(folder: Path, limit: int | None = None, **settings: Any) -> subprocess.CompletedProcess:
    asked = {"recipe": "sft", "model": str(STARTER), "half": False, "memory": ROOM} | settings
    command = [sys.executable, "-m", "recipes.merge", str(folder), json.dumps(asked)]
    small = (lambda: setrlimit(RLIMIT_FSIZE, (limit, limit))) if limit else None
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, preexec_fn=small)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["sft", "reward", "prm"])
def test_what_is_merged_is_what_the_job_leaves_that_ends_there(recipe, tmp_path):
    folder = adapter(tmp_path, recipe)
    done = merge(folder, recipe=recipe)
    assert done.returncode == 0, done.stderr
    made, own = folder / "model", folder / "own"
    assert sorted(path.name for path in made.iterdir()) == sorted(path.name for path in own.iterdir())
    same = [path.name for path in own.iterdir() if file_hash(path) == file_hash(made / path.name)]
    assert {path.name for path in own.iterdir()} - set(same) <= {"model.safetensors", "config.json"}
    its, ours = (json.loads((place / "config.json").read_text()) for place in (own, made))
    assert its | {"use_cache": True} == ours  # a trainer turns it off, for itself
    ours, its = load_file(made / "model.safetensors"), load_file(own / "model.safetensors")
    assert ours.keys() == its.keys()
    assert max(abs(ours[name] - its[name]).max() for name in its) < 1e-6
    base = load_file(STARTER / "model.safetensors")
    assert any(abs(ours[name] - base[name]).max() > 1e-4 for name in base if name in ours)  # it has learned


@pytest.mark.slow
def test_a_merge_that_cannot_be_says_why_and_leaves_no_model(tmp_path):
    folder = adapter(tmp_path)
    for given, why in (
        ({"memory": 1000}, "of memory, and 0.0 GiB are free."),
        ({"model": str(tmp_path / "nowhere")}, "nowhere"),
        ({"limit": 2**16}, "File too large"),
    ):
        done = merge(folder, **given)
        assert done.returncode and why in done.stderr.strip().splitlines()[-1], done.stderr
        assert not (folder / "model").exists() and not (folder / ".model.tmp").exists()
    assert merge(folder).returncode == 0
    assert os.listdir(folder / "model")
