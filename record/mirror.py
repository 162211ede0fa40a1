"""A person's sessions, kept in their private dataset repository: what changed goes there in one commit a snapshot.

    sessions/<id>/…          the session's folder (see record.contents), and owner.json: which machine goes on with it
    traces/<id>.jsonl        the log for the Hub's viewer (record.export)
    README.md                a card that says what this is; written once, then the person's

What is there is known from the repository's own listing, never from what we believe to have sent: a commit names the one
that it was made for, and after any failure, or when somebody else has committed, the listing is read again. So an answer
that is lost costs a listing, and two machines may share a repository.

A snapshot costs one listing of the folders of sessions at work, the files that are new, for one that grows its last
segment (256 KiB), and three requests. It does not grow with a session's length, but for the trace, which is written whole
every ten minutes and at the end.
"""

import json
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from record.ahead import Ahead
from record.contents import Piece, contents, oids, read, within
from record.events import Halted
from record.export import trace
from record.journal import Journal
from record.log import Log, LogError
from record.mark import mark, marked
from record.remote import Remote, Trouble
from record.views import Views

OWNER, DELETED = "owner.json", ".deleted"
BIG = 10 * 2**20  # bytes, over which the Hub wants a file sent ahead of the commit
MOST_BYTES, MOST_FILES = 2**26, 2000  # of one commit; the rest comes in the next
MOST = 20 * 10**9  # bytes of one session
CARD = (Path(__file__).parent / "card.md").read_bytes()


@dataclass(frozen=True)
class Pace:
    """Times in seconds."""

    every: float = 45.0  # from one snapshot to the next
    gap: float = 2.0  # at least, also when a session ends
    most: int = 100  # commits in a `window`
    window: float = 3600.0
    first: float = 5.0  # wait after a failure; it doubles up to
    longest: float = 300.0
    renew: float = 240.0  # after which an owner who works says so again
    dead: float = 600.0  # after which an owner who says nothing is gone
    trace: float = 600.0


