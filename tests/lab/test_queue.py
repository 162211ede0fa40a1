"""Who has the machine, in which order, and what a job waits for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.settings import ROOT
from agent.terminal import lines
from lab import machine
from lab.backend import JobSpec, JobState, Machine, left_s, read_json, write_json
from lab.backends import runner
from lab.backends.local import LocalBackend
from lab.backends.runner import holds_ticket, run_file
from lab.demand import demand
from lab.models import STARTER
from lab.processes import identity
from lab.queue import Queue
from lab.supervisor import _moved
from recipes.memory import cpu_halves
from record.events import Launched, Queued
from record.views import Views
from tests.conftest import until
from tests.scripted import open_lab

HERE = Machine("local CPU, 2 cores", "cpu", 16 * 2**30, None)

DEAD = [2**22 + 1, 0.0]  # a pid beyond Linux' largest


def holder(job: Path, runner: list) -> dict:
    job.mkdir(exist_ok=True)
    return {"job": str(job), "runner": runner}


def test_live_jobs_go_in_the_order_they_came_and_dead_ones_hold_nothing(tmp_path: Path):
    queue, me = Queue(tmp_path / "queue", holds_ticket), identity(os.getpid())
    queue.enter(holder(tmp_path / "dead", DEAD))
    first, second = (queue.enter(holder(tmp_path / name, me)) for name in ("a", "b"))
    assert (queue.place(first), queue.place(second)) == (0, 1)
    queue.leave(first)
    assert queue.place(second) == 0


def test_a_jobs_next_attempt_does_not_wait_for_the_ticket_of_its_killed_runner(tmp_path: Path):
    queue, job, me = Queue(tmp_path / "queue", holds_ticket), tmp_path / "job", identity(os.getpid())
    queue.enter(holder(job, DEAD))
    write_json(run_file(job), {"runner": me})  # the next attempt's, in the same folder
    assert queue.place(queue.enter(holder(job, me))) == 0


def test_a_trainer_that_outlives_its_runner_keeps_the_machine(tmp_path: Path):
    queue, job, me = Queue(tmp_path / "queue", holds_ticket), tmp_path / "job", identity(os.getpid())
    queue.enter(holder(job, DEAD))
    write_json(run_file(job), {"runner": DEAD, "trainer": me})
    assert queue.place(queue.enter(holder(tmp_path / "next", me))) == 1


def test_a_ticket_that_is_being_written_blocks_nobody(tmp_path: Path):
    queue, me = Queue(tmp_path / "queue", holds_ticket), identity(os.getpid())
    queue.enter(holder(tmp_path / "a", DEAD))
    (tmp_path / "queue" / ".0-torn.tmp").write_text("")
    assert queue.place(queue.enter(holder(tmp_path / "b", me))) == 0


def test_tickets_taken_at_once_are_all_different_and_in_one_order(tmp_path: Path):
    queue, me = Queue(tmp_path / "queue", holds_ticket), identity(os.getpid())
    holders = [holder(tmp_path / f"j{i}", me) for i in range(20)]
    with ThreadPoolExecutor(20) as pool:
        tickets = list(pool.map(queue.enter, holders))
    assert sorted(queue.place(ticket) for ticket in tickets) == list(range(20))


def test_a_ticket_that_leaves_while_one_looks_holds_nothing():
    assert not holds_ticket({})


class People:
    """Sessions that queue jobs on one machine. Time passes in a ticket by writing an earlier beginning into it."""

    def __init__(self, folder: Path):
        self.queue, self.folder, self.me = Queue(folder / "queue", holds_ticket), folder, identity(os.getpid())
        self.made: dict[str, Path] = {}

    def wants(self, session: str, job: str) -> None:
        self.made[job] = self.queue.enter({"job": str(self.folder / session / "jobs" / job), "runner": self.me})

    def runs(self, job: str, seconds: float) -> None:
        """The job gets the machine, has it so long, and leaves."""
        assert self.queue.before(self.made[job]) == []
        self.passes(job, seconds)
        self.queue.leave(self.made.pop(job))

    def passes(self, job: str, seconds: float) -> None:
        holder = read_json(self.made[job])
        write_json(self.made[job], holder | {"began": holder["began"] - seconds})

    def order(self) -> list[str]:
        return sorted(self.made, key=lambda job: self.queue.place(self.made[job]))


def test_a_sweep_of_ten_does_not_keep_the_others_waiting(tmp_path: Path):
    people = People(tmp_path)
    for number in range(10):
        people.wants("a", f"a{number}")
    assert people.queue.before(people.made["a0"]) == []
    people.wants("b", "b0")
    people.passes("a0", 60)
    assert people.order()[:4] == ["a0", "b0", "a1", "a2"]  # who has the machine keeps it; then who has had it least
    people.runs("a0", 60)
    people.runs("b0", 300)
    assert people.order() == [f"a{number}" for number in range(1, 10)]


def test_time_on_the_machine_counts_and_not_the_number_of_jobs(tmp_path: Path):
    people, ran = People(tmp_path), []
    for session, count in (("long", 3), ("short", 9)):
        for number in range(count):
            people.wants(session, f"{session}{number}")
    while people.made:
        ran.append(people.order()[0])
        people.runs(ran[-1], 100 if ran[-1].startswith("long") else 30)
    assert ran[:6] == ["long0", "short0", "short1", "short2", "short3", "long1"]  # 4 * 30 > 100


def test_what_a_new_job_would_wait_for_is_known_before_it_takes_a_ticket(tmp_path: Path):
    people = People(tmp_path)

    def ahead(session: str) -> list[str]:
        return [Path(one["job"]).name for one in people.queue.ahead(tmp_path / session)]

    assert ahead("b") == []
    people.wants("a", "a0")
    people.wants("a", "a1")
    assert people.queue.before(people.made["a0"]) == []
    assert ahead("a") == ahead("b") == ["a0", "a1"]  # a newcomer begins level with the most
    people.wants("b", "b0")
    people.passes("a0", 60)
    assert ahead("b") == ["a0", "b0"] and ahead("a") == ["a0", "b0", "a1"]  # by now a has had more than b


def test_a_stream_of_newcomers_locks_nobody_out(tmp_path: Path):
    people = People(tmp_path)
    people.wants("old", "old0")
    people.wants("old", "old1")
    assert people.order()[0] == "old0"
    people.passes("old0", 3600)  # it was alone so far
    people.wants("new0", "new0")
    people.runs("old0", 1)
    for number in range(1, 10):
        if people.order()[0] == "old1":
            break
        assert people.queue.before(people.made[f"new{number - 1}"]) == []
        people.wants(f"new{number}", f"new{number}")
        people.runs(f"new{number - 1}", 10)
    assert number <= 2


def test_what_was_used_while_nobody_waited_is_held_against_nobody(tmp_path: Path):
    people = People(tmp_path)
    people.wants("a", "a0")
    people.runs("a0", 3600)
    for job in ("b0", "b1"):
        people.wants("b", job)
    people.wants("a", "a1")
    people.runs("b0", 10)
    assert people.order() == ["a1", "b1"]


def test_the_time_of_a_killed_runner_counts_and_the_next_one_goes(tmp_path: Path):
    people = People(tmp_path)
    sleeper = subprocess.Popen(["sleep", "60"])
    people.me = identity(sleeper.pid)
    people.wants("a", "a0")
    people.me = identity(os.getpid())
    people.wants("a", "a1")
    people.wants("b", "b0")
    assert people.order()[0] == "a0"
    people.passes("a0", 60)
    sleeper.kill()
    sleeper.wait()
    del people.made["a0"]
    assert people.order() == ["b0", "a1"]


def test_no_two_of_many_ever_have_the_machine(tmp_path: Path):
    people, inside = People(tmp_path), tmp_path / "inside"

    def run(number: int) -> None:
        for again in range(5):
            job = f"{number}.{again}"
            people.wants(f"s{number % 3}", job)
            while people.queue.before(people.made[job]):
                pass
            inside.touch(exist_ok=False)
            inside.unlink()
            people.queue.leave(people.made[job])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert read_json(tmp_path / "queue" / "accounts.json").keys() <= {str(tmp_path / f"s{n}") for n in range(3)}


def runner_of(folder: Path, needs: int = 0, command: tuple[str, ...] = ("/bin/true",)) -> subprocess.Popen:
    """A runner as the backend starts it, of a job whose trainer is a small command."""
    folder.mkdir(parents=True)
    job = {"job": "j", "hours": 1.0, "queue": str(folder / "../../../queue"), "needs": needs, "device": "cpu"}
    write_json(folder / "job.json", job | {"attempt": 1})
    command = (sys.executable, "-m", "lab.backends.runner", str(folder), *command)
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def test_runners_of_two_sessions_take_turns_and_a_killed_one_is_passed_over(tmp_path: Path):
    queue, names, runners = tmp_path / "queue", ("a0", "a1", "a2", "b0"), []
    folders = {name: tmp_path / name[0] / "jobs" / name for name in names}
    queue.mkdir()
    for name in names:
        waits = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"
        runners.append(runner_of(folders[name], command=("/bin/sh", "-c", waits)))
        while len(list(queue.glob("0*"))) < len(runners):
            time.sleep(0.02)  # until it has its ticket
    runners[1].kill()
    (tmp_path / "go").touch()
    assert [process.wait(30) for process in runners] == [0, -9, 0, 0]
    began = {name: read_json(run_file(folder)).get("started") for name, folder in folders.items()}
    assert began.pop("a1") is None
    assert sorted(began, key=lambda name: began[name]) == ["a0", "b0", "a2"]


# When it starts


def metrics(job: Path, *steps: tuple[int, float]) -> None:
    job.mkdir(parents=True, exist_ok=True)
    rows = [{"step": step, "steps": 100, "at": time.time() - ago, "loss": 1.0} for step, ago in steps]
    (job / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_start_is_the_sum_of_what_stands_before_and_unknown_where_one_is(tmp_path: Path):
    metrics(tmp_path / "a", (10, 80.0), (50, 0.0))  # 2 s a step, 50 to go
    began = {"began": time.time() - 90}
    ahead = [{"job": str(tmp_path / "a"), "takes_s": None, **began}, {"job": "b", "takes_s": 30.0}]
    assert runner.eta(ahead) == pytest.approx(100 + 30, abs=2)
    assert runner.eta([*ahead, {"job": "c", "takes_s": None}]) is None
    assert runner.eta([{"job": str(tmp_path / "no"), "takes_s": 100.0, **began}]) == pytest.approx(10, abs=2)
    assert runner.eta([{"job": str(tmp_path / "no"), "takes_s": 50.0, **began}]) is None  # it should be over


@pytest.mark.parametrize(
    "row", ['{"step": 2, "steps": "x", "at": 9}', '{"step": 2, "steps": 1e300, "at": 9}', '{"step": Infinity}', "[]"]
)
def test_a_trainer_that_writes_nonsense_makes_no_start_of_it(tmp_path: Path, row: str):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "steps": 9, "at": 1}}\n{row}\n')
    assert left_s(tmp_path / "metrics.jsonl") is None


def test_a_start_that_moves_little_is_not_said_again(tmp_path: Path):
    launched = Launched(job="j", recipe="sft", config={}, machine="m", hours=1.0, folder="jobs/j")
    views = Views([launched])

    def hears(state: JobState) -> bool:
        said = _moved(views.jobs["j"], state)
        for fact in said:
            views.add(fact)
        return bool(said)

    waits = [
        JobState("queued", place=2),
        JobState("queued", place=2, eta_s=600),
        JobState("queued", place=1, eta_s=600),
    ]
    assert all(map(hears, waits)) and not hears(waits[-1])
    assert not hears(JobState("queued", place=1, eta_s=650)) and hears(JobState("queued", place=1, eta_s=900))
    assert hears(JobState("queued", reason="no memory")) and views.jobs["j"].began is None
    assert hears(JobState("running", 1.0)) and views.jobs["j"].began and not hears(JobState("running", 2.0))


def test_the_terminal_says_the_place_the_start_and_why():
    said = [
        lines(Queued(job="j", place=p, reason=r, eta_s=s))
        for p, r, s in ((2, "", 600), (1, "", None), (0, "why", None), (0, "", None))
    ]
    assert said == [
        ["    j waits for the machine, 2 before it; it starts in about 10.0 min"],
        ["    j waits for the machine, 1 before it; nobody knows when it starts"],
        ["    j waits: why"],
        [],
    ]


# Memory


def test_a_job_waits_for_memory_and_says_so_and_one_that_has_it_does_not(tmp_path: Path):
    backend, folder = LocalBackend(tmp_path / "queue", {}), tmp_path / "s" / "jobs" / "waits"
    process = runner_of(folder, 2**60)
    while not (folder / "place.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    state = backend.state(folder)
    assert (state.state, state.place) == ("queued", 0)
    assert f"needs about {2**30}.0 GiB of memory, and others leave less free" in state.reason
    backend.cancel(folder)
    assert process.wait(10) == 0 and backend.state(folder).reason == "left the queue"
    assert runner_of(folder.with_name("goes"), 2**20).wait(10) == 0
    assert backend.state(folder.with_name("goes")).state == "done"


def test_a_job_does_not_wait_for_memory_for_ever(tmp_path: Path):
    write_json(tmp_path / "job.json", {})
    assert runner._has_memory(tmp_path, {"device": "cpu", "needs": 2**60}, patience=0.01)


def test_some_memory_is_free_and_not_all():
    assert 0 < machine.free("cpu") < machine.ram()


def test_the_need_of_a_job_is_known_where_its_model_is(tmp_path: Path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": "a" * 300, "completion": "b"}) + "\n")
    config = {"model": str(STARTER), "data": str(data), "batch_size": 8}
    small, large = (demand("sft", config | {"batch_size": size})(HERE) for size in (8, 64))
    assert 2**28 < demand("evaluate", config)(HERE) < small < large
    assert demand("sft", config | {"model": "nowhere"})(HERE) == demand("script", config)(HERE) == 0


def test_the_numbers_of_a_cgroup_are_read(tmp_path: Path):
    (tmp_path / "events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "max").write_text("max\n")
    assert machine._number(tmp_path / "events", "oom_kill") == 2
    assert machine._number(tmp_path / "max") is machine._number(tmp_path / "none") is None


# What a trainer may write where we read


@pytest.mark.parametrize(
    "forged",
    [{"state": "done"}, {"state": "over", "seconds": 1}, {"state": "done", "seconds": "x"}, {"state": "running"},
     {"state": "done", "seconds": -5}, {"state": "done", "seconds": float("nan")}, {"state": "failed", "signal": 999}],
)  # fmt: skip
def test_an_ending_that_is_none_is_not_believed(tmp_path: Path, forged: dict):
    """{"state": "done"} alone is one: it says nothing that cannot be."""
    folder, backend = tmp_path / "j", LocalBackend(tmp_path / "queue", {})
    folder.mkdir()
    write_json(folder / "job.json", {"attempt": 1})
    write_json(folder / "exit.json", forged)
    state = backend.state(folder)
    assert state.ended and state.seconds >= 0
    assert state.state == ("done" if forged == {"state": "done"} else "failed")


def test_a_trainer_that_the_kernel_killed_for_memory_is_not_started_again(settings, new_session):
    said = runner.starved(kills=0, peak=22 * 2**30, whole=24 * 2**30)
    assert said == "out of memory: the kernel killed the trainer, which held 22.0 of 24.0 GiB"
    assert runner.starved(kills=1, peak=2**30, whole=24 * 2**30) and not runner.starved(0, 2**30, 24 * 2**30)
    assert runner.ending(-9, "cancelled", 1.0, said)["state"] == "cancelled"
    assert runner.ending(-15, None, 1.0, said)["signal"] == 15
    lab, supervisor, journal = open_lab(settings, new_session()[0])
    for job, lack in (("sft-1", said), ("sft-2", "")):
        folder = lab.folder / "jobs" / job
        folder.mkdir(parents=True)
        write_json(folder / "job.json", {"attempt": 1})
        write_json(folder / "exit.json", runner.ending(-9, None, 1.0, lack) | {"seconds": 3.0})
        config = {"batch_size": 8, "grad_accumulation": 1}
        journal.append(Launched(job=job, recipe="sft", config=config, machine="m", hours=1.0, folder=f"jobs/{job}"))
    supervisor.tick()
    starved, killed = journal.views.jobs.values()
    assert [(found.rule, found.level) for found in starved.findings] == [("out_of_memory", "stop")]
    assert starved.findings[0].evidence["settings"] == {"batch_size": 4, "grad_accumulation": 2}
    assert (starved.attempt, starved.state) == (1, "failed")
    assert (killed.attempt, [found.rule for found in killed.findings]) == (2, ["trainer_killed"])
    assert "from the beginning: it had no checkpoint yet" in killed.findings[0].advice


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose nvidia-smi says that it has a T4 with 900 MiB free."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$1" in *name*) echo "NVIDIA T4, 15360";; *cap*) echo "7.5, 15360";; *) echo 900;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    machine._gpu.cache_clear()
    yield
    machine._gpu.cache_clear()


def test_a_job_beside_the_gpu_waits_for_no_job_on_it_and_does_not_see_it(tmp_path: Path, gpu, settings):
    assert (machine.this_machine(), machine.memory()) == ("local NVIDIA T4", ("cuda", 15360 * 2**20))
    assert machine.free("cuda") == 900 * 2**20
    assert not machine.has_bfloat16() and machine.has_bfloat16("cpu") == cpu_halves()
    backend, seen = LocalBackend(settings.home / "queue", settings.job_env), {}
    cpu = machine.this_machine("cpu")  # of a job whose setting says so
    for name in (cpu, machine.this_machine()):
        folder = tmp_path / "jobs" / name
        backend.launch(JobSpec("j", "sft", {"model": "nowhere", "data": "nothing"}, folder, machine=name))
        job, runs = read_json(folder / "job.json"), read_json(run_file(folder))["runner"][0]
        environ = Path(f"/proc/{runs}/environ")
        until(environ.read_bytes)  # the kernel lets a parent go on before the child's environment is there
        environment = environ.read_bytes().split(b"\0")
        seen[name] = (Path(job["queue"]).name, job["device"], b"CUDA_VISIBLE_DEVICES=" in environment)
        backend.cancel(folder)
    assert machine.memory("cpu") == ("cpu", machine.ram())
    assert seen == {cpu: ("cpu", "cpu", True), "local NVIDIA T4": ("queue", "cuda", False)}


def test_a_machine_without_a_gpu_has_one_slot(tmp_path: Path, settings):
    if machine.memory()[0] == "cuda":
        pytest.skip("this machine has a GPU")
    backend = LocalBackend(settings.home / "queue", settings.job_env)
    backend.launch(JobSpec("j", "sft", {"model": "nowhere", "data": "nothing"}, tmp_path / "j", machine="local CPU, 2"))
    backend.cancel(tmp_path / "j")
    assert Path(read_json(tmp_path / "j" / "job.json")["queue"]) == settings.home / "queue"
