"""A failure is kept as a predicate on settings, and every later job is put to it."""

import json
from pathlib import Path

import pytest

from lab import guards
from lab.errors import Refused
from lab.machine import this_machine
from lab.tasks import read_rows, rows_hash
from record.events import Ended, Found
from record.views import Job
from tests.scripted import open_lab

CONFIG = {"model": "m", "data": "d.jsonl", "data_sha256": "a", "batch_size": 64, "max_length": 512, "lr": 0.05}


def failed(
    folder: Path, rule: str, config: dict | None = None, name: str = "sft-1", recipe: str = "sft", **ended
) -> None:
    """A job of a session of the starter ends in a stop finding of this rule, or in a crash."""
    stop = Found(rule=rule, level="stop", what="It saw this.", advice="Do that.")
    job = Job(name, recipe, config or CONFIG, "a T4", 1.0, "", f"jobs/{name}", "")
    over = {"job": name, "state": "failed", "seconds": 1.0, "reason": "KeyError: 'x'"} | ended
    guards.learn(folder, "starter", job, Ended.model_validate(over), [] if rule == "crash" else [stop])


def asked(folder: Path, machine: str = "a T4", base: str = "starter", recipe: str = "sft", **changes) -> dict[str, str]:
    found = guards.look(folder, guards.about(recipe, CONFIG | changes, base, machine))
    return {finding.rule: finding.level for finding in found}


@pytest.fixture
def session(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions" / "one"
    folder.mkdir(parents=True)
    return folder


def test_what_ran_out_of_memory_is_asked_of_jobs_that_need_as_much_on_this_machine(session):
    failed(session, "out_of_memory")
    memory = "failed_before_out_of_memory"
    other = session.with_name("two")  # every session of the person reads one list
    assert asked(other, seed=7, eval_steps=9) == {memory: "stop"}  # the same job, whatever its seed
    assert asked(other, batch_size=128, data_sha256="b") == {memory: "warn"}
    assert asked(other, batch_size=64, max_length=511) == {}
    assert asked(other, batch_size=32, grad_accumulation=2) == {}
    assert asked(other, gradient_checkpointing=True) == {}
    assert asked(other, lora_rank=8) == {}
    assert asked(other, machine="an H200") == {} == asked(other, base="org/larger")


def test_a_job_that_needs_as_much_knows_where_it_has_starved(session):
    failed(session, "out_of_memory")
    failed(session, "out_of_memory", CONFIG | {"max_length": None}, "sft-2")

    def starved(**changes) -> set[str]:
        return guards.starved(session.with_name("two"), guards.about("sft", CONFIG | changes, "starter", "an H200"))

    assert starved(seed=7) == starved(batch_size=128, data_sha256="b") == starved(max_length=None) == {"a T4"}
    assert starved(max_length=None, data_sha256="b", batch_size=32) == set()  # other rows may be short ones
    assert starved(batch_size=32, grad_accumulation=2) == set() == starved(gradient_checkpointing=True)
    failed(session, "divergence", name="sft-3")
    assert starved(max_length=None, lr=0.9) == {"a T4"}  # and of nothing else


def test_what_diverged_is_asked_of_jobs_with_such_a_learning_rate(session):
    failed(session, "divergence")
    assert asked(session, lr=0.06, batch_size=8, data_sha256="b", machine="an H200") == {
        "failed_before_divergence": "warn"
    }
    assert asked(session, lr=0.049) == {} == asked(session, recipe="cpt", lr=0.06)
    (found,) = guards.look(session, guards.about("sft", CONFIG | {"lr": 0.06}, "starter", "a T4"))
    assert found.what == "A job like this (lr = 0.06) has failed before, as sft-1 of one: It saw this."


def test_what_is_in_the_rows_is_asked_of_the_same_job_alone(session):
    failed(session, "crash", result={"kind": "crash"})
    failed(session, "all_masked", CONFIG | {"data_sha256": "b"}, "sft-2")
    assert asked(session, seed=3) == {"failed_before_crash": "warn"}
    assert asked(session, data_sha256="b") == {"failed_before_all_masked": "warn"}
    assert asked(session, data_sha256="c") == {} == asked(session, lr=0.04)


def test_only_what_the_settings_explain_is_kept_and_once(session):
    failed(session, "frozen")
    failed(session, "divergence", state="cancelled")
    failed(session, "crash", result={"kind": "stopped"})
    failed(session, "divergence", recipe="evaluate", name="evaluate-1")
    failed(session, "crash", result={"kind": "crash"}, reason="\ud800")  # a trainer may say it, and no file can hold it
    kept = session.parent.parent / "guards.jsonl"
    assert not kept.exists()
    for name in ("sft-1", "sft-1", "sft-2"):  # a supervisor that died says it again; another job adds nothing
        failed(session, "divergence", name=name)
    assert len(kept.read_text().splitlines()) == 1
    kept.write_text(kept.read_text().strip() + "\n{torn")  # as a person leaves it
    failed(session, "not_finite", name="sft-3")
    assert asked(session) == {"failed_before_divergence": "warn", "failed_before_not_finite": "warn"}
    kept.write_text("")
    assert asked(session) == {}


def test_a_launch_is_put_to_the_guards_of_other_sessions(settings, new_session):
    first, second = (open_lab(settings, new_session()[0])[0] for _ in range(2))
    second.prepare("rows", "task", 50, 0.5)
    full = second.checked("sft", {"data": "data/rows.jsonl"})
    full["data_sha256"] = rows_hash(read_rows(Path(full["data"])))
    job = Job("sft-9", "sft", full, this_machine(), 1.0, "", "jobs/sft-9", "")
    stop = Found(rule="out_of_memory", level="stop", what="It failed.", advice="Use less.")
    guards.learn(first.folder, "starter", job, Ended(job="sft-9", state="failed", seconds=1.0), [stop])
    with pytest.raises(Refused, match=rf"The same job has failed before, as sft-9 of {first.folder.name}: It failed"):
        second.train("sft", {"data": "data/rows.jsonl"}, 1.0, "", "c1", gain=0.1)
    assert json.loads((settings.home / "guards.jsonl").read_text())["session"] == first.folder.name
