"""Messages to a person's chat: what is sent, when, how often. A real server on loopback takes them."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agent.settings import SettingsError, read
from agent.steering import halt, say
from agent.webhook import FILE, Webhook
from record.events import Call, Closed, Halted, Replied
from tests.conftest import cli_environment

TRAIN = Call(
    id="c1", name="train", arguments={"config": {"data": "data/none.jsonl"}, "idea": "try", "expected_gain": 0.1}
)
PATH = "/services/T0/secret-of-the-hook"


@dataclass
class Chat:
    """What a chat's server was sent, when, and how it answers: a status, or seconds to be silent."""

    url: str = ""
    texts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int | float] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)


@contextmanager
def chat(*answers: int | float) -> Iterator[Chat]:
    """Answers in this order, then 200 for ever."""
    made = Chat(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = made.answers.pop(0) if made.answers else 200
            made.bodies.append(body)
            if isinstance(answer, float):
                made.silent.wait(answer)
                return
            if answer == 200:
                made.texts.append(body["text"])
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print what they need."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{http.server_address[1]}{PATH}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.silent.set()
        http.shutdown()
        http.server_close()


def until(done, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(done())


def worker(settings, at: Chat) -> subprocess.Popen:
    env = cli_environment(settings) | {"ML_INTERN_WEBHOOK": at.url, "ML_INTERN_URL": "https://intern.example/"}
    return subprocess.Popen([sys.executable, "-m", "agent", "worker"], env=env)


def test_each_event_is_told_once_though_workers_are_killed(settings, new_session):
    session, journal = new_session(approval="ask", text="Make it spell <!channel>")
    journal.append(Replied(calls=(TRAIN,), model="m"))
    with chat() as at:
        first = worker(settings, at)
        assert until(lambda: at.texts)
        first.kill()
        first.wait()
        second = worker(settings, at)
        assert until(lambda: (settings.sessions / session / "owner.lock").exists())
        time.sleep(2)  # a worker looks every 0.3 s
        assert len(at.bodies) == 1
        halt(journal.log)
        assert until(lambda: len(at.texts) == 2)
        second.kill()
        second.wait()
        third = worker(settings, at)
        time.sleep(3)
        third.terminate()
        third.wait(10)
    asked, closed = at.texts
    assert len(at.bodies) == 2
    assert asked.splitlines() == [
        "Make it spell &lt;!channel&gt;",
        "waiting for you: train needs your decision. The session asks before it trains.",
        f"https://intern.example/?session={session}",
    ]
    assert closed.splitlines()[1] == "stopped: stopped by the person"
    assert "secret-of-the-hook" not in journal.log.path.read_text()


def test_an_ending_that_a_killed_worker_could_not_tell_is_told_by_the_next(settings, new_session):
    session, journal = new_session()
    silent, silent_journal = new_session()  # nobody has driven it since there is a webhook
    with chat() as at:
        own = replace(settings, keys={"ML_INTERN_WEBHOOK": at.url})
        Webhook(own).begin(session)
        journal.append(Closed(outcome="provider_failed", reason="nobody there"))
        silent_journal.append(Closed(outcome="done", reason="long ago"))
        running = worker(settings, at)
        assert until(lambda: at.texts)
        time.sleep(1)
        running.terminate()
        running.wait(10)
    (text,) = at.texts
    assert "provider failed: nobody there" in text
    assert not (settings.sessions / silent / FILE).exists()


def test_processes_that_look_together_tell_once_and_a_talk_that_went_on_is_not_over(settings, new_session):
    session, journal = new_session()
    with chat() as at:
        own = replace(settings, keys={"ML_INTERN_WEBHOOK": at.url, "OPENAI_API_KEY": "sk-of-a-person"})
        several = [Webhook(own) for _ in range(4)]
        several[0].begin(session)
        journal.append(Closed(outcome="failed", reason="it broke on sk-of-a-person & so on"))
        views = journal.views
        threads = [threading.Thread(target=hook.look, args=(session, views)) for hook in several]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for hook in several:
            hook.leave()
        assert len(at.texts) == 1 and "it broke on [redacted] &amp; so on" in at.texts[0]
        say(journal.log, "go on")
        journal.append(Halted())
        several[0].look(session, journal.views)  # it was told, and then went on
        several[0].leave()
        assert len(at.texts) == 1


def run(settings, at: Chat, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "agent", "run", "be quick", "--task", "chains", "--hours", "0.0003", *options]
    env = cli_environment(settings) | {"ML_INTERN_WEBHOOK": at.url}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)


def test_a_run_without_a_page_tells_its_end_and_tries_three_times(settings):
    with chat(500, 429) as at:
        ran = run(settings, at)
    assert ran.returncode == 3
    (text,) = at.texts
    assert len(at.bodies) == 3 and "out of budget: the wall clock budget" in text and "http" not in text


@pytest.mark.slow
def test_a_server_that_is_silent_or_gone_holds_up_nothing(settings):
    with chat(60.0, 60.0, 60.0) as at:
        started = time.monotonic()
        ran = run(settings, at)
        took = time.monotonic() - started
        (log,) = settings.sessions.glob("*/events.jsonl")
        at_end = time.time() - log.stat().st_mtime
    assert ran.returncode == 3 and took < 25
    assert at_end < 12  # 6 s of patience at the very end, after the last fact
    gone = run(settings, at)
    assert gone.returncode == 3
    for said in (ran, gone):
        assert "secret-of-the-hook" not in said.stdout + said.stderr


@pytest.mark.parametrize(
    "url", ["ftp://chat.example/x", "chat.example/hook", "https:///hook", "file:///etc/passwd", "http://["]
)
def test_an_address_that_cannot_be_posted_to_is_refused_without_being_shown(url):
    with pytest.raises(SettingsError) as refused:
        read({"HOME": "/home/ada", "ML_INTERN_WEBHOOK": url})
    assert "ML_INTERN_WEBHOOK" in str(refused.value) and url not in str(refused.value)


def test_the_page_address_is_the_spaces_own_when_none_is_given():
    env = {"HOME": "/home/ada", "SPACE_ID": "ada/intern", "SPACE_HOST": "ada-intern.hf.space"}
    assert read(env).url == "https://ada-intern.hf.space"
    assert read(env | {"ML_INTERN_URL": "https://mine.example"}).url == "https://mine.example"
