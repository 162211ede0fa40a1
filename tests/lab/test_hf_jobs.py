"""Jobs on rented machines, by the real client against the loopback Hub, whose jobs are real processes."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from huggingface_hub import HfApi

from agent.gate import judge
from agent.sessions import Request, open_session
from lab.backend import JobSpec, Machine, read_json, write_json
from lab.backends.ear import Ear
from lab.backends.folder import log_tail, metrics, result
from lab.backends.hf_jobs import HFJobs, _ran, about_file
from lab.backends.runner import holds_ticket
from lab.errors import LabError, Stopped
from lab.machine import ram, this_machine
from lab.models import STARTER
from lab.processes import identity
from lab.queue import Queue
from recipes.remote import MARK
from record.card import model_card
from record.events import Asked, Ended, Launched, Progressed
from tests.conftest import until
from tests.hub import Hub
from tests.hub.prying import pried
from tests.scripted import open_lab
from tools.scores import Evaluate
from tools.train import Train

GIB = 2**30


@pytest.fixture
def rented(hub: Hub) -> HFJobs:
    token = hub.people.add("ada").token
    return HFJobs(lambda: HfApi(endpoint=hub.url, token=token), look=0.1, saving=1.0)


def spec_in(folder: Path, name: str = "sft-1", **config) -> JobSpec:
    """A job that ends soon, since its model is nowhere."""
    config = {"model": "/nowhere", "data": "/nothing"} | config
    return JobSpec(name, "sft", config, folder / "session" / "jobs" / name, "hf-jobs cpu-basic", 0.1)


def end_of(backend: HFJobs, folder: Path):
    until(lambda: backend.state(folder).ended, 90)
    return backend.state(folder)


def trainer_of(hub: Hub) -> list[psutil.Process]:
    """The trainer of the one job that runs."""
    found = [p for p in psutil.process_iter(["cmdline"]) if "recipes.sft" in (p.info["cmdline"] or [])]
    return [p for p in found if str(hub.folder) in " ".join(p.environ().values())]


@pytest.mark.slow
def test_a_rented_job_is_watched_live_adopted_resumed_after_a_kill_and_brings_its_model(hub: Hub, settings):
    """Its log streams close early all the time, its trainer is killed by -9, and we are replaced in the middle."""
    settings = replace(
        settings, keys={"HF_TOKEN": hub.people.add("ada").token}, job_env=settings.job_env | {"HF_ENDPOINT": hub.url}
    )
    session = open_session(settings, Request(task="chains", dollars=1.0))
    lab, supervisor, journal = open_lab(settings, session)
    hub.jobs.close_logs_early = True
    lab.prepare("rows", "task", 200, 0.5)
    supervisor.start()
    settings_of_job = {"data": "data/rows.jsonl", "max_steps": 200, "save_steps": 10, "batch_size": 8, "log_steps": 2}
    job = lab.train("sft", settings_of_job, 0.5, "an idea", "c1", 0.1, machine="cpu-basic")["job"]
    folder = lab.folder / "jobs" / job
    until(lambda: journal.views.jobs[job].step > 12)  # while it runs: the curve is live
    supervisor.stop()
    lab, supervisor, journal = open_lab(settings, session)  # as a new worker does
    supervisor.start()
    trainer = trainer_of(hub)[0]
    os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: journal.views.jobs[job].attempt == 2)
    until(lambda: not journal.views.jobs[job].running)
    supervisor.stop()
    over = journal.views.jobs[job].ended
    assert over and over.state == "done" and over.result["resumed_from"] >= 10, over
    assert (folder / "model" / "model.safetensors").stat().st_size > 10**6
    steps = [fact.step for fact in lab.log if fact.kind == "progressed"]
    assert steps == sorted(steps) and steps[-1] == 200
    hours = sum(fact.seconds for fact in lab.log if fact.kind == "ended") / 3600
    assert journal.views.spent.dollars == pytest.approx(0.01 * hours, abs=2e-4) and hours > 0
    ran = list(hub.jobs.runs.values())
    assert "memory_gb" in journal.views.jobs[job].values  # what its machine said of itself
    lasted = sum((run.finished or 0) - (run.started or 0) for run in ran)
    assert hours * 3600 == pytest.approx(lasted, abs=len(ran))  # the Hub tells whole seconds
    assert len(ran) == 2 and all(run.spec["timeoutSeconds"] >= 0.5 * 3600 for run in ran)
    for run in ran:  # no token goes along, neither as a secret nor in a file
        assert not run.spec["secrets"] and "hf_" not in json.dumps(run.spec["environment"])
    sent = hub.repos.files("bucket", "ada/jobs-artifacts")
    assert not any(settings.keys["HF_TOKEN"].encode() in data for data in sent.values())


@pytest.mark.slow
def test_one_that_was_cancelled_keeps_the_last_checkpoint_that_had_left_its_machine(
    hub: Hub, rented: HFJobs, tmp_path: Path
):
    """The loopback Hub takes what a cancelled job writes in its last moments away, which the real one may do."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i}+1=", "completion": str(i + 1)}) + "\n" for i in range(300)))
    model = str(Path("starter/model").resolve())
    spec = spec_in(tmp_path, model=model, data=str(rows), max_steps=5000, save_steps=5, batch_size=8, log_steps=1)
    rented.launch(spec)
    complete = re.compile(r"out/checkpoints/checkpoint-\d+/complete$")
    until(lambda: any(complete.search(path) for path in hub.repos.files("bucket", "ada/jobs-artifacts")))
    assert rented.state(spec.folder).state == "running"
    rented.cancel(spec.folder)
    over = end_of(rented, spec.folder)
    assert (over.state, over.reason) == ("cancelled", "cancelled") and over.seconds > 0
    assert (spec.folder / "model" / "model.safetensors").is_file() and "loss" in log_tail(spec.folder)


