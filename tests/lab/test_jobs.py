"""Jobs on this machine, with the real recipe on the real starter model: launched, watched, cancelled, killed, queued."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from lab.backend import JobSpec, read_json, write_json
from lab.backends.folder import log_tail
from lab.backends.local import LocalBackend
from lab.backends.runner import holds_ticket, run_file
from lab.checkpoint import whole
from lab.errors import BadInput, NotThere, Refused
from lab.lab import Lab
from lab.processes import alive, identity, send
from lab.queue import Queue
from lab.reach import CLOSED, NETWORK
from lab.tasks import read_rows, write_rows
from recipes.seal import file_hash
from record.events import Ended, Launched, Progressed, Scored, Seal
from record.journal import Journal
from tests.conftest import begun, settings_at, until
from tests.lab.conftest import running_lab

SMALL = {"batch_size": 8, "max_length": 64, "log_steps": 2, "save_steps": 10, "eval_steps": 1000}


FAILS = Launched(  # in half a second, and says why
    job="sft-1", recipe="sft", config={"model": "nowhere", "data": "nothing"}, machine="m", hours=1, folder="jobs/sft-1"
)


def config(**changes) -> dict:
    return {"data": "data/rows.jsonl", "max_steps": 20, **SMALL, **changes}


def end_of(lab, job: str) -> dict:
    """Wait through findings to the job's end."""
    while (status := lab.wait(job, 120))["state"] == "running":
        pass
    return status


@dataclass
class Trained:
    """A job that is over."""

    lab: Lab
    journal: Journal
    jobs: list[str]  # as its launch and the repeated one name it
    rows: list[dict]  # as they were when it was launched
    status: dict


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Iterator[Trained]:
    """A job whose call came twice, whose rows were changed after its launch, and whose kill criterion names what never comes.

    Its machine keeps it off the network.
    """
    settings = settings_at(tmp_path_factory.mktemp("trained"))
    with running_lab(replace(settings, job_env=settings.job_env | {NETWORK: CLOSED})) as (lab, journal):
        kill = {"metric": "reward", "step": 2, "above": 1.0}
        jobs = [lab.train("sft", config(), 1.0, "an idea", "c1", gain=0.1, kill=kill)["job"] for _ in range(2)]
        rows = read_rows(lab.workspace.path("data/rows.jsonl"))
        lab.workspace.write("data/rows.jsonl", '{"prompt": "another", "completion": "file"}\n')
        yield Trained(lab, journal, jobs, rows, end_of(lab, jobs[0]))


@pytest.mark.slow
def test_a_job_is_launched_once_watched_to_its_end_and_its_curve_is_in_the_log(trained):
    status, facts = trained.status, list(trained.journal.log)
    assert trained.jobs == ["sft-1", "sft-1"]  # the same call, after a crash
    assert (status["state"], status["step"], status["steps"]) == ("done", 20, 20)
    assert sum(isinstance(f, Launched) for f in facts) == 1
    steps = [f.step for f in facts if isinstance(f, Progressed) and "loss" in f.values]
    assert steps == [1, *range(2, 21, 2)]
    assert (trained.lab.model_path("sft-1") / "config.json").exists()


@pytest.mark.slow
def test_what_is_kept_off_the_network_trains_all_the_same(trained):
    assert trained.lab.workspace.run("echo $ML_INTERN_NETWORK $HF_HUB_OFFLINE", 10).text == "none 1\n"
    assert trained.status["state"] == "done"


def test_what_was_checked_is_what_is_trained_on(trained):
    made = trained.journal.views.jobs["sft-1"].config
    assert Path(made["data"]).parent == trained.lab.folder / "jobs" / "sft-1"
    assert file_hash(made["data"]) == made["data_sha256"]
    assert read_rows(Path(made["data"])) == trained.rows != read_rows(trained.lab.workspace.path("data/rows.jsonl"))


def test_a_kill_criterion_that_was_never_tested_is_a_warning_at_the_end(trained):
    (said,) = [f for f in trained.status["findings"] if f["rule"] == "kill criterion"]
    assert trained.status["state"] == "done" and said["level"] == "warn"
    assert "No reward came at or after step 2" in said["what"] and "loss" in said["advice"]


def test_held_out_items_judge_only_the_base_and_the_best(trained):
    with pytest.raises(Refused, match="not the best model"):
        trained.lab.measure("sft-1", "heldout", "c2")
    assert not [j for j in trained.journal.views.jobs.values() if j.recipe == "evaluate"]


