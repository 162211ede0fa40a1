"""What is heard of a rented machine beside its log, whose token ends or may little, and how long who waits for a job waits."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from agent.session import Session
from agent.sessions import Request, open_session
from lab.backend import JobSpec, write_json
from lab.backends.ear import Ear
from lab.backends.folder import metrics, result
from lab.backends.gauge import FILE, Gauge, events
from lab.backends.hf_jobs import DEAF, HFJobs, about_file
from lab.backends.runner import cancel_file, run_file
from lab.diagnose import diagnose
from lab.processes import identity
from recipes.remote import MARK
from record.events import Closed, Launched
from tests.conftest import until
from tests.hub import Hub
from tests.lab.test_hf_jobs import EXIT, OUT, end_of, sent, settle, spec_in
from tests.scripted import open_lab

RENTED = Launched(job="sft-1", recipe="sft", config={}, machine="hf-jobs cpu-basic", hours=1, folder="jobs/sft-1")
# A trainer that logs a step each 50 ms, as recipes.remote says it.
SAYS = f"""
import json, time
at = 0
for step in range(1, 10**6):
    text = json.dumps({{"step": step, "steps": 10**6, "at": time.time(), "loss": 1.0}}) + "\\n"
    print({MARK!r} + json.dumps({{"file": "metrics.jsonl", "at": at, "of": at + len(text), "text": text}}), flush=True)
    at += len(text)
    time.sleep(0.05)