@pytest.mark.parametrize(
    "happens, state, reason, killed",
    [
        (lambda jobs, job: jobs.delete(job), "failed", "it was deleted on the Hub", False),
        (lambda jobs, job: jobs.runs[job].settle("CANCELED"), "cancelled", "cancelled on the Hub", False),
        (lambda jobs, job: jobs.fail(job, "Job timeout"), "timeout", "Job timeout", False),
        (lambda jobs, job: jobs.fail(job, "Job failed with exit code: 137. Reason: OOMKilled"), "failed", "out of memory", False),
        (lambda jobs, job: jobs.fail(job, "Job failed with exit code: 137"), "failed", "exit code: 137", True),
        (lambda jobs, job: jobs.fail(job, "Node lost"), "failed", "Node lost", True),
        (lambda jobs, job: jobs.fail(job, "Job failed with exit code: 2"), "failed", "could not begin", False),
        (lambda jobs, job: jobs.runs.pop(job), "failed", "no longer knows it", False),
    ],
)  # fmt: skip
def test_every_end_that_the_hub_knows_is_read_as_what_it_is(
    hub: Hub, rented: HFJobs, tmp_path: Path, happens, state: str, reason: str, killed: bool
):
    """A signal means that another attempt may go well."""
    hub.jobs.stuck = True
    spec = spec_in(tmp_path)
    rented.launch(spec)
    waits = rented.state(spec.folder)
    assert (waits.state, waits.reason) == ("queued", "cpu-basic of Hugging Face Jobs is being set up")
    happens(hub.jobs, read_json(about_file(spec.folder))["id"])
    over = end_of(rented, spec.folder)
    assert over.state == state and reason in over.reason, over
    assert over.signal == (signal.SIGKILL if killed else None)
    again = HFJobs(rented._api)  # what was seen to end has ended
    assert again.state(spec.folder) == over


def test_a_job_that_cannot_be_run_says_so_in_one_sentence(hub: Hub, rented: HFJobs, tmp_path: Path):
    (tmp_path / "rows.jsonl").touch()
    nowhere = spec_in(tmp_path, data=str(tmp_path / "rows.jsonl"), model="ada/none")
    rented.launch(nowhere)
    assert "no such place" in rented.state(nowhere.folder).reason
    empty = spec_in(tmp_path, "sft-2", data=str(tmp_path / "rows.jsonl"), model=str(tmp_path))
    rented.launch(empty)
    over = end_of(rented, empty.folder)
    assert over.state == "failed" and over.signal is None and "rows.jsonl" not in over.reason and over.reason, over


