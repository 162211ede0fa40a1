"""`python app.py` as a person starts it."""

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from agent.settings import KEY_NAMES, ROOT
from tests.ui.conftest import Site, free_port


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in KEY_NAMES}
    return kept | {"ML_INTERN_HOME": str(home)} | more


def start(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "app.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(home, **more), capture_output=True, text=True, timeout=30)


def test_a_taken_port_is_one_sentence_and_starts_no_worker(tmp_path: Path):
    stranger = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    done = start(tmp_path / "home", "--port", str(stranger.server_port))
    stranger.shutdown()
    assert (done.returncode, done.stdout) == (2, "")
    assert str(stranger.server_port) in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_a_port_with_ml_intern_on_it_is_no_trouble(site: Site, tmp_path: Path):
    done = start(tmp_path, "--port", str(site.settings.port))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"ML Intern is already at {site.url}.\n"


def test_a_port_that_cannot_be_one_is_refused(tmp_path: Path):
    done = start(tmp_path, "--port", "70000")
    assert done.returncode == 2 and "70000" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "70000", "seven"])
def test_a_port_that_is_none_is_one_sentence(tmp_path: Path, port: str):
    done = start(tmp_path, ML_INTERN_PORT=port)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_it_serves_with_a_worker_until_it_is_told_to_stop(tmp_path: Path):
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port)]
    secret = {"OPENAI_API_KEY": "sk-test-not-a-real-key-0123456789"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(tmp_path, **secret), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == f"ML Intern is at http://127.0.0.1:{port}\n"
        assert httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=20).json()["app"] == "ml-intern"
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=20).is_success
        children = children_of(process.pid)
        assert any("worker" in command for command in children.values()), children
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    until = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def children_of(pid: int) -> dict[int, str]:
    """Running children of a process and their commands."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for path in children for child in path.read_text().split()]
    return {child: Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in pids}
