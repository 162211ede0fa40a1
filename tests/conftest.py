"""What tests share: a home of their own, and sessions opened in it."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent import settings as env
from agent.sessions import Request, open_session
from agent.settings import ROOT, Settings
from record.journal import Journal
from record.log import Log

sys.path.insert(0, str(ROOT))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings as this machine gives them, with sessions in a folder of the test's own and no keys."""
    env.quiet_libraries()
    home = tmp_path / "home"
    made = env.read({**_environ(), "ML_INTERN_HOME": str(home)})
    return replace(made, keys={})


@pytest.fixture
def new_session(settings: Settings) -> Callable[..., tuple[str, Journal]]:
    """Open a session and get its id and a reader of its log: `new_session(task="chains", target=0.9, ...)`."""

    def make(**request) -> tuple[str, Journal]:
        session = open_session(settings, Request(**({"task": "chains"} | request)))
        return session, Journal(Log(settings.sessions / session / "events.jsonl"))

    return make


def _environ() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name not in env.KEY_NAMES}


def cli_environment(settings: Settings) -> dict[str, str]:
    """The environment for a command of ours in a subprocess, on the test's own home."""
    return _environ() | {"ML_INTERN_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