def test_the_hub_may_fail_in_any_way_and_there_is_one_job(hub: Hub, rented: HFJobs, tmp_path: Path):
    hub.jobs.stuck = True
    spec = spec_in(tmp_path, data=str(tmp_path / "rows.jsonl"), model=str(tmp_path))
    (tmp_path / "rows.jsonl").touch()
    post = r"POST /api/jobs/ada$"
    hub.faults.add(post, status=500, times=9)
    with pytest.raises(LabError, match="cannot be reached for the job sft-1"):
        rented.launch(spec)
    asked = len(hub.faults.asked)
    with pytest.raises(LabError):  # a supervisor asks four times a second, and the Hub is not asked as often
        rented.launch(spec)
    assert len(hub.faults.asked) == asked and rented.state(spec.folder).state == "queued"
    hub.faults.clear()
    rented._tries.clear()
    hub.faults.add(post, lost=True)
    with pytest.raises(LabError):
        rented.launch(spec)
    rented._tries.clear()
    rented.launch(spec)
    assert len(hub.jobs.runs) == 1
    hub.faults.add(r"GET /api/jobs/ada/", status=503, times=5)
    hub.faults.add(r"GET /api/jobs/ada/", cut_after=5)
    hub.jobs.delete(next(iter(hub.jobs.runs)))
    assert end_of(rented, spec.folder).reason == "it was deleted on the Hub"


@pytest.mark.parametrize("status, said", [(402, "billing"), (403, "give it the right to run jobs")])
def test_a_refusal_of_the_hub_ends_a_job_before_it_began(hub: Hub, rented: HFJobs, tmp_path: Path, status, said):
    spec = spec_in(tmp_path, data=str(tmp_path / "rows.jsonl"), model=str(tmp_path))
    (tmp_path / "rows.jsonl").touch()
    hub.faults.add(r"POST /api/jobs/ada$", status=status)
    rented.launch(spec)
    over = rented.state(spec.folder)
    assert over.state == "failed" and said in over.reason and over.signal is None


def test_a_job_whose_token_has_ended_is_sent_with_the_next(hub: Hub, rented: HFJobs, tmp_path: Path):
    spec = spec_in(tmp_path, data=str(tmp_path / "rows.jsonl"), model=str(tmp_path))
    (tmp_path / "rows.jsonl").touch()
    hub.faults.add("", status=401, times=9)
    with pytest.raises(LabError, match=r"does not know this HF_TOKEN.*try again later"):
        rented.launch(spec)
    assert rented.state(spec.folder).state == "queued"
    hub.faults.clear()
    rented._tries.clear()
    hub.jobs.stuck = True
    rented.launch(spec)
    assert len(hub.jobs.runs) == 1
    hub.jobs.delete(next(iter(hub.jobs.runs)))
    assert end_of(rented, spec.folder).reason == "it was deleted on the Hub"


def test_one_that_nobody_wants_any_more_is_never_sent(hub: Hub, rented: HFJobs, tmp_path: Path):
    spec = spec_in(tmp_path)
    rented.cancel(spec.folder)
    rented.launch(spec)
    assert rented.state(spec.folder).state == "cancelled" and not hub.jobs.runs


def test_a_public_bucket_gets_nothing(hub: Hub, rented: HFJobs, tmp_path: Path):
    rented._api().create_bucket("ada/jobs-artifacts", private=False)
    (tmp_path / "rows.jsonl").touch()
    spec = spec_in(tmp_path, data=str(tmp_path / "rows.jsonl"), model=str(tmp_path))
    rented.launch(spec)
    assert "make it private" in rented.state(spec.folder).reason and not hub.repos.files("bucket", "ada/jobs-artifacts")


