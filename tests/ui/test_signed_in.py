"""A person's token stays where it belongs, and their sessions outlive every process: a real Space, its worker and its Hub."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agent.settings import ROOT
from record.journal import Journal
from record.log import Log
from tests.agent.test_canary import CALLS, CANARIES, _tree, spying
from tests.chat.server import chat_server
from tests.chat.turns import says
from tests.conftest import cli_environment, free_port, until
from tests.hub import serve
from tests.ui.visitors import Space, environment


@contextmanager
def running(env: dict[str, str], said: list[str]) -> Iterator[subprocess.Popen]:
    """The page with its worker. What it prints is added to `said`."""
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and "ML Intern is at" in process.stdout.readline()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=30)


def worker_of(page: subprocess.Popen) -> int | None:
    def command(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return ""

    return next((pid for pid in _tree(page.pid) if "agent\0worker" in command(pid)), None)


@pytest.fixture
def away(tmp_path) -> Iterator:
    with serve(tmp_path / "hub") as hub:
        hub.people.add("ada")
        yield hub


@pytest.mark.slow
def test_a_token_is_nowhere_to_be_seen_and_no_restart_loses_a_session(settings, away):
    port, said = free_port(), []
    turns = [says("", CALLS[0])] + [says("Nothing more to do.")] * 20  # the first looks for keys wherever it can
    with chat_server(turns) as server:
        keys = {name: value for name, value in CANARIES.items() if name in ("ML_INTERN_API_KEY", "ANTHROPIC_API_KEY")}
        secret = away.people.add("ada").token  # of the Space, and so hers
        env = cli_environment(settings) | environment(away, port) | keys
        env |= {"ML_INTERN_API_BASE": server.base, "HF_TOKEN": secret}
        space = Space(f"http://127.0.0.1:{port}", away)
        with running(env, said) as page:
            until(lambda: _answers(space.url), 30)
            cookie = space.sign_in("ada")
            token = space.token_of("ada")
            with (
                spying(page.pid, re.compile(f"{re.escape(token)}|{re.escape(secret)}")) as spy,
                space.visitor(cookie) as ada,
            ):
                session = _opened(ada, driver="openai/m")
                ada.post(
                    f"/api/sessions/{session}/say", json={"text": f"My tokens are {token} and {secret}."}
                ).raise_for_status()
                journal = _journal(settings.home, session)
                assert journal.wait(lambda views: views.settled, 120)
                own = f"/api/sessions/{session}"
                paths = ("/", "/config", "/api/health", "/api/check", "/api/sessions", own)
                shown = [ada.get(path).text for path in (*paths, f"{own}/log", f"{own}/report", f"{own}/files")]
            assert any("agent worker" in command for command in spy.seen) and any(
                "bash /dev/fd/" in command for command in spy.seen
            )
            assert not spy.caught
            before = worker_of(page)
            assert before
            os.kill(before, signal.SIGKILL)
            with space.visitor(cookie) as ada:
                again = _journal(settings.home, _opened(ada, driver="openai/m"))
            assert again.wait(
                lambda views: views.settled and views.replied, 60
            )  # the next worker has been told who is signed in
            assert worker_of(page) != before
        with running(env, said), space.visitor(cookie) as ada:
            until(lambda: _answers(space.url), 30)
            assert ada.get("/api/health").json()["person"] == "ada"
            count = again.views.spent.replies
            ada.post(f"/api/sessions/{again.log.path.parent.name}/say", json={"text": "Go on."}).raise_for_status()
            assert again.wait(lambda views: views.settled and views.spent.replies > count, 60)
        requests = repr(server.requests) + repr(server.headers)
    assert "looked everywhere" in journal.log.path.read_text() and "[redacted]" in journal.log.path.read_text()
    hidden = (token, secret, "a-secret-of-the-space")
    assert not [text for text in (*shown, *said, requests) if any(one in text for one in hidden)]
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert settings.home / "signed-in" in files
    assert not [path for path in files if any(one.encode() in path.read_bytes() for one in (token, secret))]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health").is_success
    except httpx.HTTPError:
        return False


def _opened(client: httpx.Client, **more) -> str:
    asked = {"text": "look for keys", "task": "chains"} | more
    return client.post("/api/sessions", json=asked).raise_for_status().json()["session"]


def _journal(home: Path, session: str) -> Journal:
    return Journal(Log(home / "people" / "ada" / "sessions" / session / "events.jsonl"))
