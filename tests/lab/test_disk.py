"""What a session keeps on the disk, and what goes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from agent import settings as env
from agent.settings import SettingsError
from lab import disk
from lab.backend import write_json
from lab.checkpoint import spare
from lab.errors import NotThere
from lab.lab import Lab
from lab.reach import scratch
from lab.supervisor import Supervisor
from recipes.recorder import COMPLETE
from record.events import Call, Ended, Found, Launched, Promoted, Replied
from record.journal import Journal
from tests.scripted import open_lab

MIB = 2**20


def trained(lab: Lab, journal: Journal, job: str, verdict: str = "", mib: int = 4, **config: str) -> Path:
    """A job that is over, with a model, three checkpoints of its size (hard links to it) and all else that stays."""
    folder = lab.folder / "jobs" / job
    for made in (folder / "model", folder / ".home", scratch(folder)):
        made.mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(os.urandom(mib * MIB))
    write_json(folder / "model" / "config.json", {})
    for step in (5, 10, 15):
        checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / COMPLETE).touch()
        os.link(folder / "model" / "model.safetensors", checkpoint / "model.safetensors")
    for name in ("result.json", "items.jsonl", "log.txt"):
        (folder / name).write_text("{}")
    rows = [{"step": step, "at": 1.0, "eval_loss": loss} for step, loss in ((5, 1.0), (10, 3.0), (15, 2.0))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    launched = Launched(job=job, recipe="sft", config=config, machine="m", hours=1.0, folder=f"jobs/{job}")
    journal.append(launched, Ended(job=job, state="done", seconds=1.0))
    if verdict:
        journal.append(Promoted(model=job, verdict=verdict, against="base", reason="r"))  # pyright: ignore[reportArgumentType]
    return folder


def opened(settings, new_session, quota: int | None) -> tuple[Lab, Supervisor, Journal]:
    lab, _, journal = open_lab(settings, new_session()[0])
    return lab, Supervisor(lab.log, lab.folder, lab._backend, settings.job_env, quota), journal


def weights(lab: Lab) -> list[str]:
    return sorted(path.parent.parent.name for path in lab.folder.glob("jobs/*/model/model.safetensors"))


def test_an_ended_job_keeps_no_scratch_and_a_judged_one_its_best_and_last_checkpoint(settings, new_session):
    lab, supervisor, journal = opened(settings, new_session, None)
    judged, other = trained(lab, journal, "sft-1", "discard"), trained(lab, journal, "sft-2")
    supervisor.tick()
    assert sorted(path.name for path in (judged / "checkpoints").iterdir()) == ["checkpoint-15", "checkpoint-5"]
    assert len(list((other / "checkpoints").iterdir())) == 3
    for folder in (judged, other):
        assert not (folder / ".home").exists() and not scratch(folder).exists()
        assert {path.name for path in folder.iterdir() if path.is_file()} == {
            "result.json", "items.jsonl", "log.txt", "metrics.jsonl",
        }  # fmt: skip
    assert weights(lab) == ["sft-1", "sft-2"] and not journal.views.findings


def test_over_the_quota_the_oldest_discarded_models_go_and_it_is_said(settings, new_session):
    lab, supervisor, journal = opened(settings, new_session, 13 * MIB)
    for job, verdict in (("sft-1", "keep"), ("sft-2", "discard"), ("sft-3", "keep"), ("sft-4", "discard")):
        trained(lab, journal, job, verdict)
    supervisor.tick()
    assert weights(lab) == ["sft-1", "sft-3", "sft-4"]
    (said,) = journal.views.findings
    assert (said.rule, said.level, said.job) == (disk.REMOVED, "info", "sft-2")
    assert "sft-2 (discard) was removed: the session was 3 MiB over its disk quota" in said.what
    assert (lab.folder / "jobs" / "sft-2" / "items.jsonl").exists()
    with pytest.raises(NotThere, match="The model of sft-2 was discarded, and removed to make room; train it again"):
        lab.model_path("sft-2")
    supervisor.tick()
    assert len(journal.views.findings) == 1


def test_a_model_that_was_said_to_go_goes_and_is_not_said_to_go_twice(settings, new_session):
    lab, supervisor, journal = opened(settings, new_session, MIB)
    folder = trained(lab, journal, "sft-1", "discard")
    journal.append(Found(rule=disk.REMOVED, level="info", what="w", advice="a", job="sft-1"))  # and then it was killed
    supervisor.tick()
    assert weights(lab) == [] and (folder / "items.jsonl").exists()
    assert [found.rule for found in journal.views.findings] == [disk.REMOVED]


def test_what_somebody_uses_stays_and_a_quota_that_cannot_be_kept_is_said_once(settings, new_session):
    lab, supervisor, journal = opened(settings, new_session, MIB)
    trained(lab, journal, "sft-1", "keep")
    read = trained(lab, journal, "sft-2", "discard")
    trained(lab, journal, "sft-3", "discard")
    trained(lab, journal, "sft-4")
    trained(lab, journal, "sft-5", "discard")
    config = {"teacher": str(read / "model")}
    call = Call(id="c", name="sweep", arguments={"recipe": "sft", "config": {"model": "sft-3"}})
    second = Launched(job="distill-1", recipe="distill", config=config, machine="m", hours=1.0, folder="jobs/distill-1")
    journal.append(Replied(model="m", calls=(call,)), second)
    supervisor._tidy()
    supervisor._tidied = (0, 0)
    supervisor._tidy()
    assert weights(lab) == ["sft-1", "sft-2", "sft-3", "sft-4"]
    assert [(found.rule, found.job) for found in journal.views.findings] == [(disk.REMOVED, "sft-5"), (disk.FULL, None)]


def test_a_file_with_two_names_counts_once_and_a_quota_of_none_is_half_of_the_room(settings, new_session):
    lab, _, journal = opened(settings, new_session, None)
    trained(lab, journal, "sft-1")
    used, free = disk.size(lab.folder), shutil.disk_usage(lab.folder).free
    assert 4 * MIB <= used < 5 * MIB  # the model and its three checkpoints are one file
    assert disk._over(lab.folder, None) == pytest.approx((used - free) / 2, rel=0.1)


def test_what_a_trainer_links_to_is_not_deleted(tmp_path: Path):
    elsewhere, job = tmp_path / "elsewhere", tmp_path / "job"
    for step in range(5):
        (elsewhere / f"checkpoint-{step}").mkdir(parents=True)
        (elsewhere / f"checkpoint-{step}" / COMPLETE).touch()
    job.mkdir()
    for name in ("checkpoints", "model"):
        (job / name).symlink_to(elsewhere)
    assert spare(job) == []
    disk.forget(job)
    assert not list(job.iterdir()) and len(list(elsewhere.iterdir())) == 5
    (job / "checkpoints").mkdir()
    for step in range(5):
        (job / "checkpoints" / f"checkpoint-{step}").symlink_to(elsewhere / f"checkpoint-{step}")
    (job / "checkpoints" / "checkpoint-x").mkdir()
    for path in spare(job):
        disk.remove(path)
    assert sorted(path.name for path in (job / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-x"]
    assert all((elsewhere / f"checkpoint-{step}" / COMPLETE).exists() for step in range(5))


def test_the_quota_is_a_setting_in_gigabytes(tmp_path: Path):
    given = {"ML_INTERN_HOME": str(tmp_path)}
    assert env.read(given).disk is None and env.read(given | {"ML_INTERN_DISK": "5"}).disk == 5 * 10**9
    with pytest.raises(SettingsError, match="ML_INTERN_DISK is '0'; set it to a whole number from 1"):
        env.read(given | {"ML_INTERN_DISK": "0"})