def test_whoever_is_asked_is_told_why_it_would_not_wait_and_nothing_is_rented_that_was_not_shown(
    hub: Hub, settings, tmp_path: Path
):
    env = settings.job_env | {"HF_ENDPOINT": hub.url}
    settings = replace(settings, keys={"HF_TOKEN": hub.people.add("ada").token}, job_env=env)
    lab, _, journal = open_lab(settings, open_session(settings, Request(task="chains", hours=0.5, dollars=1.0)))
    lab.prepare("rows", "task", 200, 0.5)
    asked = {"config": {"data": "data/rows.jsonl"}, "idea": "", "expected_gain": 0.1, "hours": 0.2}
    tool = Train(lab)
    assert tool.note(asked) == "" and not tool.price(asked)
    before = {"job": str(tmp_path / "other" / "jobs" / "sft-1"), "runner": identity(os.getpid()), "takes_s": 3600.0}
    ticket = Queue(settings.queue, holds_ticket).enter(before)
    assert tool.note(asked).startswith(
        "It would run on hf-jobs t4-small, at $0.4 an hour: it would wait about 60.0 min"
    )
    assert tool.price(asked) == pytest.approx(0.2 * 0.4)
    journal.append(Asked(call="c1", name="train", arguments=asked, reason="", dollars=0.0))  # it was to run here
    place = lab.place("auto", "sft", lab.checked("sft", asked["config"]), 0.2, "c1")
    assert place.here and not lab.place("auto", "sft", lab.checked("sft", asked["config"]), 0.2, "c2").here
    Queue(settings.queue, holds_ticket).leave(ticket)
    assert tool.note(asked) == ""


@pytest.mark.slow
def test_a_flavour_with_two_accelerators_trains_on_both(hub: Hub, rented: HFJobs, tmp_path: Path):
    offers = rented.machines()
    assert offers["hf-jobs a100x4"] == Machine("hf-jobs a100x4", "cuda", 80 * GIB, 10.0, 4)
    assert not offers["hf-jobs t4-small"].half and not offers["hf-jobs cpu-basic"].half
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i}+1=", "completion": str(i + 1)}) + "\n" for i in range(64)))
    model = str(Path("starter/model").resolve())
    spec = spec_in(tmp_path, model=model, data=str(rows), max_steps=4, batch_size=8, log_steps=1)
    rented.launch(replace(spec, machine="hf-jobs a10g-largex2"))
    assert end_of(rented, spec.folder).state == "done", log_tail(spec.folder)
    left = result(spec.folder)
    assert left["processes"] == 2 and left["of_each"]["batch_size"] == 4
    assert [point.step for point in metrics(spec.folder, 0)[0] if "loss" in point.values] == [1, 2, 3, 4]
    assert (spec.folder / "model" / "model.safetensors").is_file()


OUT = "ml-intern/session/sft-1/out"
EXIT = {"state": "done", "code": 0, "attempt": 1, "starved": False, "seconds": 1.0, "files": {}}
CHECKPOINT = {
    "checkpoints/checkpoint-5/model.safetensors": b"WHOLE",
    "checkpoints/checkpoint-5/config.json": b"{}",
    "checkpoints/checkpoint-5/complete": b"",
    "metrics.jsonl": b'{"step": 5, "steps": 9, "at": 1.0, "loss": 1.0}\n',
}


def sent(hub: Hub, rented: HFJobs, folder: Path, left: dict[str, bytes], started: bool = True) -> JobSpec:
    """A job that is on the Hub, and what it has left in the bucket."""
    hub.jobs.stuck = True
    (folder / "rows.jsonl").touch()
    spec = spec_in(folder, data=str(folder / "rows.jsonl"), model=str(folder / "none"))
    (folder / "none").mkdir()
    rented.launch(spec)
    if started:
        next(iter(hub.jobs.runs.values())).started = time.time() - 9
    added = [(data, f"{OUT}/{name}") for name, data in left.items()]
    rented._api().batch_bucket_files("ada/jobs-artifacts", add=added)
    return spec


def settle(hub: Hub, stage: str) -> None:
    next(iter(hub.jobs.runs.values())).settle(stage)


