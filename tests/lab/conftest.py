"""What the tests of the lab share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.sessions import Request, open_session
from agent.settings import Settings
from lab.lab import Lab
from record.journal import Journal
from tests.hub import Hub, serve
from tests.scripted import open_lab


@contextmanager
def running_lab(settings: Settings) -> Iterator[tuple[Lab, Journal]]:
    """A lab of a session of one hour with a running supervisor and 200 prepared rows."""
    lab, supervisor, journal = open_lab(settings, open_session(settings, Request(task="chains")))
    lab.prepare("rows", "task", 200, 0.5)
    supervisor.start()
    yield lab, journal
    lab.cancel_all()
    supervisor.stop()


@pytest.fixture
def lab_of(settings) -> Iterator[Callable[[], tuple[Lab, Journal]]]:
    """Makes labs of the test's own."""
    with ExitStack() as labs:
        yield lambda: labs.enter_context(running_lab(settings))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A Hub whose mounted buckets keep up with their machines."""
    with serve(tmp_path / "hub") as hub:
        hub.jobs.sync_s = 0.3
        yield hub
