"""Several drivers of one session and its caps: they ask at once only while there is room for all of them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from record.journal import Journal
from record.views import Views

POLL = 0.05  # seconds


class Purse:
    """Counts the calls that are under way, so that together they overspend a cap by no more than one call would."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out = 0

    @contextmanager
    def call(self, journal: Journal, check: Callable[[], None]) -> Iterator[None]:
        """One model call. Waits for others where the caps are near; `check` raises when they are used up."""
        while not self._enter(journal.views):
            check()
            time.sleep(POLL)
        try:
            check()
            yield
        finally:
            with self._lock:
                self._out -= 1

    def _enter(self, views: Views) -> bool:
        with self._lock:
            if self._out and not _room(views, self._out + 1):
                return False
            self._out += 1
            return True


def _room(views: Views, calls: int) -> bool:
    """Whether what is left of every cap carries that many calls, each as large as the largest so far."""
    budget, spent = views.budget, views.spent
    rooms = (
        (budget.tokens, spent.tokens, spent.largest_tokens),
        (budget.dollars, views.dollars(datetime.now(UTC)), spent.largest_dollars),
        (budget.calls, spent.replies, 1),
    )
    return all(cap is None or (largest > 0 and cap - used >= calls * largest) for cap, used, largest in rooms)
