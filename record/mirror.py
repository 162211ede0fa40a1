"""A person's sessions, kept in their private dataset repository, or in a folder of a mounted bucket (record.shelf): what
changed goes there in one commit a snapshot.

    sessions/<id>/…          the session's folder (see record.contents), and owner.json: which machine goes on with it
    traces/<id>.jsonl        the log for the Hub's viewer (record.export)
    README.md                a card that says what this is; written once, then the person's

What is there is known from the repository's own listing, never from what we believe to have sent: a commit names the one
that it was made for, and after any failure, or when somebody else has committed, the listing is read again. So an answer
that is lost costs a listing, and two machines may share a repository. Of a session that is over, record.mark remembers
that all of it was there: it is looked at again when its log grows, or when its owner.json there is another one.

A snapshot costs one listing of the folders of sessions at work, the files that are new, for one that grows its last
segment (256 KiB), and three requests. It does not grow with a session's length, but for the trace, which is written whole
every ten minutes and at the end. A long history is made one commit, by the only machine that writes.
"""

import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from record.ahead import Ahead
from record.contents import Piece, contents, oids, read, within
from record.events import Halted
from record.export import trace
from record.journal import Journal
from record.log import Log, LogError
from record.mark import mark, marked
from record.remote import Remote, Trouble, by_session
from record.shelf import Place, Shelf
from record.views import Views

OWNER, DELETED = "owner.json", ".deleted"
BIG = 10 * 2**20  # bytes, over which the Hub wants a file sent ahead of the commit
MOST_BYTES, MOST_FILES = 2**26, 2000  # of one commit; the rest comes in the next
MOST = 20 * 10**9  # bytes of one session
CARD = (Path(__file__).parent / "card.md").read_bytes()
NONE: frozenset[str] = frozenset()
LOGGER = logging.getLogger(__name__)


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
    history: int = 1000  # commits that become one: those of half a day, and 20 requests to count them


