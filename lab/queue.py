"""Who has the machine: one job at a time, first come first served, across all sessions and processes."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.backend import read_json, write_json


class Queue:
    """Tickets in a folder, oldest first; the oldest live ticket has the machine. A dead job's ticket counts for nothing."""

    def __init__(self, folder: Path, alive: Callable[[dict[str, Any]], bool]):
        """`alive(holder)` says whether who took a ticket still runs; a job's next attempt is another holder."""
        self._folder = folder
        self._alive = alive

    def enter(self, holder: dict[str, Any]) -> Path:
        """Take a ticket for a holder that already counts as alive."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a ticket that is numbered and not written would be overtaken
            last = max((int(ticket.name) for ticket in self._tickets()), default=0)
            ticket = self._folder / f"{last + 1:012d}"
            write_json(ticket, holder)
        return ticket

    def place(self, ticket: Path) -> int:
        """How many live jobs stand before this one; 0 means go."""
        before = 0
        for other in self._tickets():
            if other.name >= ticket.name:
                break
            if self._alive(read_json(other)):
                before += 1
            else:
                other.unlink(missing_ok=True)
        return before

    def _tickets(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.name.isdigit())

    def leave(self, ticket: Path) -> None:
        ticket.unlink(missing_ok=True)
