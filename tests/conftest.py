"""What tests share: a home of their own, and sessions opened in it."""

import multiprocessing
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from agent import settings as env
from agent.sessions import Request, open_session
from agent.settings import ROOT, Settings
from lab.backend import read_json
from lab.backends.runner import run_file
from record.journal import Journal
from record.log import Log

sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = (
    "1"  # tests run beside each other: trainers that share cores wait for each other's threads
)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium: the system's where there is one, else Playwright's own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield chromium
        chromium.close()


def forks(*modules: str) -> ForkServerContext:
    """What forks processes from one that has these modules loaded: a start of theirs costs no imports. One at a time."""
    global _preloaded
    if _preloaded != modules:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        _preloaded = modules
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


_preloaded: tuple[str, ...] = ()


def until(done: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def begun(folder: Path) -> list:
    """A job's trainer as soon as it minds its signals: long before its first step, and before most of its start."""
    until(lambda: (folder / "heartbeat").exists())
    return read_json(run_file(folder))["trainer"]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def settings_at(home: Path) -> Settings:
    """Settings as this machine gives them, with sessions in this folder and no keys."""
    env.quiet_libraries()
    return replace(env.read({**_environ(), "ML_INTERN_HOME": str(home)}), keys={})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with sessions in a folder of the test's own."""
    return settings_at(tmp_path / "home")


@pytest.fixture
def new_session(settings: Settings) -> Callable[..., tuple[str, Journal]]:
    """Open a session and get its id and a reader of its log: `new_session(task="chains", target=0.9, ...)`."""

    def make(under: Settings = settings, **request) -> tuple[str, Journal]:
        session = open_session(under, Request(**({"task": "chains"} | request)))
        return session, Journal(Log(under.sessions / session / "events.jsonl"))

    return make


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in env.KEY_NAMES}


def cli_environment(settings: Settings) -> dict[str, str]:
    """The environment for a command of ours in a subprocess, on the test's own home."""
    return _environ() | {"ML_INTERN_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that the short tests fill the other cores meanwhile."""
    items.sort(key=lambda item: ("slow" not in item.keywords, item.path.name != "test_story.py"))
