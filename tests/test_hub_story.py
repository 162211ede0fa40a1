"""One session of a Space on the Hub, from a sign-in to a published model; in the middle of its training everything here is lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from agent.settings import ROOT
from record.journal import Journal
from record.log import Log
from tests.chat.server import chat_server
from tests.chat.turns import says
from tests.conftest import cli_environment, free_port, until
from tests.hub import Hub, serve
from tests.hub.prying import pried
from tests.ui.visitors import Space, environment

CONFIG = {"data": "data/rows.jsonl", "max_steps": 150, "save_steps": 25, "lr": 2e-3}
# What a session has to do with the Hub: a sign-in, its mirror, its job, what it publishes.
ASKED = r"""(?x)
    GET\ /(\.well-known/openid-configuration|oauth/(jwks|authorize|userinfo)) | POST\ /oauth/(authorize|token)
    | GET\ /api/whoami-v2 | POST\ /api/(repos/create|validate-yaml)
    | (GET|POST|HEAD)\ (/api)?/datasets/ada/ml-intern-sessions(/.*|\.git/.*)?
    | (GET|POST|HEAD)\ (/api/models)?/ada/sums(/.*|\.git/.*)?
    | (GET|POST)\ /api/buckets/ada/(jobs-artifacts|ml-intern-jobs)(/.*)? | (GET|HEAD)\ /buckets/ada/.*
    | GET\ /api/jobs/(hardware|ada(/\w+(/logs|/metrics)?)?) | POST\ /api/jobs/ada(/\w+/cancel)?
    | (GET|POST)\ /cas/.* | (GET|HEAD)\ /xorbs | (PUT|POST)\ /lfs/.*
"""
SCRIPT = (
    ("evaluate", {"model": "base", "split": "dev"}),
    ("evaluate", {"model": "base", "split": "heldout"}),
    ("prepare_data", {"name": "rows", "rows": 2500, "worked": 1.0}),
    ("train", {"config": CONFIG, "idea": "worked solutions", "expected_gain": 0.8, "machine": "cpu-basic"}),
    ("wait", {"job": "sft-1"}),  # until it is warned that this is learned very fast
    ("wait", {"job": "sft-1"}),
    ("evaluate", {"model": "sft-1", "split": "dev"}),
    ("promote", {"model": "sft-1"}),
    ("evaluate", {"model": "best", "split": "heldout"}),
    ("publish", {"what": "model", "to": "ada/sums"}),
    ("final_answer", {"answer": "It is published."}),
)


@contextmanager
def page(env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """The page and its worker, which lead a group of their own."""
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout and "ML Intern is at" in process.stdout.readline()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def mirrored(hub: Hub, name: str) -> bool:
    return any(path.endswith(name) for path in hub.repos.files("dataset", "ada/ml-intern-sessions"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_session_outlives_its_space_and_publishes_what_it_measured(settings, tmp_path: Path):
    env = cli_environment(settings)
    with serve(tmp_path / "hub") as hub, chat_server([says("", call) for call in SCRIPT]) as model:
        hub.people.add("ada")
        port = free_port()
        env |= environment(hub, port) | {"ML_INTERN_API_BASE": model.base}
        space = Space(f"http://127.0.0.1:{port}", hub)
        home = settings.home / "people" / "ada" / "sessions"
        with page(env) as first, space.visitor(space.sign_in("ada")) as ada:
            asked = {"text": "Make it add.", "task": "chains", "driver": "openai/m", "target": 0.9, "dollars": 1.0}
            session = ada.post("/api/sessions", json=asked).raise_for_status().json()["session"]
            journal = Journal(Log(home / session / "events.jsonl"))
            until(lambda: "sft-1" in journal.views.jobs and journal.views.jobs["sft-1"].step > 0)  # the curve is live
            assert journal.views.jobs["sft-1"].machine == "hf-jobs cpu-basic"
            until(lambda: mirrored(hub, ".sft-1.hf-job.json"))
            seen = len(journal.log)
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        shutil.rmtree(settings.home)
        with page(env), space.visitor(space.sign_in("ada")) as ada:
            until(lambda: (home / session / "events.jsonl").exists(), 60)
            journal = Journal(Log(home / session / "events.jsonl"))
            until(lambda: journal.views.waiting, 400)  # before it publishes
            question = journal.views.waiting[0]
            ada.post(f"/api/sessions/{session}/decide", json={"call": question.call, "allow": True}).raise_for_status()
            until(lambda: journal.views.settled, 120)
            told = ada.get(f"/api/sessions/{session}/log").text
        views, job = journal.views, journal.views.jobs["sft-1"]
        assert seen > 10 and job.state == "done" and job.attempt == 1, job.ended
        assert len(hub.jobs.runs) == 1  # the very job that ran on while nobody was here
        score = views.score("sft-1", "heldout")
        assert views.best == "sft-1" and score and score.value > 0.5 and score.n == 400
        card = hub.repos.files("model", "ada/sums")["README.md"].decode()
        result = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]["metrics"][0]
        assert result["value"] == pytest.approx(score.value, abs=1e-9)
        assert f"| {score.value:.3f} | {score.low:.3f} to {score.high:.3f} |" in card
        assert [fact.where for fact in journal.log if fact.kind == "published" and fact.what == "model"]
        assert {run.stage for run in hub.jobs.runs.values()} == {"COMPLETED"}
        for kind, name in (("bucket", "jobs-artifacts"), ("dataset", "ml-intern-sessions"), ("model", "sums")):
            assert hub.repos.files(kind, f"ada/{name}")
        strange = {f"{method} {path}" for _, method, path, _ in hub.faults.asked}
        assert not [line for line in sorted(strange) if not re.fullmatch(ASKED, line)], (
            "nothing is told to the Hub beside"
        )
        assert pried(hub, "ada") == set()
        assert not re.search(r"hf_\w{8}", told + json.dumps(model.requests, default=str) + card)
