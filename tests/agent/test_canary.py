"""Keys stay where they belong: every key is set to a canary in a real run and behind a real page, and then looked for."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from agent.settings import KEY_NAMES, ROOT
from record.events import Call, Closed, Finished, Replied
from record.journal import Journal
from record.log import Log
from tests.chat.server import ChatServer, chat_server
from tests.chat.turns import says
from tests.conftest import cli_environment, free_port

# Values of no shape that redaction would know: what hides them is that we know them.
CANARIES = {name: f"canary.of.{name.lower().replace('_', '.')}" for name in KEY_NAMES}
CANARIES["ML_INTERN_WEBHOOK"] = "http://127.0.0.1:9/canary.of.the.webhook"
CANARY = re.compile(r"canary\.of\.[a-z.]+")
OWN = "canary.of.a.server"  # a secret that the person gave to their MCP server
LOOK = """env
pid=$PPID
while [ "$pid" -gt 1 ]; do
  tr '\\0' '\\n' < /proc/$pid/environ
  pid=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$pid/stat)
done
echo looked everywhere"""
CALLS = (
    ("shell", {"command": LOOK}),
    ("helper__environment", {}),
    ("helper__leak", {}),
    ("evaluate", {"model": "base", "split": "dev"}),
)


@dataclass
class Spy:
    """Every process below one, while it runs: the commands of those whose first environment held a canary."""

    root: int
    wanted: re.Pattern[str] = CANARY
    seen: set[str] = field(default_factory=set)
    caught: set[str] = field(default_factory=set)

    def look(self) -> None:
        for pid in _tree(self.root):
            with suppress(OSError):  # it is gone, or it lets nobody look
                command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                self.seen.add(command)
                if self.wanted.search(Path(f"/proc/{pid}/environ").read_text(errors="replace").replace(OWN, "")):
                    self.caught.add(command)


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        with suppress(OSError):
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
    return found


@contextmanager
def spying(root: int, wanted: re.Pattern[str] = CANARY) -> Iterator[Spy]:
    spy, over = Spy(root, wanted), threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            spy.look()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield spy
    over.set()
    thread.join()


@pytest.fixture
def environment(settings, tmp_path) -> dict[str, str]:
    """Every key a canary, and one MCP server with a secret of its own."""
    helper = {"command": sys.executable, "args": [str(ROOT / "tests" / "mcp_servers.py")], "env": {"SECRET": OWN}}
    file = tmp_path / "servers.json"
    file.write_text(json.dumps({"mcpServers": {"helper": helper | {"effects": {"*": "read"}}}}))
    env = cli_environment(settings) | CANARIES | {"ML_INTERN_MCP_SERVERS": str(file)}
    return env | {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}


def check_model(server: ChatServer) -> None:
    """The model's server got the one key that is its own, in the one header, and no other canary at all."""
    assert server.requests and not CANARY.search(json.dumps(server.requests))
    for headers in server.headers:
        with_canary = {name: value for name, value in headers.items() if CANARY.search(value)}
        assert with_canary == {"Authorization": f"Bearer {CANARIES['ML_INTERN_API_KEY']}"}


