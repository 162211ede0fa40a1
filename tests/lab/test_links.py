"""A job's folder is its trainer's to write, and a workspace the agent's: no link or pipe in them leads or holds a worker."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.backend import JobSpec, read_json, read_points, write_json
from lab.backends.folder import log_tail, metrics, result
from lab.backends.local import LocalBackend
from lab.backends.runner import _unwanted, run_file
from lab.checkpoint import _link_files, keep_best
from lab.processes import identity
from lab.tasks import write_rows
from recipes.recorder import COMPLETE
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
    folder = job_of(tmp_path)
    for name in ("log.txt", "metrics.jsonl", "result.json"):
        MADE[kind](folder / name, secret)
    assert log_tail(folder) == ""
    assert metrics(folder, 0) == ([], 0)
    assert result(folder) == {}


def test_a_second_attempt_writes_through_no_link_of_the_first(tmp_path: Path, settings, secret: Path):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    for name in ("log.txt", ".job.json.tmp", ".run.json.tmp", ".exit.json.tmp", ".place.json.tmp"):
        (folder / name).symlink_to(secret)
    for name in (".config.json.tmp", "exit.json", "job.json"):
        (folder / name / "full").mkdir(parents=True)
    spec = JobSpec("sft-1", "sft", {"model": "nowhere", "data": "nothing"}, folder, attempt=2)
    backend.launch(spec)
    until(lambda: backend.state(folder).ended)
    assert secret.read_text() == SECRET
    assert backend.state(folder).state == "failed" and "nothing" in log_tail(folder)


def test_a_trainer_cannot_take_its_cancel_back(tmp_path: Path, settings):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    write_json(folder / "job.json", {"attempt": 1})
    assert not _unwanted(folder)
    (folder / "cancel").symlink_to("nowhere")
    backend.cancel(folder)
    (folder / "cancel").unlink(missing_ok=True)
    assert _unwanted(folder) and backend.state(folder).state == "cancelled"


def test_a_trainer_may_read_the_model_of_another_job_as_its_teacher(tmp_path: Path, settings):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    teacher = folder.parent / "sft-7" / "model"
    backend.launch(
        JobSpec("sft-1", "distill", {"model": "nowhere", "data": "nothing", "teacher": str(teacher)}, folder)
    )
    runner = read_json(run_file(folder))["runner"][0]
    command = Path(f"/proc/{runner}/cmdline")
    until(command.read_bytes)  # the kernel lets a parent go on before the child's arguments are there
    assert f"r{teacher}".encode() in command.read_bytes().split(b"\0")
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


DEEP = "[" * 100_000
FORGED = {
    "preflight.json": ['{"masked_share": "all"}', '{"answers": {}}', '{"fitted": 1}', DEEP],
    "result.json": ['{"error": {"a": 1}}', '{"error": 5}', DEEP, '{"a":' * 400 + "1" + "}" * 400],
    "metrics.jsonl": [f'{{"step": 1{"0" * 400}, "loss": 1}}\n', f'{{"step": 1, "steps": 1{"0" * 400}}}\n', DEEP + "\n"],
}


@pytest.mark.parametrize("name", FORGED)
def test_whatever_a_trainer_has_written_its_job_ends(settings, new_session, name: str):
    lab, supervisor, journal = open_lab(settings, new_session()[0])
    supervisor._stop.set()  # or it pauses after each failure
    for count, text in enumerate(FORGED[name]):
        job = f"sft-{count}"
        folder = ended(lab.folder / "jobs" / job, {"state": "failed", "seconds": 1.0})
        (folder / name).write_text(text)
        journal.append(Launched(job=job, recipe="sft", config={}, machine="m", hours=0.1, folder=f"jobs/{job}"))
    supervisor.tick()
    assert {job.state for job in journal.views.jobs.values()} == {"failed"}


def ended(folder: Path, ending: dict) -> Path:
    """The folder of a job that has ended while nobody looked."""
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"attempt": 1})
    write_json(folder / "exit.json", ending)
    return folder


def test_a_job_that_the_disk_refuses_can_still_be_cancelled(settings, new_session):
    lab, supervisor, journal = open_lab(settings, new_session()[0])
    (lab.folder / "jobs" / "sft-1").touch()
    journal.append(Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=0.1, folder="jobs/sft-1"))
    supervisor.tick()
    assert journal.views.jobs["sft-1"].running  # there may be room later
    lab.cancel_all()
    supervisor.tick()
    assert journal.views.jobs["sft-1"].state == "cancelled"


def test_what_a_job_took_is_what_its_runner_says_and_no_more_than_has_passed(tmp_path: Path):
    backend = LocalBackend(tmp_path / "queue", {})
    for count, (run, forged, seconds) in enumerate((
        ({"started": time.time() - 60, "seconds": 50.0}, 0.0, 50.0),
        ({"started": time.time() + 60, "seconds": 50.0}, 50.0, 50.0),  # the clock was put back
        ({"started": time.time() - 60}, 1e300, 0.0),  # its runner died, and nothing moved since its start
        ({"started": time.time() - 60}, 40.0, 40.0),
    )):  # fmt: skip
        folder = ended(tmp_path / str(count), {"state": "done", "seconds": forged})
        write_json(run_file(folder), run)
        os.utime(run_file(folder), (run["started"], run["started"]))
        assert backend.state(folder).seconds == pytest.approx(seconds, abs=0.1)
        assert (backend.state(folder).state == "done") == (forged < 1e9)
    me = {"runner": identity(os.getpid()), "started": time.time() - 60}
    write_json(run_file(folder), me)
    (folder / "job.json").unlink()
    assert backend.state(folder).seconds == pytest.approx(60, abs=1)


def test_a_job_that_runs_is_not_started_again_whatever_its_folder_says(tmp_path: Path, settings):
    folder, backend = job_of(tmp_path), LocalBackend(settings.home / "queue", settings.job_env)
    write_json(folder / "job.json", {"attempt": 7, "queue": str(tmp_path / "queue"), "hours": 1.0})
    write_json(run_file(folder), {"runner": identity(os.getpid())})
    with open(folder / ".launch", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        backend.launch(JobSpec("sft-1", "sft", {"model": "nowhere", "data": "nothing"}, folder))
    late = [sys.executable, "-m", "lab.backends.runner", str(folder), "touch", str(folder / "trained")]
    subprocess.run(late, timeout=30, check=True)  # whoever started it died before it could say so
    assert read_json(run_file(folder)) == {"runner": identity(os.getpid())}
    assert not (folder / "trained").exists() and not (folder / "exit.json").exists()


def test_json_that_is_none_says_nothing(tmp_path: Path):
    for text in ("", "{", "[1]", "\ufffd"):
        (tmp_path / "result.json").write_text(text)
        assert read_json(tmp_path / "result.json") == {}
    write_json(tmp_path / "result.json", {"a": 1})
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": 1}


def test_a_kept_checkpoint_goes_nowhere_else_when_its_trainer_moves_the_draft(tmp_path: Path):
    checkpoint, elsewhere, draft = tmp_path / "checkpoint-5", tmp_path / "elsewhere", tmp_path / ".kept.tmp"
    for made in (checkpoint, elsewhere):
        made.mkdir()
    (checkpoint / "config.json").write_text("{}")
    draft.symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"\.kept\.tmp"):
        _link_files(checkpoint, draft)
    assert not list(elsewhere.iterdir())