@dataclass
class _Session:
    """What we know of one that is here."""

    journal: Journal
    done: int | None = None  # bytes of its log when all of it was seen to be there
    seen: int = 0  # bytes of its log that the last snapshot knew
    broken: bool = False  # its log cannot be read, as far as it has come
    kept: float | None = None  # unix seconds: what was here then is there, but for `late` and `left_out`
    late: int = 0  # files and folders that are on their way
    left_out: tuple[str, ...] = ()
    foreign: str = ""  # the machine that goes on with it, where that is another one
    traced: float = -inf  # on the monotonic clock
    renewed: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether it is over, and no snapshot knows that."""
        return self.journal.log.read_bytes > self.seen and self.journal.views.settled

    @property
    def told(self) -> dict[str, Any]:
        """What people are told, as JSON."""
        done = None if self.broken else self.done
        here = {"kept": self.kept, "done": done, "late": self.late, "foreign": self.foreign}
        return here | {"left_out": len(self.left_out), "some": [repr(name[-80:]) for name in self.left_out[:3]]}


@dataclass
class _Batch:
    add: dict[str, tuple[Any, frozenset[str]]] = field(default_factory=dict)  # bytes, or what was sent ahead; its names
    delete: list[str] = field(default_factory=list)
    size: int = 0
    late: bool = False  # something has to wait for another one
    after: list[Callable[[], None]] = field(default_factory=list)  # once it is there

    @property
    def full(self) -> bool:
        return self.size >= MOST_BYTES or len(self.add) >= MOST_FILES

    def put(self, path: str, data: Any, names: frozenset[str]) -> None:
        self.add[path] = data, names
        self.size += len(data) if isinstance(data, bytes) else 0


class Mirror:
    """The mirror of one person's sessions. `look` is for one thread of one process at a time.

    Args:
        sessions: The folder of the sessions' folders, all of them this person's.
        machine: Who we are; the same after a restart.
        most: Bytes of a session, beyond which the biggest weights and files are left out.
    """

    def __init__(self, remote: Place, sessions: Path, machine: str, pace: Pace | None = None, most: int = MOST):
        self.pace = pace or Pace()
        self._remote, self._sessions, self._machine, self._most = remote, sessions, machine, most
        self._known: dict[str, _Session] = {}
        self._run = secrets.token_hex(6)
        self._head: str | None = None
        self._tree: dict[str, frozenset[str]] = {}  # path: what the Hub may call it (see `oids`)
        self._read: dict[str, tuple[Piece, frozenset[str]]] = {}  # what was read here
        self._ahead = Ahead(remote, self.pace.first)
        self._commits: deque[float] = deque(maxlen=self.pace.most)
        self._count_at = 1  # commits of ours, after which the history is counted
        self._failures, self._why, self._again = 0, "", 0.0
        self._shy = False  # the Hub refused the last commit as it was: facts alone go; one odd file holds up none
        self._last = self._not_before = -inf

    @property
    def state(self) -> dict[str, Any]:
        """What people are told, as JSON: of the last failure, and what is there of each session. Times are unix seconds."""
        sessions = {name: known.told for name, known in self._known.items()}
        return {"repo": self._remote.repo, "why": self._why, "again": self._again, "sessions": sessions}

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
            spent = len(self._commits) == self.pace.most and self._commits[0] > now - self.pace.window
            if now < self._last + (self.pace.gap if hurry else self.pace.every) or spent:
                return False
            self._last = now
            done = self._snapshot(gone)
        except (Trouble, LogError, OSError, ValueError) as error:
            self._failed(error if isinstance(error, Trouble) else Trouble(f"{type(error).__name__}: {error}"))
            return False
        self._failures, self._shy, self._why = 0, False, ""
        if not hurry:
            self._shorten()
        return done

    def _changed(self) -> list[str]:
        """Sessions of which something may not be there yet: they work, or their log has grown."""
        for log in self._sessions.glob("[a-z0-9]*/events.jsonl"):
            if log.parent.name not in self._known:
                _, done = marked(log.parent, self._remote.repo)
                self._known[log.parent.name] = _Session(Journal(Log(log)), done)
        found = []
        for name, known in list(self._known.items()):
            try:
                size = known.journal.log.path.stat().st_size
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
                known.broken = False
                return views
        known.broken = True
        with suppress(OSError):
            known.done = known.journal.log.path.stat().st_size  # until it grows
        return None

    def _failed(self, trouble: Trouble) -> None:
        self._failures += 1
        self._shy = trouble.refused and not self._shy
        if trouble.spoilt:  # maybe what was sent ahead
            self._ahead = Ahead(self._remote, self.pace.first)
        wait = min(self.pace.longest, self.pace.first * 2 ** (self._failures - 1))
        wait = max(self.pace.longest if trouble.person else wait, trouble.wait_s)
        self._not_before = time.monotonic() + wait
        self._why = str(trouble)
        self._again = time.time() + max(wait, self._last + self.pace.every - time.monotonic())
        level = logging.ERROR if trouble.person else logging.WARNING
        LOGGER.log(level, "the mirror %s waits %.0f s: %s", self._remote.repo, wait, trouble)

    def _snapshot(self, gone: list[Path]) -> bool:
        """One commit at most; returns whether all was there before."""
        head = self._remote.head(make=self._head is None)
        if head is None:
            raise Trouble(f"{self._remote.repo} is gone; it is made again when ML Intern starts", person=True)
        if head != self._head:
            self._tree = {path: frozenset((name,)) for path, (_, name) in self._remote.files(head).items()}
            self._head = head
            for name, known in self._known.items():  # what is remembered to be there, and is not
                if known.done and not self._is_ours(name):
                    known.done = None
        batch, there = _Batch(), by_session(self._tree)
        for grave in gone:
            self._forget(grave, batch)
        for name in self._changed():
            if not batch.full and (views := self._views(name)):
                self._put(name, views, there.get(name, {}), batch)
        if batch.add or batch.delete:
            if "README.md" not in self._tree:
                batch.put("README.md", CARD, oids(CARD))
            self._commit(head, batch)
        for done in batch.after:
            done()
        return not (batch.add or batch.delete or batch.late)

    def _commit(self, head: str, batch: _Batch) -> None:
        self._commits.append(time.monotonic())
        paths = [path for path in (*batch.add, *batch.delete) if "/" in path]
        names = sorted({path.split("/")[1].removesuffix(".jsonl") for path in paths})
        title = f"{len(batch.add)} files of {', '.join(names)}"[:100]
        data = {path: data for path, (data, _) in batch.add.items()}
        self._head = self._remote.commit(head, title, data, batch.delete)
        for path in batch.delete:
            self._tree.pop(path, None)
        for path, (_, names) in batch.add.items():
            self._tree[path] = names
            self._ahead.drop(path)

    def _is_ours(self, name: str) -> bool:
        """Whether we wrote a session's last commit, as far as is remembered here."""
        return marked(self._sessions / name)[0] in self._tree.get(f"sessions/{name}/{OWNER}", NONE)

    def _forget(self, grave: Path, batch: _Batch) -> None:
        """Take a session out that was deleted here; not one with which another machine goes on."""
        name, ours = grave.name, grave.read_text().split()
        names = self._tree.get(f"sessions/{name}/{OWNER}")
        mine = not names or names.intersection(ours) or self._owner(name).get("machine") == self._machine
        if names and mine:
            batch.delete += [path for path in self._tree if path.startswith((f"sessions/{name}/", f"traces/{name}."))]
        if mine and isinstance(self._remote, Shelf):  # and what is not listed, for a part of it did not arrive
            batch.after.append(partial(self._remote.forget, name))
        batch.after.append(lambda: grave.unlink(missing_ok=True))

    def _owner(self, name: str) -> dict[str, Any]:
        assert self._head
        return self._remote.read(self._head, f"sessions/{name}/{OWNER}")

    def _put(self, name: str, views: Views, there: dict[str, frozenset[str]], batch: _Batch) -> None:
        """What of a session is to be sent, and what is to be taken away there."""
        known, now, at, prefix = self._known[name], time.monotonic(), time.time(), f"sessions/{name}/"
        if f"{prefix}{OWNER}" in there and not self._may_write(name, views):
            return
        known.seen = log_bytes = known.journal.log.read_bytes
        before = len(batch.add) + len(batch.delete)
        pieces, odd = contents(self._sessions / name, views, log_bytes)
        pieces, over = within(pieces, self._most)
        late = self._differ(prefix, pieces, there, batch)
        goes = {prefix + piece.path for piece in pieces} | {prefix + OWNER}
        if late:  # the weights before them stay until they are there
            goes.update(path for path in there if "/model/" in path or "/checkpoints/" in path)
        batch.delete += [path for path in there if path not in goes]
        batch.late |= bool(late)
        traced = views.settled or now - known.traced > self.pace.trace
        if traced:
            data = trace(name, views.title, known.journal.log)
            self._want(f"traces/{name}.jsonl", data, oids(data), batch)
        left_out = (*odd, *over)
        if left_out and left_out != known.left_out:
            what = f"{len(left_out)} files or folders are too big or oddly named for the mirror"
            LOGGER.warning("session %s: %s: %s", name, what, ", ".join(left_out[:5]))
        works = views.active and not views.waiting and now - known.renewed > self.pace.renew
        goes_on = len(batch.add) + len(batch.delete) > before or works
        if goes_on:
            owner = {"machine": self._machine, "run": self._run, "at": at, "home": str(self._sessions.parent)}
            data = json.dumps(owner | {"settled": views.settled, "left_out": left_out[:100]}, indent=1).encode()
            batch.put(prefix + OWNER, data, oids(data))
            known.renewed = now  # also where the answer is lost
        rests = views.settled or bool(views.waiting and not views.running)  # nothing moves until the log does
        whole = rests and not goes_on and not late

        def kept() -> None:
            known.kept, known.late, known.left_out = at, len(late), left_out
            known.traced = now if traced else known.traced
            if whole:  # what was read of it need not be kept
                known.done, known.journal = log_bytes, Journal(Log(known.journal.log.path))
            if goes_on or whole:
                with suppress(OSError):
                    ours = min(self._tree[prefix + OWNER], key=len)
                    mark(self._sessions / name, ours, log_bytes if whole else None, self._remote.repo)

        batch.after.append(kept)

    def _differ(self, prefix: str, pieces: list[Piece], there: dict[str, frozenset[str]], batch: _Batch) -> set[str]:
        """Put the pieces that are not there into a batch; returns the files and folders that wait for a later one."""
        late: set[str] = set()
        for piece in pieces:
            path = prefix + piece.path
            seen, names = self._read.get(path, (None, NONE))
            if seen == piece and names & there.get(path, NONE):
                continue
            waits = batch.full or (self._shy and not piece.path.startswith("events/"))
            if waits or (sent := self._sent(path, piece)) is None:
                late.add(piece.whole or piece.path)
                continue
            self._read[path] = piece, sent[1]
            self._want(path, *sent, batch)
        for piece in pieces:  # a folder of weights goes whole, and as it is now
            if piece.whole and (piece.whole in late or not piece.file.exists()):
                batch.add.pop(prefix + piece.path, None)
                late.add(piece.whole)
        return late

    def _sent(self, path: str, piece: Piece) -> tuple[Any, frozenset[str]] | None:
        """What goes into a commit for a piece, and its names; None where it cannot yet."""
        with suppress(OSError):
            return self._ahead.look(path, piece) if piece.size > BIG else (data := read(piece), oids(data))
        return None

    def _want(self, path: str, data: Any, names: frozenset[str], batch: _Batch) -> None:
        if not names & self._tree.get(path, NONE):
            batch.put(path, data, names)

    def _may_write(self, name: str, views: Views) -> bool:
        """Whether we are the machine that goes on with a session; if another one is, it is stopped here."""
        known = self._known[name]
        if self._is_ours(name):
            return True
        owner = self._owner(name)
        # our own commit whose answer was lost, or that of a process before us; not of one that was started after us
        if owner.get("machine") == self._machine and (owner.get("run") == self._run or not known.renewed):
            return True
        known.foreign = str(owner.get("machine"))
        why = f"another machine ({known.foreign}) goes on with this session, and its mirror is not touched from here"
        LOGGER.warning("session %s: %s", name, why)
        if views.active:
            known.journal.append(Halted(by="mirror", reason=why))
        return False

    def _shorten(self) -> None:
        """Make one commit of a long history, which nobody reads, unless another machine, or process of ours, may write:
        an owner at work commits more often than `dead`, by the Hub's own clock."""
        remote = self._remote
        if not isinstance(remote, Remote) or len(remote.made) < self._count_at:
            return
        count = self.pace.history
        try:
            past = remote.history()
            recent = {name for name, at in past if at > past[0][1] - self.pace.dead}
            count = len(past)
            if count >= self.pace.history and recent <= remote.made:
                remote.squash()
                count = 1
        except Trouble as trouble:
            LOGGER.warning("the history of %s stays as it is: %s", remote.repo, trouble)
        self._count_at = len(remote.made) + max(self.pace.history - count, self.pace.history // 10)


def bury(session: Path) -> None:
    """Have the mirror forget a session whose folder is about to be deleted. Raises OSError."""
    graves = session.parent / DELETED
    graves.mkdir(exist_ok=True)
    (graves / session.name).write_text(marked(session)[0])
