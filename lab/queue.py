"""Who has the machine: one job at a time, across all sessions and processes. Nobody is put out once they have it.

Next is the session that has had the machine for the fewest seconds since the queue was last empty, with its oldest job.
One that comes later begins level with the most of those that are there: neither a sweep of ten nor a stream of newcomers
locks anybody out. A ticket is a lease without a term: it ends when neither its job's runner nor its trainer lives (by pid
and start time), and whoever looks next clears it away.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from lab.backend import read_json, write_json

# {"job": its folder, "runner": who took the ticket, "began": unix time at which it got the machine, "takes_s"}
Holder = dict[str, Any]


class Queue:
    """Tickets and accounts in a folder, read and written under its lock. A dead job's ticket counts for nothing."""

    def __init__(self, folder: Path, alive: Callable[[Holder], bool]):
        """`alive(holder)` says whether who took a ticket still runs; a job's next attempt is another holder."""
        self._folder = folder
        self._alive = alive
        self._accounts = folder / "accounts.json"  # seconds that each session has had

    def enter(self, holder: Holder) -> Path:
        """Take a ticket for a holder that already counts as alive."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            used, own = self._used(self._line()), _session(holder)
            if own not in used:
                accounts = read_json(self._accounts) if used else {}
                level = max(used.values(), default=0.0)
                write_json(self._accounts, accounts | {own: max(accounts.get(own, 0.0), level)})
            last = max((int(ticket.name) for ticket in self._tickets()), default=0)
            ticket = self._folder / f"{last + 1:012d}"
            write_json(ticket, holder)
        return ticket

    def before(self, ticket: Path) -> list[Holder]:
        """The live jobs that go before this one, the next first; none: it has the machine from now on."""
        with self._locked():
            line = self._line()
            ahead = [holder for _, holder in takewhile(lambda one: one[0] != ticket, line)]
            if not ahead and (holder := read_json(ticket)) and "began" not in holder:
                write_json(ticket, holder | {"began": time.time()})
        return ahead

    def ahead(self, session: Path) -> list[Holder]:
        """The live jobs that would go before a new one of this session, the next first. Takes no ticket."""
        if not self._folder.is_dir():
            return []
        with self._locked():
            line = self._line()
            used = self._used(line)
            own = used.get(str(session), max(used.values(), default=0.0))
        return [holder for _, holder in line if "began" in holder or used[_session(holder)] <= own]

    def place(self, ticket: Path) -> int:
        """How many live jobs go before this one; 0 means go."""
        return len(self.before(ticket))

    def leave(self, ticket: Path) -> None:
        with suppress(FileNotFoundError), self._locked():  # the whole folder may be gone
            self._end(ticket, read_json(ticket))

    def _line(self) -> list[tuple[Path, Holder]]:
        """Every live ticket, in the order in which they go; who has the machine is the first. Clears the dead away."""
        live: list[tuple[Path, Holder]] = []
        for ticket in self._tickets():
            holder = read_json(ticket)
            if self._alive(holder):
                live.append((ticket, holder))
            else:
                self._end(ticket, holder)
        used = self._used(live)
        return sorted(live, key=lambda one: ("began" not in one[1], used[_session(one[1])], one[0].name))

    def _used(self, live: list[tuple[Path, Holder]]) -> dict[str, float]:
        """Seconds of machine time of each session in the queue, up to now."""
        accounts = read_json(self._accounts)
        used = {_session(holder): accounts.get(_session(holder), 0.0) for _, holder in live}
        for _, holder in live:
            used[_session(holder)] += _held_s(holder)
        return used

    def _end(self, ticket: Path, holder: Holder) -> None:
        """Whoever waits looks often: a dead holder's time is right, and without anybody who waits it counts for nothing."""
        if "began" in holder:
            accounts, own = read_json(self._accounts), _session(holder)
            write_json(self._accounts, accounts | {own: accounts.get(own, 0.0) + _held_s(holder)})
        ticket.unlink(missing_ok=True)

    def _tickets(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.name.isdigit())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._folder / ".lock", "w") as lock:  # the kernel lets go of it when we die
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _session(holder: Holder) -> str:
    """Whose job it is: SESSION/jobs/JOB is its folder."""
    return str(Path(holder["job"]).parent.parent)


def _held_s(holder: Holder) -> float:
    return max(0.0, time.time() - holder["began"]) if "began" in holder else 0.0
