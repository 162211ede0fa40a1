"""The stream of facts: the past, then each new one, to every viewer, once."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import httpx

from agent.settings import ROOT
from record.events import Said
from tests.ui import story
from tests.ui.conftest import Site


class Viewer:
    """Reads a session's stream in a thread and keeps what came and when."""

    def __init__(self, url: str, session: str, last_seen: int | None = None, after: int = 0):
        self.facts: list[dict] = []
        self.times: list[float] = []
        self.ids: list[int] = []
        self.trouble: list[str] = []
        self.gone = threading.Event()
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
        headers = {} if last_seen is None else {"Last-Event-ID": str(last_seen)}
        self._connection.request("GET", f"/api/sessions/{session}/events?after={after}", headers=headers)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *_) -> None:
        if self._connection.sock:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=3)

    def wait(self, count: int, seconds: float = 5.0) -> list[dict]:
        until = time.monotonic() + seconds
        while len(self.facts) < count and time.monotonic() < until:
            time.sleep(0.005)
        return self.facts

    def _read(self) -> None:
        kind = ""
        with suppress(OSError, HTTPException), self._connection.getresponse() as answer:
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self.ids.append(int(value))
                elif name == "data" and kind == "trouble":
                    self.trouble.append(value)
                elif name == "data":
                    fresh = json.loads(value)
                    self.times += [time.time()] * len(fresh)
                    self.facts += fresh
        self.gone.set()


def seqs(facts: list[dict]) -> list[int]:
    return [fact["seq"] for fact in facts]


def test_a_viewer_gets_the_past_and_then_what_comes(site: Site):
    name, log = site.session(story.beginning)
    past = len(log)
    with Viewer(site.url, name) as viewer:
        assert seqs(viewer.wait(past)) == list(range(1, past + 1))
        log.append(Said(text="one"), Said(text="two"))
        assert [f["text"] for f in viewer.wait(past + 2)[past:]] == ["one", "two"]
        assert viewer.ids[-1] == past + 2


def test_last_event_id_resumes_where_the_viewer_was(site: Site):
    name, log = site.session(story.beginning)
    past = len(log)
    with Viewer(site.url, name, last_seen=past - 3) as resumed, Viewer(site.url, name, after=past - 1) as asked:
        assert seqs(resumed.wait(3)) == [past - 2, past - 1, past]
        assert seqs(asked.wait(1)) == [past]


def test_two_viewers_share_one_tail_and_see_the_same(site: Site):
    name, log = site.session(story.beginning)
    with Viewer(site.url, name) as one, Viewer(site.url, name) as other:
        one.wait(len(log)), other.wait(len(log))
        assert site.app.state.live.watched[name] == 2
        log.append(*story.ending())
        assert one.wait(len(log)) == other.wait(len(log))
        assert seqs(one.facts) == list(range(1, len(log) + 1))


def test_a_tail_ends_with_its_last_viewer(site: Site):
    name, log = site.session(story.beginning)
    with Viewer(site.url, name) as viewer:
        viewer.wait(len(log))
    until = time.monotonic() + 3
    while name in site.app.state.live.watched and time.monotonic() < until:
        time.sleep(0.02)
    assert name not in site.app.state.live.watched


def test_a_fact_of_another_process_arrives_within_half_a_second(site: Site):
    name, log = site.session(story.beginning)
    past = len(log)
    code = (
        "import sys, time; from pathlib import Path; from record.events import Said; from record.log import Log\n"
        "log = Log(Path(sys.argv[1]))\n"
        "for _ in range(5): log.append(Said(text=str(time.time()))); time.sleep(0.1)"
    )
    with Viewer(site.url, name) as viewer:
        viewer.wait(past)
        subprocess.run([sys.executable, "-c", code, str(log.path)], cwd=ROOT, check=True, timeout=20)
        facts = viewer.wait(past + 5)[past:]
    late = [seen - float(fact["text"]) for fact, seen in zip(facts, viewer.times[past:], strict=True)]
    assert len(late) == 5 and max(late) < 0.5, late


def test_a_log_that_cannot_be_read_is_told_and_the_stream_ends(site: Site):
    name, log = site.session(story.beginning)
    with log.path.open("a") as file:
        file.write('{"kind": "nonsense"}\n')
    text = httpx.get(f"{site.url}/api/sessions/{name}/events", timeout=5).text
    assert "event: trouble" in text and "is not a fact" in text


def test_a_log_that_cannot_be_opened_for_a_moment_is_told_and_the_next_viewer_gets_it(site: Site):
    name, log = site.session(story.beginning)
    aside = log.path.with_suffix(".aside")
    with Viewer(site.url, name) as first:
        first.wait(len(log))
        log.path.rename(aside)
        log.path.symlink_to(log.path)  # looking at it is an OSError, as it is when too many files are open
        assert first.gone.wait(5)
        assert first.trouble == ["The session could not be read (Too many levels of symbolic links)."]
        log.path.unlink()
        aside.rename(log.path)
        with Viewer(site.url, name) as second:
            assert seqs(second.wait(len(log))) == list(range(1, len(log) + 1))


def test_a_tail_that_ended_is_replaced(site: Site):
    """Whatever ended it: nobody else would ever get a fact again."""
    name, log = site.session(story.beginning)
    live = site.app.state.live
    with Viewer(site.url, name) as first:
        first.wait(len(log))
        task = live._tails[log.path.parent].task
        task.get_loop().call_soon_threadsafe(task.cancel)
        assert first.gone.wait(5) and first.trouble == ["The stream broke off."]
        with Viewer(site.url, name) as second:
            second.wait(len(log))
            log.append(Said(text="still here"))
            assert second.wait(len(log))[-1]["text"] == "still here"
