"""The rules on the recorded gallery (see benchmarks.gallery), and broken runs that are made here and now."""

import os
import signal
import time
from pathlib import Path
from resource import RLIMIT_AS, RLIMIT_FSIZE, prlimit

import psutil
import pytest

from benchmarks.gallery import BROKEN, CASES, HEALTHY, RUNS
from benchmarks.verdicts import read_run, replay
from lab.backend import JobState, Point, read_json
from lab.backends.runner import run_file
from lab.checkpoint import best_step, keep_best
from lab.errors import Refused
from lab.ladder import ablation, next_rung
from lab.pulse import Pulse
from lab.supervisor import lighter
from recipes import kto
from recipes.recorder import COMPLETE
from record.views import Job
from tests.conftest import until

RECORDED = sorted(RUNS.glob("*.jsonl"))
SMALL = {
    "data": "data/rows.jsonl",
    "batch_size": 8,
    "max_length": 64,
    "log_steps": 2,
    "eval_steps": 1000,
    "save_steps": 10,
}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_run_yields_its_finding_in_time_and_a_healthy_one_none(path: Path):
    run = read_run(path)
    assert [p.step for p in run.points] == sorted(p.step for p in run.points), "two runs wrote into one file"
    case, found = CASES[run.case], replay(run)
    if case.broken:
        assert found.get((case.rule, case.level), 10**9) <= case.within, found
    else:
        serious = [(rule, level) for rule, level in found if level != "info"]
        assert not [rule for rule, level in serious if level == "stop"] and len(serious) <= 1, found


def test_the_gallery_is_whole():
    declared = {f"{case.name}-{seed}" for case in CASES.values() for seed in case.seeds}
    assert {path.stem for path in RECORDED} == declared  # making it again makes no run that nobody has judged
    assert len(HEALTHY) == 7 and all(len(case.seeds) == 3 for case in HEALTHY)
    assert len({case.rule for case in BROKEN}) >= 15


@pytest.fixture
def lab(lab_of):
    return lab_of()[0]


def end_of(lab, job: str) -> dict:
    while (status := lab.wait(job, 120))["state"] == "running":
        pass
    return status


def held(lab, job: str, sign: str = "preflight.json") -> psutil.Process:
    """The trainer of a job, stopped when this file is there: by default, before its first step."""
    folder = lab.folder / "jobs" / job
    until(lambda: (folder / sign).exists())
    trainer = psutil.Process(read_json(run_file(folder))["trainer"][0])
    trainer.suspend()
    return trainer


def stops(status: dict) -> dict[str, str]:
    return {f["rule"]: f["advice"] for f in status["findings"] if f["level"] == "stop"}


@pytest.mark.slow
def test_a_job_without_memory_says_what_to_change_and_nothing_else_changes(lab):
    job = lab.train("sft", SMALL | {"batch_size": 64, "max_steps": 50}, 1.0, "", "c1", gain=0.1)["job"]
    trainer = held(lab, job)
    most = trainer.memory_info().vms + 2**25  # 32 MiB more than it has
    prlimit(trainer.pid, RLIMIT_AS, (most, most))
    trainer.resume()
    status = end_of(lab, job)
    assert status["state"] == "failed"
    assert "batch_size = 32, grad_accumulation = 2. The effective batch stays 64." in stops(status)["out_of_memory"]
    (found,) = [f for f in lab.views.jobs[job].findings if f.rule == "out_of_memory"]
    assert found.evidence["settings"] == {"batch_size": 32, "grad_accumulation": 2}
    with pytest.raises(Refused, match=f"The same job has failed before, as {job}"):
        lab.train("sft", SMALL | {"batch_size": 64, "max_steps": 50, "seed": 1}, 1.0, "", "c2", gain=0.1)


