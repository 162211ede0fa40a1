"""A job that runs out of memory on this machine goes through on a rented one, by the calls of Autopilot."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from resource import RLIMIT_AS, prlimit
from typing import Any

import psutil
import pytest

from agent.autopilot import decide, look_back
from agent.gate import judge
from agent.ideas import Idea, first_idea
from agent.sessions import Request, open_session
from agent.settings import Settings
from lab import peaks
from lab.backend import RENTED, JobState, read_json, write_json
from lab.backends.hf_jobs import about_file
from lab.backends.runner import run_file
from lab.lab import Lab
from lab.machine import memory, this_machine
from lab.models import STARTER
from lab.tasks import write_rows
from record.events import Launched
from record.journal import Journal
from tests.agent.test_autopilot import AUDIT, Talk
from tests.conftest import until
from tests.hub import Hub
from tests.scripted import open_lab
from tools.all import all_tools

LAST_RUNG = replace(
    first_idea(AUDIT, False), rows=200, max_steps=10, batch_size=1, grad_accumulation=8, gradient_checkpointing=True
)
MEMORY = {"batch_size", "grad_accumulation", "gradient_checkpointing"}


@pytest.fixture
def spending(hub: Hub, settings: Settings) -> Iterator[tuple[Lab, Journal]]:
    """The lab of a session that may spend five dollars, and asks before."""
    keys, env = {"HF_TOKEN": hub.people.add("ada").token}, settings.job_env | {"HF_ENDPOINT": hub.url}
    settings = replace(settings, keys=keys, job_env=env)
    request = Request(task="chains", dollars=5.0, approval="ask")
    lab, supervisor, journal = open_lab(settings, open_session(settings, request))
    supervisor.start()
    yield lab, journal
    lab.cancel_all()
    supervisor.stop()


class Played(Talk):
    """Autopilot's calls, answered by the real tools."""

    def __init__(self, lab: Lab):
        super().__init__()
        self._tools = {tool.name: tool for tool in all_tools(lab)}
        self._lab = lab

    def play(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        tool = self._tools[name]
        tool.call = f"c{len(self.messages)}"
        said = tool.forward(**arguments)
        self.answer(name, arguments, said)
        return json.loads(said)

    def price(self, arguments: dict[str, Any]) -> float | None:
        return self._tools["train"].price(arguments)


def starve(lab: Lab, job: str) -> None:
    """Give a job's trainer no more memory than it has before its first step."""
    folder = lab.folder / "jobs" / job
    until(lambda: (folder / "preflight.json").exists())
    trainer = psutil.Process(read_json(run_file(folder))["trainer"][0])
    trainer.suspend()
    most = trainer.memory_info().vms
    prlimit(trainer.pid, RLIMIT_AS, (most, most))
    trainer.resume()


@pytest.mark.slow
def test_after_the_last_setting_the_same_job_goes_through_on_the_machine_that_the_finding_names(
    spending: tuple[Lab, Journal], hub: Hub
):
    lab, journal = spending
    talk = Played(lab)
    talk.begun()
    talk.play("prepare_data", {"name": "rows-1", **LAST_RUNG.data()})
    config = {"data": "data/rows-1.jsonl", **LAST_RUNG.config()}
    asked = {"recipe": "sft", "config": config, "idea": LAST_RUNG.text, "expected_gain": 0.1}
    job = talk.play("train", asked)["job"]
    starve(lab, job)
    while (status := talk.play("wait", {"job": job}))["state"] == "running":
        pass
    (found,) = [fact for fact in journal.views.jobs[job].findings if fact.rule == "out_of_memory"]
    named = found.evidence["machine"]
    able = [one for one in lab._backend.machines().values() if one.bytes > memory()[1] and (one.price or 9.0) <= 5.0]
    if not able:
        pytest.skip("nothing that can be rented has more memory than this machine")
    cheapest = min(able, key=lambda one: one.price or 0.0)
    assert named == {"name": cheapest.name, "bytes": cheapest.bytes, "price": cheapest.price}
    flavor = cheapest.name.removeprefix("hf-jobs ")
    assert f'machine = "{flavor}": {cheapest.bytes / 2**30:.1f} GiB for ${cheapest.price:g} an hour' in found.advice
    assert found.evidence["settings"] == {} and status["findings"][0]["advice"] == found.advice

    full = lab.checked("sft", config)
    again = lab.place("auto", "sft", full)  # an LLM that asks for the same job
    assert again.bytes > memory()[1] and again.why == f"such a job has run out of memory on {this_machine()}"
    assert lab.place("auto", "sft", full | {"max_length": 64}).here  # it needs less

    talk.play("promote", {"model": job, "idea": LAST_RUNG.text})
    move = decide(look_back(talk.messages))
    assert f"To fit into memory: on {flavor}, which has more of it" in move.text
    ((name, relaunch),) = move.calls  # the rows are the very file
    assert name == "train" and relaunch["machine"] == flavor
    assert relaunch["config"] == config and relaunch["recipe"] == "sft"
    price = talk.price(relaunch)
    assert price and judge("spend", price, journal.views, datetime.now(UTC)).kind == "ask"
    second = talk.play("train", relaunch)["job"]
    until(lambda: not journal.views.jobs[second].running)
    first, over = journal.views.jobs[job], journal.views.jobs[second]
    assert over.state == "done" and over.machine == cheapest.name, over.ended
    assert (lab.folder / over.folder / "model" / "model.safetensors").exists()
    same = first.config.keys() - {"data", "trackio_run"}
    assert {name: first.config[name] for name in same} == {name: over.config[name] for name in same}
    assert first.config["data_sha256"] == over.config["data_sha256"] and first.recipe == over.recipe
    assert len(hub.jobs.runs) == 1


def over(lab: Lab, journal: Journal, machine: str, state: JobState, **left: Any) -> None:
    """Say that a job of the last rung runs on this machine, and leave what it leaves when it is over."""
    folder = lab.folder / "jobs" / "sft-1"
    write_rows(folder / "data.jsonl", [{"prompt": "1 + 1 =", "completion": " 2"}] * 8)
    for name, value in left.items():
        write_json(folder / f"{name}.json", value)
    write_json(folder / "job.json", {"attempt": 1})
    write_json(folder / "exit.json", asdict(state))
    if machine.startswith(RENTED):
        write_json(about_file(folder), {"attempt": 1, "ended": asdict(state)})
    config = LAST_RUNG.config() | {"model": str(STARTER), "data": str(folder / "data.jsonl")}
    price = 0.8 if machine.startswith(RENTED) else 0.0
    journal.append(Launched(
        job="sft-1", recipe="sft", config=config, machine=machine, hours=1.8, folder="jobs/sft-1", price=price
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("dollars", "token", "says"),
    [
        (None, True, "Nothing is rented without a cap of dollars; ask the person to set one."),
        (5.0, False, "None can be rented: No HF_TOKEN is set"),
        (0.001, True, "is too dear: it may run for 1.8 h, and $0.00 are left."),
    ],
)
def test_where_no_machine_can_be_had_the_finding_says_why(hub: Hub, settings: Settings, dollars, token, says):
    keys = {"HF_TOKEN": hub.people.add("ada").token} if token else {}
    settings = replace(settings, keys=keys, job_env=settings.job_env | {"HF_ENDPOINT": hub.url})
    lab, supervisor, journal = open_lab(settings, open_session(settings, Request(task="chains", dollars=dollars)))
    over(lab, journal, this_machine(), JobState("failed", 3.0, "MemoryError"))
    supervisor.tick()
    (found,) = journal.views.jobs["sft-1"].findings
    assert found.rule == "out_of_memory" and found.evidence["machine"] is None
    assert found.advice.startswith("No setting is left that saves memory") and says in found.advice


def test_what_a_rented_job_held_back_is_no_reason_to_find_the_next_machine_too_dear(spending, hub: Hub):
    """Of five dollars 1.44 were spoken for, and 1.8 hours on an A100 are 4.50."""
    lab, journal = spending
    over(lab, journal, "hf-jobs l4x1", JobState("failed", 3.0, "OutOfMemoryError: CUDA out of memory."))
    until(lambda: not journal.views.jobs["sft-1"].running)
    (found,) = journal.views.jobs["sft-1"].findings
    larger_here = memory()[0] == "cuda" and memory()[1] > 24 * 2**30
    assert found.evidence["machine"]["name"] == (this_machine() if larger_here else "hf-jobs a100-large")


@pytest.mark.parametrize("machine", [this_machine("cpu"), "hf-jobs t4-small"])
def test_what_a_job_has_taken_is_kept_wherever_it_ran(spending, machine: str):
    lab, journal = spending
    over(lab, journal, machine, JobState("done", 3.0), preflight={"peak_mb": 700}, result={"ok": True})
    until(lambda: peaks.look(lab.folder))
    (peak,) = peaks.look(lab.folder)
    runtime = 600 if machine.startswith(RENTED) else 0  # of CUDA, which torch does not count
    assert peak.measured == (700 + runtime) * 2**20
    assert peak.kind.startswith(f"SFT on {'cuda' if runtime else 'cpu'}, Shape(kind='llama'")


def test_an_idea_on_a_named_machine_is_known_again_from_its_call():
    idea = replace(LAST_RUNG, machine="l4x1")
    assert Idea.of(idea.text, idea.data(), {"data": "d", **idea.config()}, "sft", "l4x1") == idea
    assert "machine" not in idea.config()
