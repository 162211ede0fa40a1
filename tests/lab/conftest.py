"""What the tests of the lab share."""

from collections.abc import Callable, Iterator

import pytest

from lab.lab import Lab
from record.journal import Journal
from tests.scripted import open_lab


@pytest.fixture
def lab_of(settings, new_session) -> Iterator[Callable[[], tuple[Lab, Journal]]]:
    """A lab of a session of one hour with a running supervisor and 200 prepared rows."""
    started = []

    def make() -> tuple[Lab, Journal]:
        lab, supervisor, journal = open_lab(settings, new_session()[0])
        lab.prepare("rows", "task", 200, 0.5)
        supervisor.start()
        started.append((lab, supervisor))
        return lab, journal

    yield make
    for lab, supervisor in started:
        lab.cancel_all()
        supervisor.stop()