@pytest.mark.slow
def test_a_job_that_cannot_write_its_checkpoint_says_so(lab):
    job = lab.train("sft", SMALL | {"max_steps": 50, "save_steps": 4}, 1.0, "", "c1", gain=0.1)["job"]
    trainer = held(lab, job)
    prlimit(trainer.pid, RLIMIT_FSIZE, (2**16, 2**16))  # metrics fit into 64 KiB, a checkpoint does not
    trainer.resume()
    status = end_of(lab, job)
    assert status["state"] == "failed" and "Free some disk" in stops(status)["no_disk"]


@pytest.mark.slow
def test_a_run_that_becomes_nan_is_stopped_and_its_best_checkpoint_can_be_measured(lab):
    """A warm-up that never ends: the learning rate grows until nothing is finite."""
    config = SMALL | {
        "max_steps": 4000,
        "warmup_steps": 4000,
        "lr": 1e28,
        "save_steps": 1,
        "log_steps": 1,
        "save_total_limit": 5,
    }
    kill = {"metric": "loss", "step": 3, "above": 1e-9}  # and if it stays finite, its own forecast ends it
    job = lab.train("sft", config, 1.0, "", "c1", gain=0.1, kill=kill)["job"]
    status = end_of(lab, job)
    assert status["state"] == "failed" and stops(status)
    kept = [f.evidence["kept_step"] for f in lab.views.jobs[job].findings if "kept_step" in f.evidence]
    assert len(kept) == 1 and any(f"of step {kept[0]}, is kept" in advice for advice in stops(status).values())
    assert (lab.model_path(job) / "model.safetensors").exists()


def checkpoint(folder: Path, step: int) -> None:
    made = folder / "checkpoints" / f"checkpoint-{step}"
    made.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "optimizer.pt", COMPLETE):
        (made / name).write_text(f"{name} of {step}")


def test_the_best_checkpoint_is_kept_without_what_only_a_resume_needs(tmp_path: Path):
    for step in (10, 20, 30):
        checkpoint(tmp_path, step)
    losses = {5: 3.0, 10: 2.0, 20: 1.0, 30: 1.5}
    points = [Point(step, {"eval_loss": loss}, 40) for step, loss in losses.items()]
    assert keep_best(tmp_path, points) == 20
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    assert (tmp_path / "model" / "config.json").read_text() == "config.json of 20"
    assert keep_best(tmp_path, points) is None  # a model that is there stays


def test_the_best_checkpoint_of_an_adapter_is_kept_apart_since_it_is_no_model_by_itself(tmp_path: Path):
    for step in (10, 20):
        checkpoint(tmp_path, step)
        made = tmp_path / "checkpoints" / f"checkpoint-{step}"
        (made / "config.json").rename(made / "adapter_config.json")
    points = [Point(10, {"eval_loss": 1.0}), Point(20, {"eval_loss": 2.0})]
    assert keep_best(tmp_path, points) == 10 and not (tmp_path / "model").exists()
    assert (tmp_path / "adapter" / "adapter_config.json").read_text() == "config.json of 10"
    assert keep_best(tmp_path, points) is None


def test_no_checkpoint_after_a_value_that_is_not_finite_is_the_best():
    points = [
        Point(1, {"reward": 0.1}),
        Point(10, {"reward": 0.3}),
        Point(20, {"reward": 0.9, "grad_norm": float("nan")}),
    ]
    assert best_step(points, [10, 20, 30]) == 10
    assert best_step(points, [20]) is None
    assert best_step([], [10, 20]) == 20


def test_the_reward_says_which_checkpoint_of_grpo_was_best_and_not_its_losses():
    points = [Point(10, {"reward": 0.1, "eval_loss": 0.001}), Point(20, {"reward": 0.9, "eval_loss": 0.002})]
    assert best_step(points, [10, 20]) == 20
    points[0] = Point(10, points[0].values | {"eval_reward": 0.8})
    points[1] = Point(20, points[1].values | {"eval_reward": 0.3})
    assert best_step(points, [10, 20]) == 10


