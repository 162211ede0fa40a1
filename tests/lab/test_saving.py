"""A job that is ended from outside leaves what it can go on from."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.backend import read_json, write_json
from lab.backends.runner import _watch, cancel_file
from lab.checkpoint import whole
from recipes.job import read_lines
from tests.conftest import until
from tests.recipes.rig import ROOT, sft_folder, start

SAVES = "trap 'sleep 2; touch saved; exit 143' TERM; touch ready; while :; do sleep 0.1; done"
RUNNER = """
import sys
from pathlib import Path
from lab.backends import runner
from recipes import grace
grace.SHORTEST = 0.2
runner.main(Path(sys.argv[1]), sys.argv[2:])
"""


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
@pytest.mark.parametrize("size", [10**8, 0], ids=["large", "small"])
def test_a_larger_model_has_more_time_to_save(tmp_path: Path, how: str, size: int):
    """100 MB of weights have 6 s, of which this one takes two; one of nothing has a fifth of a second here."""
    folder, model = tmp_path / "job", tmp_path / "model"
    for made in (folder, model):
        made.mkdir()
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(size)
    write_json(folder / "config.json", {"model": str(model)})
    job = {"queue": str(tmp_path / "queue"), "device": "cpu", "hours": 1 if how == "cancelled" else 1 / 3600}
    write_json(folder / "job.json", job)
    command = [sys.executable, "-c", RUNNER, str(folder), "sh", "-c", SAVES]
    runner = subprocess.Popen(command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    if how == "cancelled":
        until((folder / "ready").exists, 30)
        cancel_file(folder).touch()
    runner.wait(30)
    assert read_json(folder / "exit.json")["state"] == how
    assert (folder / "saved").exists() == bool(size)


@pytest.mark.slow
def test_a_job_past_its_hours_leaves_a_complete_checkpoint(tmp_path: Path):
    write_json(tmp_path / "job.json", {})
    trainer = start("sft", sft_folder(tmp_path, max_steps=5000, save_steps=5000))
    until(lambda: read_lines(tmp_path / "metrics.jsonl"), 120)
    assert _watch(tmp_path, trainer, time.time(), 0) == "timeout"
    assert trainer.wait() == 143 and json.loads((tmp_path / "result.json").read_text())["kind"] == "stopped"
    ((step, saved),) = whole(tmp_path).items()
    assert step > 0 and (saved / "optimizer.pt").exists()