def check_files(home: Path) -> None:
    """No file that was written holds a canary; and the commands did look."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not [str(path) for path in files if CANARY.search(path.read_bytes().decode(errors="replace"))]
    (log,) = home.glob("sessions/*/events.jsonl")
    answers = {f.name: f.output for f in _facts(log) if isinstance(f, Finished)}
    assert "looked everywhere" in answers["shell"]
    assert "ML_INTERN_HOME" not in answers["shell"]  # of no process above it could the command read the environment
    assert "SECRET=[redacted]" in answers["helper__environment"]
    assert "cannot log in with [redacted]" in answers["helper__leak"]


def _facts(path: Path) -> Log:
    log = Log(path)
    log.refresh()
    return log


@pytest.mark.slow
def test_a_run_keeps_its_keys(settings, environment):
    with chat_server([says("", call) for call in CALLS] + [says("Nothing more to do.")]) as server:
        options = ("--task", "chains", "--driver", "openai/m", "--tokens", "100000", "--output", "jsonl")
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "look for keys", *options],
            env=environment | {"ML_INTERN_API_BASE": server.base}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout
        first = process.stdout.readline()  # by now the keys are taken out
        with spying(process.pid) as spy:
            out, err = process.communicate(timeout=120)
        check_model(server)
    assert process.returncode == 2, err
    assert not CANARY.search(first + out + err)
    check_files(settings.home)
    for what in ("bash /dev/fd/", "mcp_servers.py", "recipes.evaluate", "runner"):
        assert any(what in command for command in spy.seen), what
    assert not spy.caught


@pytest.mark.slow
def test_a_page_and_its_worker_keep_their_keys(settings, environment):
    port = free_port()
    at = f"http://127.0.0.1:{port}"
    with chat_server([says("", call) for call in CALLS] + [says("Nothing more to do.")]) as server:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port)], cwd=ROOT,
            env=environment | {"ML_INTERN_API_BASE": server.base}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert process.stdout and at in process.stdout.readline()
            with spying(process.pid) as spy, httpx.Client(base_url=at, timeout=30) as http:
                asked = {"text": "look for keys", "task": "chains", "driver": "openai/m"}
                session = http.post("/api/sessions", json=asked).raise_for_status().json()["session"]
                journal = Journal(Log(settings.sessions / session / "events.jsonl"))
                assert journal.wait(lambda views: views.settled, 120)
                said = {path: http.get(path).text for path in _paths(session)}
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        check_model(server)
    assert any("agent worker" in command for command in spy.seen) and any("app.py" in c for c in spy.seen)
    assert not spy.caught
    assert not {path: found[0] for path, text in said.items() if (found := CANARY.search(text))}
    assert "cannot log in with [redacted]" in said[f"/api/sessions/{session}/log"]
    assert not CANARY.search(out + err)
    check_files(settings.home)


def _paths(session: str) -> list[str]:
    own = f"/api/sessions/{session}"
    return [
        "/api/health", "/api/check", "/api/sessions", "/api/openapi.json", "/", own, f"{own}/report", f"{own}/log",
        f"{own}/files", f"{own}/jobs", f"{own}/jobs/evaluate-1/log", "/api/replays",
    ]  # fmt: skip


def test_a_crash_says_no_key(settings, new_session):
    session, journal = new_session()
    key = CANARIES["ANTHROPIC_API_KEY"]
    asked = Call(id="c1", name="evaluate", arguments={"split": "dev"})
    answer = Finished(call=f"lost {key}", name="evaluate", ok=True, output="{}", seconds=0)
    journal.append(Replied(calls=(asked,), model="m"), answer)  # the policy breaks on an answer to no call of its own
    command = [sys.executable, "-m", "agent", "resume", session]
    env = cli_environment(settings) | {"ANTHROPIC_API_KEY": key}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr and "lost [redacted]" in ran.stderr
    assert key not in ran.stdout + ran.stderr
    closed = journal.views.closed
    assert isinstance(closed, Closed) and "lost [redacted]" in closed.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_process_of_the_same_user_can_read_neither_environment_nor_memory():
    """As a user without rights: root may read everything, whatever a process says."""
    program = """
import ctypes, os, subprocess
from agent import settings
os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1)  # as after an exec: becoming somebody else hides a process, too
def look(name):
    said = subprocess.run(f"cat /proc/$PPID/{name} | head -c 100000", shell=True, capture_output=True, text=True)
    print(name, "canary" in said.stdout, "denied" in said.stderr)
look("environ")
settings.take_keys_out()
look("environ")
look("mem")
"""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/", "HF_TOKEN": CANARIES["HF_TOKEN"]}
    ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=30)
    assert ran.stdout.splitlines() == ["environ True False", "environ False True", "mem False True"], ran


def test_the_first_environment_is_empty_of_keys_even_for_root():
    program = """
from pathlib import Path
from agent import settings
block = lambda: Path("/proc/self/environ").read_bytes()
before = block()
settings.take_keys_out()
print(before.count(b"canary"), block().count(b"canary"), len(before) == len(block()), b"LANG=C.UTF-8" in block())
"""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"} | CANARIES
    ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=30)
    assert ran.stdout.split() == [str(len(CANARIES)), "0", "True", "True"], ran