@dataclass
class _Session:
    """What we know of one that is here."""

    journal: Journal
    done: int | None = None  # bytes of its log when all of it was seen to be there
    seen: int = 0  # bytes of its log that the last snapshot knew
    foreign: bool = False  # another machine goes on with it
    trusted: bool | None = None  # it was over when we first saw it, and nothing differed since: sizes are enough
    traced: float = 0.0  # on the monotonic clock
    traced_bytes: int = 0
    renewed: float = 0.0
    left_out: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is over, and no snapshot knows that."""
        return self.journal.log.read_bytes > self.seen and self.journal.views.settled

    def complete(self, log_bytes: int) -> None:
        """All of it is there; what was read of it need not be kept."""
        self.done, self.journal = log_bytes, Journal(Log(self.journal.log.path))


@dataclass
class _Batch:
    add: dict[str, Any] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    names: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    size: int = 0
    late: bool = False  # something has to wait for another one
    after: list[Callable[[], None]] = field(default_factory=list)  # once it is there

    @property
    def full(self) -> bool:
        return self.size >= MOST_BYTES or len(self.add) >= MOST_FILES

    def put(self, path: str, data: bytes | Any, size: int, names: frozenset[str]) -> None:
        self.add[path], self.names[path] = data, (size, names)
        self.size += size if isinstance(data, bytes) else 0


class Mirror:
    """The mirror of one person's sessions. `look` is for one thread of one process at a time.

    Args:
        sessions: The folder of the sessions' folders, all of them this person's.
        machine: Who we are; the same after a restart.
        most: Bytes of a session, beyond which the biggest weights and files are left out.
    """

    def __init__(self, remote: Remote, sessions: Path, machine: str, pace: Pace | None = None, most: int = MOST):
        self.pace = pace or Pace()
        self._remote, self._sessions, self._machine, self._most = remote, sessions, machine, most
        self._known: dict[str, _Session] = {}
        self._run = secrets.token_hex(6)
        self._head: str | None = None
        self._tree: dict[str, tuple[int, frozenset[str]]] = {}
        self._names: dict[str, tuple[Piece, frozenset[str]]] = {}  # of what was read here
        self._ahead = Ahead(remote, self.pace.first)
        self._commits: deque[float] = deque()
        self._failures = 0
        self._shy = (
            False  # the Hub refused the last commit as it was: facts alone go, so that one odd file holds up none
        )
        self._last = self._not_before = float("-inf")

    def look(self, hurry: bool = False) -> bool:
        """Send what is due, and say whether all is there. Never raises: what goes wrong is tried again, later and later.

        A session that has just ended is due at once; in a `hurry`, all are.
        """
        now = time.monotonic()
        if now < self._not_before:
            return False
        try:
            changed, gone = self._changed(), list(self._sessions.glob(f"{DELETED}/*"))
            if not changed and not gone:
                return True
            hurry = hurry or bool(gone) or any(self._known[name].ended for name in changed)
            if now < self._last + (self.pace.gap if hurry else self.pace.every) or self._spent(now):
                return False
            self._last = now
            done = self._snapshot(changed, gone)
        except Trouble as trouble:
            self._failed(trouble)
        except (LogError, OSError, ValueError) as error:
            self._failed(Trouble(f"{type(error).__name__}: {error}"))
        else:
            self._failures, self._shy = 0, False
            return done
        return False

    def _changed(self) -> list[str]:
        """Sessions of which something may not be there yet: they work, or their log has grown."""
        for log in self._sessions.glob("[a-z0-9]*/events.jsonl"):
            if log.parent.name not in self._known:
                _, done = marked(log.parent, self._remote.repo)
                self._known[log.parent.name] = _Session(Journal(Log(log)), done)
        found = []
        for name, known in list(self._known.items()):
            try:
                size = os.stat(self._sessions / name / "events.jsonl").st_size
            except OSError:
                del self._known[name]
                continue
            if not known.foreign and size != known.done and self._views(name):
                found.append(name)
        return found

    def _views(self, name: str) -> Views | None:
        """What is known of a session; None where it cannot be read."""
        known = self._known[name]
        with suppress(LogError):
            views = known.journal.views
            if views.opened:
                known.trusted = views.settled if known.trusted is None else known.trusted
                return views
        with suppress(OSError):
            known.done = known.journal.log.path.stat().st_size  # until it grows
        return None

    def _spent(self, now: float) -> bool:
        while self._commits and self._commits[0] < now - self.pace.window:
            self._commits.popleft()
        return len(self._commits) >= self.pace.most

    def _failed(self, trouble: Trouble) -> None:
        self._failures += 1
        self._shy = trouble.refused and not self._shy
        wait = min(self.pace.longest, self.pace.first * 2 ** (self._failures - 1))
        wait = max(self.pace.longest if trouble.person else wait, trouble.wait_s)
        self._not_before = time.monotonic() + wait
        level = logging.ERROR if trouble.person else logging.WARNING
        logging.getLogger(__name__).log(level, "the mirror %s waits %.0f s: %s", self._remote.repo, wait, trouble)

    def _snapshot(self, changed: list[str], gone: list[Path]) -> bool:
        """One commit at most; returns whether all was there before."""
        head = self._remote.head(make=self._head is None)
        if head is None:
            raise Trouble(f"{self._remote.repo} was deleted; it is made again when ML Intern starts", person=True)
        if head != self._head:
            self._tree = {path: (size, frozenset((name,))) for path, (size, name) in self._remote.files(head).items()}
            self._head = head
        batch = _Batch()
        for grave in gone:
            self._forget(grave, batch)
        there = self._by_session()
        for name in changed:
            if not batch.full and (views := self._views(name)):
                self._put(name, views, there.get(name, {}), batch)
        if not batch.add and not batch.delete:
            for done in batch.after:
                done()
            return not batch.late
        if "README.md" not in self._tree:
            batch.put("README.md", CARD, len(CARD), oids(CARD))
        self._commits.append(time.monotonic())
        names = sorted(
            {path.split("/")[1].removesuffix(".jsonl") for path in [*batch.add, *batch.delete] if "/" in path}
        )
        title = f"{len(batch.add)} files of {', '.join(names)}"[:100]
        self._head = self._remote.commit(head, title, batch.add, batch.delete)
        self._tree = {
            path: entry
            for path, entry in self._tree.items()
            if path not in batch.delete and not path.startswith(tuple(one for one in batch.delete if one[-1] == "/"))
        } | batch.names
        for path in batch.add:
            self._ahead.drop(path)
        for done in batch.after:
            done()
        return False

    def _by_session(self) -> dict[str, dict[str, tuple[int, frozenset[str]]]]:
        found: dict[str, dict] = {}
        for path, entry in self._tree.items():
            if path.startswith("sessions/") and path.count("/") > 1:
                _, name, rest = path.split("/", 2)
                found.setdefault(name, {})[rest] = entry
        return found

    def _forget(self, grave: Path, batch: _Batch) -> None:
        """Take a session out that was deleted here; not one with which another machine goes on."""
        name, ours = grave.name, grave.read_text().split()
        entry = self._tree.get(f"sessions/{name}/{OWNER}")
        if entry and (entry[1].intersection(ours) or self._owner(name).get("machine") == self._machine):
            batch.delete.append(f"sessions/{name}/")
            batch.delete += [path for path in (f"traces/{name}.jsonl",) if path in self._tree]
        batch.after.append(lambda: grave.unlink(missing_ok=True))

    def _owner(self, name: str) -> dict[str, Any]:
        assert self._head
        return self._remote.read(self._head, f"sessions/{name}/{OWNER}")

    def _put(self, name: str, views: Views, there: dict[str, tuple[int, frozenset[str]]], batch: _Batch) -> None:
        """What of a session is to be sent, and what is to be taken away there."""
        known, now = self._known[name], time.monotonic()
        known.seen = log_bytes = known.journal.log.read_bytes
        folder, part = self._sessions / name, _Batch()
        pieces, odd = contents(folder, views, log_bytes)
        pieces, over = within([p for p in pieces if not self._shy or p.path.startswith("events/")], self._most)
        late = self._differ(name, pieces, there, known, part, MOST_BYTES - batch.size)
        known.trusted = known.trusted and not part.add and not late
        goes = {piece.path for piece in pieces} | {OWNER}
        batch.late |= late or self._shy
        kept = tuple(path for path in there if late and ("/model/" in path or "/checkpoints/" in path))
        part.delete += [
            f"sessions/{name}/{path}" for path in there if path not in goes and path not in kept and not self._shy
        ]
        self._trace(name, views, known, part, log_bytes)
        self._say_left_out(name, known, (*odd, *over))
        works = views.active and not views.waiting and now - known.renewed > self.pace.renew
        if not part.add and not part.delete and not works:
            if (
                views.settled or (views.waiting and not views.running)
            ) and not batch.late:  # nothing moves until the log does
                batch.after.append(lambda: known.complete(log_bytes))
            return
        if not self._may_write(name, known, views, there.get(OWNER)):
            return
        owner = {
            "machine": self._machine,
            "run": self._run,
            "at": time.time(),
            "home": str(self._sessions.parent),
            "settled": views.settled,
        }
        data = json.dumps(owner | {"left_out": known.left_out[:100]}, indent=1).encode()
        part.put(f"sessions/{name}/{OWNER}", data, len(data), oids(data))
        batch.add |= part.add
        batch.names |= part.names
        batch.delete += part.delete
        batch.size += part.size
        batch.after += [*part.after, lambda: self._mark(name)]
        known.renewed = now

    def _differ(
        self, name: str, pieces: list[Piece], there: dict, known: _Session, part: _Batch, room: int
    ) -> bool:  # fmt: skip
        """Put the pieces that are not there into a batch; returns whether something has to wait for a later one."""
        late: set[str] = set()
        for piece in pieces:
            path, entry = f"sessions/{name}/{piece.path}", there.get(piece.path)
            is_log = piece.path.startswith("events/")
            trusted = known.trusted and not is_log and not part.add and not late  # the log came first, and is the same
            if (trusted and entry and entry[0] == piece.size) or self._same(path, piece, entry):
                continue
            if part.size >= room or len(part.add) >= MOST_FILES:
                late.add(piece.whole or piece.path)
                continue
            try:
                sent = self._ahead.look(path, piece) if piece.size > BIG else (data := read(piece), oids(data))
            except OSError:
                late.add(piece.whole or piece.path)
                continue
            if sent is None:
                late.add(piece.whole or piece.path)
                continue
            what, names = sent
            self._names[path] = (piece, names)
            if not entry or not names & entry[1]:
                part.put(path, what, len(what) if isinstance(what, bytes) else piece.size, names)
        for piece in pieces:  # a folder of weights goes whole, and as it is now
            if piece.whole and (piece.whole in late or not piece.file.exists()):
                part.add.pop(f"sessions/{name}/{piece.path}", None)
                part.names.pop(f"sessions/{name}/{piece.path}", None)
                late.add(piece.whole)
        return bool(late)

    def _same(self, path: str, piece: Piece, entry: tuple[int, frozenset[str]] | None) -> bool:
        """Whether these bytes are there, as far as we know without reading more than a segment."""
        if entry is None or entry[0] != piece.size:
            return False
        seen, names = self._names.get(path, (None, frozenset()))
        return seen == piece and bool(names & entry[1])

    def _trace(self, name: str, views: Views, known: _Session, part: _Batch, log_bytes: int) -> None:
        path, now = f"traces/{name}.jsonl", time.monotonic()
        due = views.settled or now - known.traced > self.pace.trace
        if known.traced_bytes == log_bytes or not due or (known.trusted and path in self._tree and not part.add):
            return
        data = trace(name, views.title, known.journal.log)
        names = oids(data)
        if path not in self._tree or not names & self._tree[path][1]:
            part.put(path, data, len(data), names)

        def done() -> None:
            known.traced, known.traced_bytes = now, log_bytes

        part.after.append(done)

    def _may_write(self, name: str, known: _Session, views: Views, entry: tuple[int, frozenset[str]] | None) -> bool:
        """Whether we are the machine that goes on with a session; if another one is, it is stopped here."""
        if entry is None or marked(self._sessions / name)[0] in entry[1]:
            return True
        owner = self._owner(name)
        # our own commit whose answer was lost, or that of a process before us; not of one that was started after us
        if owner.get("machine") == self._machine and (owner.get("run") == self._run or not known.renewed):
            return True
        known.foreign = True
        why = f"another machine ({owner.get('machine')}) goes on with this session, and its mirror is not touched from here"
        logging.getLogger(__name__).warning("session %s: %s", name, why)
        if views.active:
            known.journal.append(Halted(by="mirror", reason=why))
        return False

    def _mark(self, name: str) -> None:
        """Remember which owner.json is our own."""
        _, names = self._tree[f"sessions/{name}/{OWNER}"]
        with suppress(OSError):
            mark(self._sessions / name, min(names, key=len))

    def _say_left_out(self, name: str, known: _Session, left_out: tuple[str, ...]) -> None:
        if left_out != known.left_out and left_out:
            some = ", ".join(left_out[:5])
            logging.getLogger(__name__).warning(
                "session %s: %d files or folders are too big or oddly named for the mirror: %s",
                name,
                len(left_out),
                some,
            )
        known.left_out = left_out


def bury(session: Path) -> None:
    """Have the mirror forget a session whose folder is about to be deleted. Raises OSError."""
    graves = session.parent / DELETED
    graves.mkdir(exist_ok=True)
    (graves / session.name).write_text(marked(session)[0])