@pytest.mark.parametrize("later", ["cancel", "refuse"])
def test_a_job_whose_making_was_never_answered_is_looked_for_before_anything_else(
    hub: Hub, rented: HFJobs, tmp_path: Path, later: str
):
    hub.jobs.stuck = True
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "none").mkdir()
    spec = spec_in(tmp_path, data=str(tmp_path / "rows.jsonl"), model=str(tmp_path / "none"))
    hub.faults.add(r"POST /api/jobs/ada$", lost=True)
    with pytest.raises(LabError):
        rented.launch(spec)
    rented._tries.clear()
    if later == "refuse":
        hub.faults.add("GET /api/whoami", status=403)
        with pytest.raises(LabError):  # no end: there may be a machine that costs money
            rented.launch(spec)
        rented._tries.clear()
    rented.cancel(spec.folder)
    rented.launch(spec)
    assert end_of(rented, spec.folder).state == "cancelled"
    assert [run.stage for run in hub.jobs.runs.values()] == ["CANCELED"]


def test_one_that_ended_well_is_waited_for_and_never_run_again(hub: Hub, rented: HFJobs, tmp_path: Path):
    rented._saving = 60
    spec = sent(hub, rented, tmp_path, {})
    settle(hub, "COMPLETED")
    until(lambda: rented._ears[spec.folder].ended)  # seen, and nothing has come yet
    exit = json.dumps(EXIT | {"files": {"model/config.json": 2}}).encode()
    files = {"exit.json": exit, "result.json": b'{"ok": true}', "model/config.json": b"{}"}  # they come one by one
    rented._api().batch_bucket_files("ada/jobs-artifacts", add=[(data, f"{OUT}/{n}") for n, data in files.items()])
    assert end_of(rented, spec.folder).state == "done" and (spec.folder / "model" / "config.json").is_file()
    other = tmp_path / "other"
    other.mkdir()
    hub.jobs.runs.clear()
    rented._saving = 1
    spec = sent(hub, rented, other, {"exit.json": json.dumps(EXIT | {"attempt": 9}).encode()})
    settle(hub, "COMPLETED")
    over = end_of(rented, spec.folder)
    assert (over.state, over.signal) == ("failed", None) and "did not come back" in over.reason


@pytest.mark.parametrize("orderly", [True, False])
def test_a_job_that_was_cut_short_has_its_best_checkpoint_and_no_half_model(
    hub: Hub, rented: HFJobs, tmp_path: Path, orderly: bool
):
    said = {"exit.json": json.dumps(EXIT | {"state": "cancelled", "code": 143}).encode()}
    half = {"model/config.json": b"{}", "model/model.safetensors": b"HALF"}
    spec = sent(hub, rented, tmp_path, CHECKPOINT | (said if orderly else half))
    settle(hub, "CANCELED")
    assert end_of(rented, spec.folder).state == "cancelled"
    assert (spec.folder / "model" / "model.safetensors").read_bytes() == b"WHOLE"


def test_what_a_job_left_counts_when_the_hub_has_forgotten_it(hub: Hub, rented: HFJobs, tmp_path: Path):
    spec = sent(hub, rented, tmp_path, {"exit.json": json.dumps(EXIT).encode(), "result.json": b'{"ok": true}'})
    hub.jobs.runs.clear()
    assert end_of(rented, spec.folder).state == "done" and result(spec.folder) == {"ok": True}


DAYS_AGO = time.time() - 2 * 86400


def forgotten(rented: HFJobs, spec: JobSpec, hub: Hub) -> None:
    """It began two days ago, and the Hub has no word of it any more."""
    write_json(about_file(spec.folder), read_json(about_file(spec.folder)) | {"started": DAYS_AGO})
    hub.jobs.runs.clear()


def test_a_job_that_is_found_days_later_costs_what_the_hub_counts(hub: Hub, rented: HFJobs, tmp_path: Path):
    spec = sent(hub, rented, tmp_path, {"exit.json": json.dumps(EXIT | {"seconds": 7.0}).encode()})
    (run,) = hub.jobs.runs.values()
    run.started, run.finished, run.stage = DAYS_AGO, DAYS_AGO + 4000.6, "COMPLETED"
    over = end_of(rented, spec.folder)
    assert over.state == "done" and over.seconds == pytest.approx(run.finished - run.started, abs=1)
    price = rented.price(spec.machine)
    assert price and hub.jobs.spent("ada") == pytest.approx(
        over.seconds / 3600 * price, abs=price / 60
    )  # by the minute
    job = rented._api().inspect_job(job_id=run.id, namespace="ada")
    job.durations = None  # the client says that this may be
    assert _ran(spec.folder, {}, job, EXIT) == pytest.approx(4000.6, abs=0.01)