@pytest.mark.slow
def test_another_recipe_runs_on_the_same_rows_with_the_sessions_task_for_its_reward(lab_of):
    lab, journal = lab_of()
    job = lab.train("grpo", {"data": "data/rows.jsonl", "max_steps": 1, "batch_size": 16}, 1.0, "", "c1", gain=0.1)[
        "job"
    ]
    assert end_of(lab, job)["state"] == "done"
    assert journal.views.jobs[job].config["benchmark"] == "chains"
    assert journal.views.jobs[job].values["rewards/benchmark/mean"] == 0  # the starter knows no form
    with pytest.raises(NotThere, match="no job 'grpo-7'"):
        lab.train("distill", {"data": "data/rows.jsonl", "teacher": "grpo-7"}, 1.0, "", "c2", gain=0.1)


@pytest.mark.slow
def test_a_killed_trainer_is_found_and_goes_on_from_its_checkpoint(lab_of):
    lab, journal = lab_of()
    job = lab.train("sft", config(max_steps=60), 1.0, "an idea", call="c1", gain=0.1)["job"]
    folder = lab.folder / "jobs" / job
    until(lambda: journal.views.jobs[job].step >= 20)
    os.kill(read_json(run_file(folder))["trainer"][0], signal.SIGKILL)
    status = lab.wait(job, 120)  # comes back for the finding
    assert [f["rule"] for f in status["findings"]] == ["trainer_killed"]
    said = status["findings"][0]["advice"]
    status = lab.wait(job, 120)
    assert (status["state"], status["attempt"], status["step"]) == ("done", 2, 60)
    assert status["result"]["resumed_from"] in (10, 20, 30, 40, 50)
    assert f"from its last checkpoint, of step {status['result']['resumed_from']}." in said
    facts = list(journal.log)
    steps = [f.step for f in facts if isinstance(f, Progressed) and "loss" in f.values]
    assert steps == sorted(set(steps))  # no step twice
    assert [f.state for f in facts if isinstance(f, Ended)] == ["failed", "done"]


def test_a_cancelled_job_has_said_what_it_takes_and_leaves_a_checkpoint_and_a_job_past_its_hours_ends(lab_of):
    lab, journal = lab_of()
    job = lab.train("sft", config(max_steps=5000, save_steps=5000), 1.0, "an idea", call="c1", gain=0.1)["job"]
    until(lambda: journal.views.jobs[job].step)
    status = lab.cancel(job)
    assert status["state"] == "cancelled"
    first, *later = (f.measured for f in journal.log if isinstance(f, Progressed))
    assert first == status["measured"] and set(first) >= {"peak_mb", "usual_s", "eta_s"} and not any(later)
    assert list(whole(lab.folder / "jobs" / job)) >= [1]
    short = lab.train("sft", config(max_steps=5000), 2 / 3600, "an idea", call="c2", gain=0.1)["job"]
    assert end_of(lab, short)["state"] == "timeout"


@pytest.mark.slow
def test_a_diverging_run_is_stopped_with_its_finding(lab_of):
    lab, _ = lab_of()
    job = lab.train("sft", config(max_steps=400, lr=1e6, max_grad_norm=1e9), 1.0, "far too fast", call="c1", gain=0.1)[
        "job"
    ]
    status = end_of(lab, job)
    assert status["state"] == "failed"
    assert {f["rule"] for f in status["findings"] if f["level"] == "stop"} & {"not_finite", "divergence"}
    assert lab.promote(job, "")["verdict"] == "crash"


def test_what_cannot_work_is_refused_before_it_starts(lab_of):
    lab, journal = lab_of()
    with pytest.raises(BadInput, match="no recipe 'ppo' to train with; use one of sft, chat, dpo"):
        lab.train("ppo", config(), 1.0, "", "c1", gain=0.1)
    with pytest.raises(Refused, match="DPO needs the texts prompt, chosen and rejected"):
        lab.train("dpo", config(), 1.0, "", "c1", gain=0.1)
    with pytest.raises(BadInput, match="leads out"):
        lab.train("sft", config(data="../../vault/x"), 1.0, "", "c2", gain=0.1)
    lab.workspace.write("data/bad.jsonl", '{"question": "1 + 1", "completion": "2"}\n')
    with pytest.raises(Refused, match="question, completion"):
        lab.train("sft", config(data="data/bad.jsonl"), 1.0, "", "c3", gain=0.1)
    with pytest.raises(Refused, match="do not fit into max_length"):
        lab.train("sft", config(max_length=8), 1.0, "", "c4", gain=0.1)
    with pytest.raises(NotThere, match="no job 'sft-9'"):
        lab.wait("sft-9", 1)
    assert not journal.views.jobs


