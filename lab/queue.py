"""Who has the machine: one job at a time, first come first served, across all sessions and processes."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Queue:
    """Tickets in a folder, oldest first; the oldest live ticket has the machine. A dead job's ticket counts for nothing."""

    def __init__(self, folder: Path, alive: Callable[[Path], bool]):
        """`alive(job folder)` says whether a job's processes still run."""
        self._folder = folder
        self._alive = alive

    def enter(self, job: Path) -> Path:
        """Take a ticket for a job that already counts as alive."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ticket = self._folder / f"{time.time_ns():020d}-{os.getpid()}"
        ticket.write_text(str(job))
        return ticket

    def place(self, ticket: Path) -> int:
        """How many live jobs stand before this one; 0 means go."""
        before = 0
        for other in sorted(self._folder.iterdir()):
            if other.name >= ticket.name:
                break
            with suppress(FileNotFoundError):
                job = other.read_text()
                if not job or self._alive(Path(job)):  # an empty ticket is being written
                    before += 1
                else:
                    other.unlink(missing_ok=True)
        return before

    def leave(self, ticket: Path) -> None:
        ticket.unlink(missing_ok=True)