@pytest.mark.parametrize(
    ("left", "sign", "seconds"),
    [
        ({"seconds": 42.5}, None, 42.5),
        ({"seconds": 1e9}, None, 1860),  # 0.1 hours, 900 s, and 600 s for a last save: what the Hub lets it run
        ({"seconds": "long"}, 100, 100),  # it said nothing; its log came for so long
        (None, 100, 100),
        (None, 86400, 1860),
        (None, None, 0),
    ],
)
def test_of_one_that_the_hub_has_forgotten_its_own_word_or_its_last_sign_of_life_counts(
    hub: Hub, rented: HFJobs, tmp_path: Path, left, sign, seconds
):
    spec = sent(hub, rented, tmp_path, {"exit.json": json.dumps(EXIT | left).encode()} if left else {})
    if sign:
        (spec.folder / "log.txt").touch()
        os.utime(spec.folder / "log.txt", (DAYS_AGO + sign, DAYS_AGO + sign))
    forgotten(rented, spec, hub)
    over = end_of(rented, spec.folder)
    assert (over.state, over.seconds) == ("done" if left else "failed", pytest.approx(seconds, abs=0.1))


def test_the_hub_ends_a_job_after_twice_what_was_foretold_or_its_hours(hub: Hub, rented: HFJobs, tmp_path: Path):
    hub.jobs.stuck = True
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "none").mkdir()
    hour = 3600.0
    for at, (takes, runs) in enumerate(((None, 8 * hour), (hour, 2 * hour), (6 * hour, 8 * hour), (60.0, hour / 2))):
        spec = spec_in(tmp_path, f"sft-{at}", data=str(tmp_path / "rows.jsonl"), model=str(tmp_path / "none"))
        rented.launch(replace(spec, hours=8.0, takes_s=takes))
        run = list(hub.jobs.runs.values())[-1]
        assert run.spec["timeoutSeconds"] == runs + 900 + 600, (
            takes
        )  # 900: what it needs is installed, and what it made is brought
        told = hub.repos.files("bucket", "ada/jobs-artifacts")[f"ml-intern/session/sft-{at}/job.json"]
        assert json.loads(told)["hours"] * hour == runs, "its own deadline comes before the Hub's, so that it saves"
        hub.jobs.delete(run.id)


def test_one_that_has_ended_itself_for_its_time_says_so_and_keeps_its_model(hub: Hub, rented: HFJobs, tmp_path: Path):
    left = json.dumps(EXIT | {"state": "timeout", "code": 143}).encode()
    spec = sent(hub, rented, tmp_path, CHECKPOINT | {"exit.json": left})
    settle(hub, "ERROR")
    assert pried(hub, "ada") == set(), "neither its parcel, nor what it left, nor itself"
    over = end_of(rented, spec.folder)
    assert (over.state, over.signal) == ("timeout", None) and over.reason.startswith("ran longer than its hours")
    assert (spec.folder / "model" / "model.safetensors").read_bytes() == b"WHOLE"


def test_nothing_that_a_job_says_leaves_the_others_unwatched(hub: Hub, rented: HFJobs, tmp_path: Path):
    ear = Ear(tmp_path)
    for at in ("Infinity", "-1", "1e30", '"x"', "null", str(2**40)):
        ear.hear([f'{MARK}{{"file": "metrics.jsonl", "at": {at}, "of": 1, "text": ""}}', "a word"])
    assert (tmp_path / "log.txt").read_text() == "a word\n" and not (tmp_path / "metrics.jsonl").exists()
    odd = {"exit.json": b'{"attempt": 1, "state": ["done"], "code": 1e400}'}
    spec = sent(hub, rented, tmp_path, odd)
    settle(hub, "ERROR")
    assert end_of(rented, spec.folder).signal  # it is as if it had left nothing