"""


@pytest.fixture
def hub(hub: Hub) -> Hub:
    hub.jobs.metrics_s = 0.02
    return hub


@pytest.fixture
def heard(hub: Hub, tmp_path: Path) -> Iterator[Path]:
    """The folder of a job whose machine with a GPU is listened to."""
    api = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    job = api.run_job(image="any", command=["python", "-c", SAYS], flavor="t4-small", namespace="ada")
    asked, folder = {"job_id": job.id, "namespace": "ada"}, tmp_path / "sft-1"
    folder.mkdir()
    until(lambda: hub.jobs.runs[job.id].stage == "RUNNING")
    Ear(folder, every=0).listen(lambda: api.fetch_job_logs(follow=True, **asked), lambda: events(api, **asked))
    yield folder
    api.cancel_job(**asked)


def gpu(folder: Path) -> list[float]:
    return [point.values["gpu_util"] for point in metrics(folder, 0)[0] if "gpu_util" in point.values]


def said(folder: Path) -> dict[str, str]:
    spec = JobSpec("sft-1", "sft", {}, folder, "hf-jobs t4-small", 1e6)
    return {finding.rule: finding.level for finding in diagnose(metrics(folder, 0)[0], spec, {})}


def test_how_a_rented_machine_is_used_is_part_of_the_curve_and_a_gpu_that_idles_is_a_warning(hub: Hub, heard: Path):
    until(lambda: len(gpu(heard)) >= 20, 30)
    points = metrics(heard, 0)[0]
    assert points[-1].values.keys() >= {"loss"} and {p.values.get("gpu_memory_gb") for p in points} <= {8.0, None}
    assert set(gpu(heard)) == {90.0} and not said(heard)
    assert "gpu" not in (heard / "metrics.jsonl").read_text()  # that is its trainer's, to the byte
    before, hub.jobs.gpu_percent = len(gpu(heard)), 5
    until(lambda: len(gpu(heard)) >= before + 24, 30)
    assert said(heard) == {"gpu_idle": "warn"}


@pytest.mark.parametrize("trouble", [{"status": 403}, {"status": 500}, {"cut_after": 0}])
def test_readings_that_do_not_come_harm_neither_the_log_nor_the_curve(hub: Hub, request, trouble: dict):
    hub.faults.add(r"GET .*/metrics$", times=99, **trouble)
    folder = request.getfixturevalue("heard")
    until(lambda: len(metrics(folder, 0)[0]) >= 10, 30)
    assert not gpu(folder)
    assert sum(row[2].endswith("/metrics") for row in hub.faults.asked) <= 1  # the Hub is not asked again and again


def test_a_curve_says_how_the_machine_is_used_each_few_seconds_and_once(tmp_path: Path):
    event = {"cpu_usage_pct": 50, "memory_used_bytes": 2e9, "gpus": {}}
    odd = [None, [], {}, {"gpus": 1}, event | {"cpu_usage_pct": float("nan")}, event | {"cpu_usage_pct": "x"}]
    rows = [json.dumps({"step": step, "at": float(step), "loss": 1.0}) + "\n" for step in range(1, 7)]
    ends = [sum(map(len, rows[: i + 1])) for i in range(6)]
    told = [json.dumps({"file": "metrics.jsonl", "at": end - len(row), "of": end, "text": row}) for row, end in zip(rows, ends, strict=True)]  # fmt: skip
    ear = Ear(tmp_path, every=1000)
    ear._gauge.read([*odd, event, event | {"cpu_usage_pct": 100}])
    for _ in range(2):  # a log is heard from its beginning again and again
        ear.hear(MARK + line for line in told)
        ear._gauge.read([event])
    points, _ = metrics(tmp_path, 0)
    assert [p.values.get("cpu_util") for p in points] == [75.0, *[None] * 5] and points[0].values["memory_gb"] == 2.0
    assert metrics(tmp_path, ends[2])[0] == points[3:] and len((tmp_path / FILE).read_text().splitlines()) == 1
    gauge = Gauge(tmp_path, every=0)
    gauge.read([event])
    gauge.mark(b"no line of metrics\n")
    gauge.mark(b"")
    gauge.mark(rows[-1].encode())
    assert metrics(tmp_path, 0)[0][-1].values == {"loss": 1.0, "cpu_util": 50.0, "memory_gb": 2.0}


@pytest.mark.parametrize("scopes", [None, ("jobs", "contribute-repos")], ids=["ended", "may not see the bucket"])
def test_a_job_is_not_lost_while_the_token_is_of_no_use_and_ends_with_the_next(hub: Hub, tmp_path: Path, scopes):
    tokens = [hub.people.add("ada").token]
    rented = HFJobs(lambda: HfApi(endpoint=hub.url, token=tokens[-1]), look=0.05, saving=0.1)
    exit = json.dumps(EXIT).encode()
    spec = sent(hub, rented, tmp_path, {"exit.json": exit, "result.json": b'{"ok": true}'}, started=False)
    run = next(iter(hub.jobs.runs.values()))
    run.begin()
    until(lambda: rented.state(spec.folder).state == "running")
    tokens.append(hub.people.add("ada", scopes=scopes).token if scopes else "hf_that_has_ended")
    before = len(hub.faults.asked)
    run.settle("COMPLETED")

    def refused() -> int:
        path, status = ("/tree", 404) if scopes else (f"/api/jobs/ada/{run.id}", 401)
        return sum(path in row[2] and row[3] == status for row in hub.faults.asked[before:])

    until(lambda: refused() >= 5, 30)  # it is looked at again and again
    assert rented.state(spec.folder).state == "running"
    rented._ears[spec.folder].heard -= DEAF
    assert scopes or rented.state(spec.folder).unseen  # so its silence is no reason to end it
    tokens.append(hub.people.add("ada").token)
    assert end_of(rented, spec.folder).state == "done" and result(spec.folder) == {"ok": True}


def ready(folder: Path) -> JobSpec:
    (folder / "rows.jsonl").touch()
    (folder / "none").mkdir()
    return spec_in(folder, data=str(folder / "rows.jsonl"), model=str(folder / "none"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_who_watches_and_dies_is_followed_by_another(hub: Hub, tmp_path: Path):
    """An error that nobody foresaw ended the thread, and with it every rented job was looked at no more."""
    api, broken = HfApi(endpoint=hub.url, token=hub.people.add("ada").token), False

    def client() -> HfApi:
        return 1 // 0 if broken else api  # type: ignore[return-value]

    hub.jobs.stuck = True
    rented, spec = HFJobs(client, look=0.05, saving=0.1), spec_in(tmp_path)
    rented.launch(spec)
    assert rented.state(spec.folder).state == "queued"
    watcher, broken = rented._thread, True
    watcher.join(10)
    assert not watcher.is_alive()
    broken = False
    hub.jobs.runs[json.loads(about_file(spec.folder).read_text())["id"]].settle("CANCELED")
    assert end_of(rented, spec.folder).state == "cancelled"


def test_a_sign_in_that_has_only_what_it_makes_has_a_bucket_of_its_own(hub: Hub, tmp_path: Path):
    """The other one was made with a token of the settings page, by huggingface_hub or by us."""
    HfApi(endpoint=hub.url, token=hub.people.add("ada").token).create_bucket("ada/jobs-artifacts", private=True)
    api = HfApi(endpoint=hub.url, token=hub.people.add("ada", scopes=("jobs", "contribute-repos"), app="space").token)
    rented, spec = HFJobs(lambda: api, look=0.05, saving=0.1), ready(tmp_path)
    hub.jobs.stuck = True
    rented.launch(spec)
    assert not hub.repos.files("bucket", "ada/jobs-artifacts")
    left = {"exit.json": json.dumps(EXIT).encode(), "result.json": b'{"ok": true}'}
    api.batch_bucket_files("ada/ml-intern-jobs", add=[(data, f"{OUT}/{name}") for name, data in left.items()])
    settle(hub, "COMPLETED")
    assert end_of(rented, spec.folder).state == "done" and result(spec.folder) == {"ok": True}


@pytest.mark.parametrize(
    "made, scopes, fault",
    [(False, ("jobs",), None), (True, ("jobs", "read-repos"), None), (False, ("jobs", "contribute-repos"), 401)],
    ids=["none can be made", "one can only be read", "the Hub says 401 for it"],
)
def test_without_a_bucket_nothing_is_rented_and_the_reason_names_the_scope(
    hub: Hub, tmp_path: Path, made: bool, scopes, fault
):
    if made:
        HfApi(endpoint=hub.url, token=hub.people.add("ada").token).create_bucket("ada/jobs-artifacts", private=True)
    token = hub.people.add("ada", scopes=scopes).token
    if fault:
        hub.faults.add("/api/buckets/", status=fault, times=99)
    rented, spec = HFJobs(lambda: HfApi(endpoint=hub.url, token=token)), ready(tmp_path)
    rented.launch(spec)
    over = rented.state(spec.folder)
    assert over.state == "failed" and over.signal is None and not hub.jobs.runs
    assert "may write in no bucket of ada" in over.reason and "write-repos" in over.reason


def test_who_runs_too_long_is_ended_where_nobody_else_would(hub: Hub, settings):
    """A job here whose runner died; the Hub ends its own."""
    keys, env = {"HF_TOKEN": hub.people.add("ada").token}, settings.job_env | {"HF_ENDPOINT": hub.url}
    settings = replace(settings, keys=keys, job_env=env)
    lab, supervisor, journal = open_lab(settings, open_session(settings, Request(task="chains")))
    trainer = subprocess.Popen(["sleep", "60"])
    here, away = lab.folder / "jobs" / "sft-1", lab.folder / "jobs" / "sft-2"
    here.mkdir(parents=True)

    def ran(seconds: float) -> None:
        write_json(run_file(here), {"trainer": identity(trainer.pid), "started": time.time() - seconds})
        supervisor.tick()

    journal.append(RENTED.model_copy(update={"machine": "local"}))
    write_json(here / "job.json", {"attempt": 1})
    ran(3600 + 30)
    assert not cancel_file(here).exists()
    ran(3600 + 61)
    assert trainer.wait(10) and cancel_file(here).exists()
    supervisor.tick()
    assert journal.views.jobs["sft-1"].state == "cancelled"
    about = {"attempt": 1, "id": "gone", "owner": "ada", "place": "x", "flavor": "cpu-basic"}
    write_json(about_file(away), about | {"started": time.time() - 9999})
    journal.append(RENTED.model_copy(update={"job": "sft-2", "folder": "jobs/sft-2"}))
    supervisor.tick()
    assert journal.views.jobs["sft-2"].running and not cancel_file(away).exists()


def test_a_session_that_ends_waits_for_the_last_words_of_its_rented_jobs(hub: Hub, settings, tmp_path: Path):
    keys, env = {"HF_TOKEN": hub.people.add("ada").token}, settings.job_env | {"HF_ENDPOINT": hub.url}
    settings = replace(settings, keys=keys, job_env=env)
    hub.jobs.stuck = True
    session = Session.open(settings, Request(task="chains"))
    spec = ready(tmp_path)
    session.log.append(RENTED.model_copy(update={"config": spec.config}), Closed(outcome="stopped", reason="x"))
    closed = session.run()
    assert closed.outcome == "stopped" and session.views.jobs["sft-1"].state == "cancelled"
    assert "cancelled" in (session.folder / "report.md").read_text()