def test_items_of_the_evaluation_in_the_training_rows_refuse_the_launch(lab_of, settings):
    lab, journal = lab_of()
    held = (next(settings.vault.glob("chains-*")) / "heldout.jsonl").read_text().splitlines()[:5]
    questions = [line.split('"question": "')[1].split('"')[0] for line in held]
    rows = [f'{{"prompt": "Calculate {q}.", "completion": "Answer: 1"}}' for q in questions]
    lab.workspace.write("data/leak.jsonl", "\n".join(rows))
    with pytest.raises(Refused, match="5 of 5 rows contain an item of the evaluation"):
        lab.train("sft", config(data="data/leak.jsonl"), 1.0, "", "c1", gain=0.1)
    assert [f.rule for f in journal.views.findings if f.level == "stop"] == ["contaminated"]


def test_one_job_has_the_machine_and_the_next_waits_for_it(tmp_path: Path, settings, lab_of):
    lab, _ = lab_of()
    backend = LocalBackend(settings.home / "queue", settings.job_env)
    base = {"model": str(lab.model_path("base")), "data": str(lab.workspace.path("data/rows.jsonl")), **SMALL}
    specs = [JobSpec(f"j{i}", "sft", base | {"max_steps": 3000}, lab.folder / "jobs" / f"j{i}") for i in range(2)]
    for spec in specs:
        backend.launch(spec)
        time.sleep(0.5)
    first, second = (spec.folder for spec in specs)
    begun(first)
    assert (backend.state(first).state, backend.state(second).state) == ("running", "queued")
    until(lambda: backend.state(second).place == 1)
    backend.cancel(first)
    until(lambda: backend.state(second).state == "running")
    until(lambda: backend.state(first).state == "cancelled")  # its runner gives the machine back, and then it goes
    os.killpg(read_json(run_file(second))["runner"][0], signal.SIGKILL)
    until(lambda: backend.state(second).ended)
    assert (backend.state(second).state, backend.state(second).signal) == ("failed", signal.SIGKILL)


def test_a_job_that_ended_while_nobody_looked_is_not_run_again(tmp_path: Path, settings):
    backend = LocalBackend(settings.home / "queue", settings.job_env)
    spec = JobSpec("j", "sft", {"model": "nowhere", "data": "nothing"}, tmp_path / "j")
    backend.launch(spec)
    until(lambda: backend.state(spec.folder).ended)
    ended, stamp = backend.state(spec.folder), (spec.folder / "exit.json").stat().st_mtime_ns
    assert ended.state == "failed" and "nothing" in ended.reason
    until(lambda: not psutil.pid_exists(read_json(run_file(spec.folder))["runner"][0]), 5)  # and left no zombie
    backend.launch(spec)  # what a new worker does with every job that its log has no end of
    assert (backend.state(spec.folder), (spec.folder / "exit.json").stat().st_mtime_ns) == (ended, stamp)


def test_a_job_that_was_logged_and_never_started_is_started_by_the_supervisor(lab_of):
    lab, journal = lab_of()
    journal.append(FAILS)  # and then the process died, before it started anything
    status = end_of(lab, "sft-1")
    assert status["state"] == "failed" and "nothing cannot be read" in status["reason"]


