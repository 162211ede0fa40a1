"""Work in a thread that nobody has to wait for: neither whoever must stop, nor the process at its end.

The threads of concurrent.futures would hold up the end of the process until a hanging provider lets go.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, TypeVar

POLL = 0.05  # seconds between looks at the stop
T = TypeVar("T")


def begin(work: Callable[..., T], *given: Any) -> Future[T]:
    """Do the work from now on. Its answer, or whatever it raised, is in the Future that comes back."""
    outcome: Future[T] = Future()

    def run() -> None:
        with _Handing(outcome):
            outcome.set_result(work(*given))

    threading.Thread(target=run, name=getattr(work, "__qualname__", None), daemon=True).start()
    return outcome


def wait_for(outcomes: Iterable[Future], check: Callable[[], None]) -> None:
    """Wait until all of them are there; `check` runs every POLL seconds and may raise."""
    left = set(outcomes)
    while left:
        check()
        left = wait(left, POLL).not_done


class _Handing:
    """Hands whatever ends its block, whole, to the thread that waits for the outcome."""

    def __init__(self, outcome: Future):
        self._outcome = outcome

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is not None:
            self._outcome.set_exception(error)
        return True