def test_a_model_of_the_hub_is_mounted_as_it_was_at_the_first_launch_and_the_card_says_so(hub: Hub, settings):
    token, env = hub.people.add("ada").token, settings.job_env | {"HF_ENDPOINT": hub.url}
    settings = replace(settings, keys={"HF_TOKEN": token}, job_env=env)
    api = HfApi(endpoint=hub.url, token=token)
    api.create_repo("ada/base", private=True)
    api.upload_folder(repo_id="ada/base", folder_path=STARTER)
    head = api.model_info("ada/base").sha
    asked = Request(task="chains", model="ada/base", dollars=1.0)
    lab, supervisor, _ = open_lab(settings, open_session(settings, asked))
    lab.prepare("rows", "task", 200, 0.5)
    hub.jobs.stuck = True
    lab.train("sft", {"data": "data/rows.jsonl", "max_steps": 9}, 0.5, "", "c1", 0.1, machine="cpu-basic")
    api.upload_file(path_or_fileobj=b"other", path_in_repo="README.md", repo_id="ada/base")
    assert api.model_info("ada/base").sha != head
    hub.jobs.fail(next(iter(hub.jobs.runs)), "Node lost")
    supervisor.start()
    until(lambda: len(hub.jobs.runs) == 2)
    supervisor.stop()
    mounted = [volume for run in hub.jobs.runs.values() for volume in run.spec["volumes"] if volume["type"] == "model"]
    assert [(one["source"], one.get("revision")) for one in mounted] == [("ada/base", head)] * 2
    assert f"[ada/base](https://huggingface.co/ada/base), revision `{head}`" in model_card(
        lab.log, "sft-1", "t", [], False
    )


def test_whoever_is_asked_is_told_that_the_hours_are_too_few(settings):
    lab, _, journal = open_lab(settings, open_session(settings, Request(task="chains")))
    lab.prepare("rows", "task", 200, 0.5)
    config, machine = lab.checked("sft", {"data": "data/rows.jsonl", "max_steps": 10}), this_machine()
    journal.append(
        Launched(job="sft-1", recipe="sft", config=config, machine=machine, hours=1.0, folder="jobs/sft-1"),
        Progressed(job="sft-1", step=10, steps=10, values={"loss": 1.0}),
        Ended(job="sft-1", state="done", seconds=360.0),
    )
    tool, asked = (
        Train(lab),
        {"config": {"data": "data/rows.jsonl", "max_steps": 100}, "idea": "", "expected_gain": 0.1},
    )
    said = tool.note(asked | {"hours": 0.5})  # 36 s a step, as the last one
    assert said == "The job takes about 60.0 min and is ended after 30.0 min. Give it 1.2 hours, or at most 41 steps."
    assert tool.note(asked | {"hours": 1.1}) == ""


def test_a_measurement_on_a_rented_machine_is_asked_for_and_paid_within_the_cap(hub: Hub, settings, tmp_path: Path):
    keys, env = {"HF_TOKEN": hub.people.add("ada").token}, settings.job_env | {"HF_ENDPOINT": hub.url}
    settings = replace(settings, keys=keys, job_env=env)
    large = {"hidden_size": 4096, "num_attention_heads": 32, "vocab_size": 1000, "model_type": "llama"}
    layers = int(1.1 * ram() / 4 / (16 * 4096**2))  # more than this machine has memory for
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_text(json.dumps(large | {"num_hidden_layers": layers}))
    asked = Request(task="chains", model=str(tmp_path / "large"), dollars=0.01, approval="ask")
    lab, _, journal = open_lab(settings, open_session(settings, asked))
    tool, measure = Evaluate(lab), {"model": "base", "split": "dev"}
    price = tool.price(measure)
    assert price and price <= 0.01 and "It would run on hf-jobs " in tool.note(measure)
    assert judge(tool.effect, price, journal.views, datetime.now(UTC)).kind == "ask"
    hub.jobs.stuck = True
    with pytest.raises(Stopped):
        lab.check = stop  # as soon as it waits
        lab.measure("base", "dev", "c1")
    job = journal.views.jobs["evaluate-1"]
    assert not job.machine.startswith("local") and job.price and job.hours * job.price <= 0.0101


def stop() -> None:
    raise Stopped