def test_a_job_is_started_once_however_many_want_it_started(tmp_path: Path, settings):
    backend = LocalBackend(settings.home / "queue", settings.job_env)
    spec = JobSpec("j", "sft", {"model": "nowhere", "data": "nothing"}, tmp_path / "j")
    threads = [threading.Thread(target=backend.launch, args=(spec,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: backend.state(spec.folder).ended)
    assert log_tail(spec.folder).count("cannot be read") == 1


def test_a_job_whose_folder_is_deleted_ends_and_its_trainer_with_it(lab_of):
    lab, _ = lab_of()
    job = lab.train("sft", config(max_steps=5000), 1.0, "an idea", call="c1", gain=0.1)["job"]
    trainer = begun(lab.folder / "jobs" / job)
    os.kill(trainer[0], signal.SIGSTOP)  # by itself it would fail as soon as it needs its folder
    shutil.rmtree(lab.folder / "jobs" / job, ignore_errors=True)
    status = end_of(lab, job)
    assert (status["state"], "folder is gone" in status["reason"]) == ("failed", True)
    about = Path(f"/proc/{trainer[0]}/status")
    until(lambda: "\nShdPnd:\t0000000000004000" in about.read_text(), 30)  # SIGTERM waits for it (proc(5))
    os.kill(trainer[0], signal.SIGCONT)
    until(lambda: not alive(trainer), 30)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": -1}, "lr: Input should be greater than 0, not -1"),
        ({"lr": "fast"}, "lr: .*not 'fast'"),
        ({"lr": float("nan")}, "lr: Input should be a finite number"),
        ({"batch_size": 0}, "batch_size: .*not 0"),
        ({"learning_rate": 1e-3}, "learning_rate: Extra inputs are not permitted"),
    ],
)
def test_a_config_that_the_recipe_cannot_use_is_refused_before_the_launch(lab_of, changes, words):
    lab, journal = lab_of()
    with pytest.raises(BadInput, match=words):
        lab.train("sft", config(**changes), 1.0, "", "c1", gain=0.1)
    assert not journal.views.jobs


def test_a_number_written_as_text_is_the_number(lab_of):
    lab, journal = lab_of()
    job = lab.train("sft", config(lr="1e-3", max_steps=2), 1.0, "", "c1", gain=0.1)["job"]
    assert journal.views.jobs[job].config["lr"] == 1e-3


def test_waiting_in_the_queue_is_no_run_time(lab_of):
    lab, journal = lab_of()
    first = lab.train("sft", config(max_steps=5000), 0.1, "", "c1", gain=0.1)["job"]
    until(lambda: journal.views.jobs[first].place == 0)
    second = lab.train("sft", config(max_steps=5000), 0.1, "", "c2", gain=0.1)["job"]
    until(lambda: journal.views.jobs[second].place == 1)
    views, later = journal.views, datetime.now(UTC) + timedelta(hours=5)
    alone = (later - views.jobs[first].began).total_seconds()
    assert views.job_seconds(later) == pytest.approx(alone)
    lab.cancel(first)
    until(lambda: journal.views.jobs[second].place == 0)


def test_a_stop_finding_of_the_last_tick_makes_the_job_a_failed_one(lab_of):
    """A run that is over before anybody looks has its NaN found only with its end."""
    lab, journal = lab_of()
    folder = lab.folder / "jobs" / "sft-1"
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"job": "sft-1", "recipe": "sft", "hours": 1.0, "attempt": 1})
    write_json(folder / "exit.json", {"state": "done", "code": 0, "seconds": 3.0})
    write_json(folder / "result.json", {"ok": True})
    lines = [{"step": step, "steps": 3, "at": 100.0 + step, "loss": "nan", "grad_norm": "nan"} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    journal.append(Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1.0, folder="jobs/sft-1"))
    until(lambda: journal.views.jobs["sft-1"].ended)
    assert journal.views.jobs["sft-1"].ended.state == "failed"


def test_a_job_cancelled_after_its_runner_died_counts_as_cancelled(lab_of):
    lab, _ = lab_of()
    job = lab.train("sft", config(max_steps=5000), 1.0, "", "c1", gain=0.1)["job"]
    begun(lab.folder / "jobs" / job)
    os.kill(read_json(run_file(lab.folder / "jobs" / job))["runner"][0], signal.SIGKILL)
    assert lab.cancel(job)["state"] == "cancelled"


def test_a_job_is_not_launched_into_time_that_another_may_still_use(lab_of):
    lab, journal = lab_of()  # a session of one hour
    lab.train("sft", config(max_steps=5000), 1.0, "", "c1", gain=0.1)
    with pytest.raises(Refused, match=r"may still be used by other jobs\. Wait for the other jobs"):
        lab.train("sft", config(max_steps=2), 1.0, "", "c2", gain=0.1)
    assert list(journal.views.jobs) == ["sft-1"]