def test_the_ladder_keeps_the_effective_batch_and_ends_at_a_bigger_machine():
    config = {"batch_size": 12, "grad_accumulation": 2, "max_length": 99, "data": "d"}
    rungs = []
    while changes := next_rung("sft", config)[0]:
        config |= changes
        rungs.append(tuple(changes.values()))
    assert rungs == [(6, 4), (3, 8), (1, 24), (True,)]
    assert (config["max_length"], config["data"]) == (99, "d")
    assert "a bigger machine" in next_rung("sft", config)[1]
    assert next_rung("nothing of ours", {})[0] == {} == next_rung("evaluate", {})[0]
    assert next_rung("sft", {})[0] == {"batch_size": 32, "grad_accumulation": 2}  # the recipe's defaults: 64 and 1


def test_the_ladder_asks_for_nothing_that_a_recipe_refuses():
    """KTO compares a row with another one of its pass."""
    assert next_rung("kto", {"batch_size": 4})[0] == {"batch_size": 2, "grad_accumulation": 2}
    assert next_rung("kto", {"batch_size": 2})[0] == {"gradient_checkpointing": True}
    assert next_rung("kto", {"batch_size": 2, "gradient_checkpointing": True})[0] == {}
    for changes in (next_rung("kto", {"batch_size": size})[0] for size in range(2, 20)):
        kto.Config(model="m", data="d", **changes)


def test_what_samples_too_much_at_a_time_samples_less_and_trains_as_before():
    assert next_rung("rejection", {"sample_batch": 9}, sampling=True)[0] == {"sample_batch": 4}  # a prompt's answers
    assert next_rung("rejection", {"sample_batch": 4}, sampling=True)[0] == {}
    assert next_rung("sft", {}, sampling=True)[0] == next_rung("sft", {})[0]
    job = Job("rejection-1", "rejection", {}, "cpu", 1.0, "", "jobs/rejection-1", "c1")
    assert lighter(job)[0] == {"sample_batch": 128}  # of 256
    job.values["sampled"] = 2048.0
    assert lighter(job)[0] == {"batch_size": 32, "grad_accumulation": 2}


def test_a_collapsed_reward_offers_runs_that_differ_in_one_setting():
    assert ablation("sft", {"lr": 3e-4}) == [{"lr": 1e-4}]
    assert ablation("nothing of ours", {"lr": 3e-4, "beta": 0.0}) == [{"lr": 1e-4}, {"beta": 0.04}]
    assert ablation("nothing of ours", {"beta": 0.1}) == []


def test_a_process_that_beats_is_alive_and_one_that_stops_is_not(tmp_path: Path):
    running, pulse = JobState("running"), Pulse()
    (tmp_path / "heartbeat").touch()
    pulse.look(tmp_path, running, True)
    time.sleep(0.2)
    life = pulse.look(tmp_path, running, False)
    assert life.silent_s >= 0.2 and life.beatless_s >= 0.2
    os.utime(tmp_path / "heartbeat", (1, 1))  # a clock that was set back is a beat, too
    life = pulse.look(tmp_path, running, True)
    assert (life.silent_s, life.beatless_s) == (0, 0)
    assert pulse.look(tmp_path, JobState("failed", reason="MemoryError"), False).error == "MemoryError"
    assert pulse.look(tmp_path, JobState("queued"), False).silent_s == 0


@pytest.mark.slow
def test_a_stopped_process_has_no_pulse(lab):
    job = lab.train("sft", SMALL | {"max_steps": 5000}, 1.0, "", "c1", gain=0.1)["job"]
    trainer, pulse, folder = held(lab, job, "heartbeat"), Pulse(), lab.folder / "jobs" / job
    pulse.look(folder, JobState("running"), False)
    time.sleep(5)  # a heart beats every two seconds
    assert pulse.look(folder, JobState("running"), False).beatless_s > 4
    trainer.send_signal(signal.SIGCONT)
    until(lambda: pulse.look(folder, JobState("running"), False).beatless_s < 1)
