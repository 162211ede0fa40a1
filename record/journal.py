"""A log together with its fold, kept in step by reading only what is new. Give each thread its own."""

import time
from collections.abc import Callable

from record.events import Event
from record.log import POLL, Log, LogError
from record.views import Views

# What the fold of facts that cannot be may raise, e.g. of a job that ends and never began.
ODD = (LookupError, AttributeError, AssertionError, ValueError, TypeError, ArithmeticError)


class Journal:
    """One reader's view of a log. The log may be shared between threads; a Journal may not."""

    def __init__(self, log: Log):
        self.log = log
        self._views = Views()
        self._seen = 0

    @property
    def views(self) -> Views:
        """The fold of everything appended so far, by any process. Costs O(new facts). Raises LogError."""
        self.log.refresh()
        return self._fold()

    def append(self, *facts: Event) -> list[Event]:
        """Store facts. Raises LogError."""
        stored = self.log.append(*facts)
        self._fold()
        return stored

    def wait(self, done: Callable[[Views], bool], timeout: float, tick: Callable[[], None] = lambda: None) -> bool:
        """Wait up to `timeout` seconds until `done` of the fold, and say whether it is; `tick` runs at each look and may raise."""
        until = time.monotonic() + timeout
        while True:
            self.log.refresh()
            tick()
            if done(self._fold()):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(POLL)

    def _fold(self) -> Views:
        while self._seen < len(self.log):
            try:
                self._views.add(self.log[self._seen])
            except ODD as error:
                why = f"does not follow from those before it ({type(error).__name__}: {error})"
                raise LogError(f"{self.log.path}: line {self._seen + 1} {why}.") from error
            self._seen += 1
        return self._views