@pytest.mark.parametrize(
    ("gain", "kill", "words"),
    [
        (5, None, "expected gain is 5; .* from -1 to 1"),
        (float("nan"), None, "expected gain is nan"),
        (0.1, {"metric": "eval_loss", "step": 0, "above": 2}, "give it like"),
        (0.1, {"metric": "eval_loss", "step": 5}, "give it like"),
        (0.1, {"metric": "eval_loss", "step": 5, "above": 2, "below": 1}, "give it like"),
    ],
)
def test_a_forecast_that_cannot_be_is_refused_in_one_sentence(lab_of, gain, kill, words):
    lab, journal = lab_of()
    with pytest.raises(BadInput, match=words):
        lab.train("sft", config(), 1.0, "", "c1", gain=gain, kill=kill)
    assert not journal.views.jobs


@pytest.mark.slow
def test_a_job_past_its_own_kill_criterion_saves_and_is_ended_and_says_so(lab_of):
    lab, journal = lab_of()
    kill = {"metric": "loss", "step": 4, "above": 0.001}  # no loss of this model gets there in 4 steps
    job = lab.train("sft", config(max_steps=5000), 1.0, "an idea", "c1", gain=0.25, kill=kill)["job"]
    status = end_of(lab, job)
    assert status["state"] == "failed" and "at step 4, and was to be at most 0.001 from step 4" in status["reason"]
    assert [f["level"] for f in status["findings"] if f["rule"] == "kill criterion"] == ["stop"]
    assert journal.views.jobs[job].step < 5000
    assert list((lab.folder / "jobs" / job / "checkpoints").glob("checkpoint-*/complete"))  # cancelled, as any job is
    judged = lab.promote(job, "")
    assert (judged["verdict"], judged["forecast"]) == ("crash", "Expected was +0.250; nothing was measured.")
    assert journal.views.promotions[-1].expected == 0.25


def test_a_runner_that_dies_before_it_knows_its_trainer_leaves_none(tmp_path: Path, settings, lab_of):
    """The runner is stopped at the very moment: its trainer is there, and run.json does not say so yet."""
    lab, _ = lab_of()
    backend, queue = (
        LocalBackend(settings.home / "queue", settings.job_env),
        Queue(settings.home / "queue", holds_ticket),
    )
    base = {"model": str(lab.model_path("base")), "data": str(lab.workspace.path("data/rows.jsonl")), **SMALL}
    for number in range(20):  # the moment is short
        ticket = queue.enter({"job": str(tmp_path / "first"), "runner": identity(os.getpid())})
        folder = tmp_path / f"j{number}"
        backend.launch(JobSpec("j", "sft", base | {"max_steps": 3000}, folder))
        until(lambda: backend.state(folder).place == 1)  # noqa: B023
        runner = read_json(run_file(folder))["runner"][0]
        children = Path(f"/proc/{runner}/task/{runner}/children")
        queue.leave(ticket)
        while not (born := children.read_text().split()):
            pass
        os.kill(runner, signal.SIGSTOP)
        trainer = identity(int(born[0]))
        time.sleep(0.5)  # it may have begun by now
        if met := "trainer" not in read_json(run_file(folder)):
            break
        os.killpg(runner, signal.SIGKILL)
    assert met
    os.kill(runner, signal.SIGKILL)
    try:
        until(lambda: not alive(trainer), 5)
    finally:
        send(trainer, signal.SIGKILL)
    assert backend.state(folder).state == "failed"
    assert not (folder / "heartbeat").exists() and not (folder / "result.json").exists()


def test_models_that_were_measured_on_other_items_are_not_compared(lab_of):
    lab, journal = lab_of()
    journal.append(
        Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1.0, folder="jobs/sft-1"),
        Ended(job="sft-1", state="done", seconds=1.0),
    )
    for model, judge, split in (("base", "a", "b"), ("sft-1", "z", "b"), ("sft-1", "a", "z")):
        items = lab.folder / "jobs" / "items.jsonl"
        write_rows(items, [{"correct": True}])
        journal.append(
            Scored(
                model=model,
                benchmark="chains",
                split="dev",
                metric="accuracy",
                value=1.0,
                low=0.2,
                high=1.0,
                n=1,
                items="jobs/items.jsonl",
                seal=Seal(judge=judge, split=split, model=model),
                job="evaluate-1",
            )
        )
        if model == "sft-1":
            with pytest.raises(Refused, match="another judge or on other items; measure base on dev again"):
                lab.promote("sft-1", "")
    assert not journal.views.promotions
