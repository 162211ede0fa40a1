"""A job's folder is its trainer's to write, and a workspace the agent's: no link or pipe in them leads or holds a worker."""

import json
import os
from pathlib import Path

import pytest

from lab.backend import JobSpec, read_json, read_points, write_json
from lab.backends.local import LocalBackend
from lab.backends.runner import run_file
from lab.checkpoint import keep_best
from lab.tasks import write_rows
from recipes.training import COMPLETE
from record.events import Launched
from tests.conftest import until
from tests.scripted import open_lab

SECRET = '{"ok": true, "step": 1, "held": "what is kept in the vault"}\n'
MADE = {
    "link": lambda path, secret: path.symlink_to(secret),
    "pipe": lambda path, secret: os.mkfifo(path),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "vault" / "heldout.jsonl"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def job_of(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions" / "s" / "jobs" / "sft-1"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", MADE)
def test_what_is_no_file_of_the_jobs_own_is_not_read(tmp_path: Path, settings, secret: Path, kind: str):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    for name in ("log.txt", "metrics.jsonl", "result.json"):
        MADE[kind](folder / name, secret)
    assert backend.log_tail(folder) == ""
    assert backend.metrics(folder, 0) == ([], 0)
    assert backend.result(folder) == {}


def test_a_second_attempt_writes_through_no_link_of_the_first(tmp_path: Path, settings, secret: Path):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    for name in ("log.txt", ".launch", "cancel", ".job.json.tmp", ".run.json.tmp", ".exit.json.tmp", ".place.json.tmp"):
        (folder / name).symlink_to(secret)
    spec = JobSpec("sft-1", "sft", {"model": "nowhere", "data": "nothing"}, folder, attempt=2)
    backend.launch(spec)
    until(lambda: backend.state(folder).ended)
    assert secret.read_text() == SECRET
    assert backend.state(folder).state == "failed" and "nothing" in backend.log_tail(folder)


def test_a_trainer_may_read_the_model_of_another_job_as_its_teacher(tmp_path: Path, settings):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    teacher = folder.parent / "sft-7" / "model"
    backend.launch(
        JobSpec("sft-1", "distill", {"model": "nowhere", "data": "nothing", "teacher": str(teacher)}, folder)
    )
    runner = read_json(run_file(folder))["runner"][0]
    assert f"r{teacher}".encode() in Path(f"/proc/{runner}/cmdline").read_bytes().split(b"\0")
    backend.cancel(folder)


def test_what_the_lab_writes_beside_an_agents_files_goes_through_no_link(tmp_path: Path, secret: Path):
    for write, name in (
        (lambda path: write_rows(path, [{"a": 1}]), "rows.jsonl"),
        (lambda path: write_json(path, {}), "x"),
    ):
        (tmp_path / f".{name}.tmp").symlink_to(secret)
        write(tmp_path / name)
        assert secret.read_text() == SECRET and not (tmp_path / name).is_symlink()


@pytest.mark.parametrize("place", ["checkpoints/checkpoint-5/more", "checkpoints/checkpoint-5", "checkpoints"])
def test_a_kept_checkpoint_brings_nothing_from_elsewhere(tmp_path: Path, secret: Path, place: str):
    folder, elsewhere = job_of(tmp_path), tmp_path / "vault"
    for made in (elsewhere, elsewhere / "checkpoint-5"):
        made.mkdir(exist_ok=True)
        for name in ("config.json", COMPLETE, "held.json"):
            (made / name).write_text(SECRET)
    link = folder / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    if place.endswith("more"):
        for name in ("config.json", COMPLETE):
            (link.parent / name).write_text("its own")
    kept = keep_best(folder, [])
    assert kept == (5 if place.endswith("more") else None)
    assert not [path for path in folder.rglob("*") if path.is_file() and SECRET in path.read_text()]


def test_a_line_that_is_no_metrics_is_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 2, "loss": 1.5}\n{"step": 3, "los\n[]\n{"step": "x"}\n{"loss": 1}\n\n{"step": 4, "loss": "nan"}\n{"st'
    )
    points, offset = read_points(path, 0)
    assert [point.step for point in points] == [2, 4]
    assert path.read_text()[offset:] == '{"st'


def test_a_job_that_cannot_be_judged_leaves_no_other_unwatched(settings, new_session):
    lab, supervisor, journal = open_lab(settings, new_session()[0])
    for job in ("sft-1", "sft-2"):
        folder = lab.folder / "jobs" / job
        folder.mkdir(parents=True)
        write_json(folder / "job.json", {"attempt": 1})
        write_json(folder / "exit.json", {"state": "done", "seconds": 1.0})
        journal.append(Launched(job=job, recipe="sft", config={}, machine="m", hours=0.1, folder=f"jobs/{job}"))
    broken = lab.folder / "jobs" / "sft-1" / "preflight.json"  # its trainer's to write
    write_json(broken, {"masked_share": "all"})  # no rule can compare it
    supervisor.tick()
    assert [job.state for job in journal.views.jobs.values()] == ["running", "done"]


def test_json_that_is_none_says_nothing(tmp_path: Path):
    for text in ("", "{", "[1]", "\ufffd"):
        (tmp_path / "result.json").write_text(text)
        assert read_json(tmp_path / "result.json") == {}
    write_json(tmp_path / "result.json", {"a": 1})
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": 1}
