"""A folder as the mirror uses it, in the place of a repository (record.remote): a mounted bucket, or a share of a network.

    sessions/<id>.<when>.<sum>.json    an index: the size of each file of a session, and the name of its content
    files/<id>/<sum>                   contents; each name is git's for these bytes

Such a mount may know no locks, appends, links or renames, may fail at any time, and may lose what was written shortly
before its machine died. So each file is written once and whole, under a name that its content gives it: first the contents,
then the index, which is the commit. What did not arrive whole is known by its name, and then the index before it counts;
one of ten minutes ago is always there. No link is followed, and only plain files count: others may write there. Who finds another machine's index beside their own takes theirs back: of two who
write at once, one at most is told that it is there.

A commit costs the contents that are new and an index for each of its sessions (90 bytes a file), some listings of
`sessions/` and of the sessions' contents, and the deletion of what no index names any more. The first look of a process
reads an index a session, and lists its contents.
"""

import errno
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any, BinaryIO

from record.contents import oids
from record.remote import Remote, Trouble

Index = dict[str, tuple[int, str]]  # path: size, name of the content
INDEX = re.compile(r"[a-z0-9][a-zA-Z0-9_.-]*\.\d{10,12}\.[0-9a-f]{40}\.json")  # its session, unix seconds, its own name
SUM = re.compile(r"[0-9a-f]{40}")
EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # no bytes: never written, for some mounts lose an empty file
SETTLED = 600.0  # seconds after which a file is where no crash can lose it: hf-mount may begin to send it after 30
AT_REST = (
    86400.0  # seconds without an index, after which no machine is about to write one; clocks are nearer to each other
)
ABANDONED = 3600.0  # seconds after which no commit is to be expected of what was sent ahead
MOST = 30  # indexes of a session that stay, whatever their age
LARGEST = 2**26  # bytes of an index, or of what is read whole
FULL = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)
TO_A_PERSON = (*FULL, errno.EACCES, errno.EPERM)
NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR)  # links, folders, pipes
CARD = (Path(__file__).parent / "shelf.md").read_bytes()


class Shelf:
    """One folder, with the methods of a Remote. Every method raises Trouble. Thread-safe.

    Args:
        scratch: A folder of ours, on the disk of the sessions.
    """

    def __init__(self, folder: Path, scratch: Path):
        self.repo, self.scratch = str(folder), scratch
        self._indexes, self._files = folder / "sessions", folder / "files"
        self._known: dict[str, Index] = {}  # indexes that were whole when they were read
        self._broken: set[str] = set()  # indexes whose contents turned out not to be
        self._ahead: dict[str, tuple[str, float]] = {}  # path: content that was sent, that no index names yet, and when

    def head(self, make: bool = False) -> str | None:
        """The name of each session's newest whole index. None where there is no folder; with `make` there is one then."""
        with self._told():
            if make:
                self._begin()
                if not (card := self._indexes.with_name("README.md")).exists():
                    _write(card, CARD)
            elif not self._indexes.is_dir():
                return None
            for folder in (self._indexes, self._files):
                with suppress(FileNotFoundError):  # somebody has deleted it: what is missing is written again
                    _plain(folder)
            return "\n".join(sorted(filter(None, map(self._newest, self._list().values()))))

    def _begin(self) -> None:
        """Make what is missing, but no folder on this disk in the place of one that is not mounted now."""
        root = self._indexes.parent
        if not root.is_dir() and (root.parent == Path(root.anchor) or not os.path.ismount(root.parent)):
            raise Trouble(f"the folder {root} is not there: make it, or mount what it lies on", person=True)
        for folder in (self._indexes, self._files):
            folder.mkdir(parents=True, exist_ok=True)

    def files(self, head: str) -> Index:
        """Size and name (see `oids`) of every file at a commit."""
        found: Index = {"README.md": (len(CARD), "")}
        with self._told():
            for name in head.splitlines():
                found |= self._whole(name)
        return found

    def fetch(self, head: str, files: Index, target: Path) -> None:
        """Lay files of a commit down below a folder, each as it was sent. A fetch that was cut off goes on."""
        with self._told(FULL):  # one file that cannot be read is nobody's task
            for path, (size, content) in files.items():
                place = target / path
                if place.is_file() and content in oids(place):
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"")
                with suppress(FileNotFoundError, _NoFile), _open(self._files / _session(path) / content) as data:
                    if os.fstat(data.fileno()).st_size == size:
                        with place.open("wb") as file:
                            shutil.copyfileobj(data, file)
                if content not in oids(place):
                    raise self._spoilt(head, path)

    def read(self, head: str, path: str) -> dict[str, Any]:
        """A small JSON object."""
        with self._told(FULL):  # one file that cannot be read is nobody's task
            _, content = self._whole(_at(head)[_session(path)])[path]
            data = b""
            with suppress(FileNotFoundError, _NoFile), _open(self._files / _session(path) / content) as file:
                data = file.read(LARGEST)
            if content not in oids(data):
                raise self._spoilt(head, path)
            return dict(json.loads(data))

    def upload(self, path: str, file: Path) -> Any:
        """Send the content of a big file ahead; what is returned goes into a later `commit`."""
        with self._told():
            content = _sum(file)
            self._ahead[path] = content, inf  # while it is sent
            self._put(path, content, file, self._named(_session(path)))
            self._ahead[path] = content, time.monotonic()
            return file.stat().st_size, content

    def commit(self, head: str, title: str, add: dict[str, Any], delete: list[str]) -> str:
        """Change files, if what `head` has of their sessions is the newest there; returns the new head. One commit a session.

        Args:
            add: Path to bytes, or to what `upload` returned.
            delete: Paths of files.
        """
        at, sessions = _at(head), {_session(path) for path in (*delete, *add)}
        with self._told():
            after = {name: dict(self._whole(at[name])) if name in at else {} for name in sessions}
            there = {name: self._named(name) for name in sessions}
            for path in delete:
                after[_session(path)].pop(path, None)
            for path, what in add.items():
                session, sent = _session(path), not isinstance(what, bytes)
                after[session][path] = what if sent else (len(what), _sum(what))
                if not sent:
                    self._put(path, after[session][path][1], what, there[session])
            before = self._list()
            for session, index in after.items():
                if (last := at.pop(session, "")) != self._newest(names := before.get(session, [])):
                    raise Trouble(f"somebody else has written {session} in {self.repo}")
                if index:
                    at[session] = self._seal(session, index, last, names)
                else:
                    self._drop(session)
            for path in add:
                self._ahead.pop(path, None)  # an index names it
            for session, names in before.items():
                if session in at and (session in after or (names[1:] and _age(names[0]) > AT_REST)):
                    self._tidy(session)
        return "\n".join(sorted(at.values()))

    def forget(self, session: str) -> None:
        """Delete all of a session, also what no index names; what was cut off is begun again."""
        with self._told():
            self._drop(session)

    def _seal(self, session: str, index: Index, last: str, before: list[str]) -> str:
        """Write an index, and be sure of it: all that it names is there, and nobody else has finished one since the last.

        If another writer is told that theirs is there, it was whole before ours was begun, and so we see it.
        """
        data = json.dumps(index, indent=0).encode()
        when = max(int(time.time()), *(int(name.split(".")[-3]) + 1 for name in before), 0)
        name = f"{session}.{when:010d}.{_sum(data)}.json"
        _write(self._indexes / name, data)
        now = self._list().get(session, [])
        lost = not self._are_there(session, index)
        if lost or name not in now or last != self._newest([*filter(name.__ne__, now)]):
            self._unlink(name)
            self._known.clear()  # what is known may be there no more
            raise Trouble(f"somebody else writes or deletes {session} in {self.repo} at the same time", spoilt=lost)
        self._known[name] = index
        return name

    def _tidy(self, session: str) -> None:
        """Delete the indexes before the newest that is settled, what else is not whole, and contents that none names."""
        with suppress(OSError):  # then it is the next one's
            fresh = time.monotonic() - ABANDONED
            named, kept = {content for content, at in self._ahead.values() if at > fresh}, [""]
            names = self._list().get(session, [])
            if not self._newest(names[:1]):
                return
            for name in names:
                settled = len(kept) > MOST or (kept[-1] and _age(kept[-1]) > SETTLED)
                if (index := self._index(name)) and not settled:
                    kept.append(name)
                    named.update(content for _, content in index.values())
            for name in {*names} - {*kept}:
                self._unlink(name)
            for content in self._contents(session).keys() - named:
                (self._files / session / content).unlink(missing_ok=True)

    def _drop(self, session: str) -> None:
        for name in [name for name in os.listdir(self._indexes) if INDEX.fullmatch(name) and _of(name) == session]:
            self._unlink(name)
        folder = self._files / session
        with suppress(FileNotFoundError):
            _plain(folder)
            for content in filter(SUM.fullmatch, os.listdir(folder)):
                (folder / content).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()

    def _unlink(self, name: str) -> None:
        with suppress(IsADirectoryError):  # not ours
            (self._indexes / name).unlink(missing_ok=True)
        self._known.pop(name, None)
        self._broken.discard(name)

    def _list(self) -> dict[str, list[str]]:
        """The names of each session's indexes, the newest first; none of a clock that is wrong by days."""
        found: dict[str, list[str]] = {}
        names = (name for name in os.listdir(self._indexes) if INDEX.fullmatch(name) and _age(name) > -AT_REST)
        for name in sorted(names, key=lambda name: (int(name.split(".")[-3]), name), reverse=True):
            found.setdefault(_of(name), []).append(name)
        return found

    def _newest(self, names: list[str]) -> str:
        return next(filter(self._index, names), "")

    def _index(self, name: str) -> Index | None:
        """What an index says; None where it, or something that it names, did not arrive."""
        if name in self._known or name in self._broken:
            return self._known.get(name)
        session, _, own, _ = name.rsplit(".", 3)
        with suppress(
            FileNotFoundError, PermissionError, _NoFile, ValueError, TypeError, AttributeError, LookupError,
            ArithmeticError, RecursionError,
        ):  # fmt: skip
            with _open(self._indexes / name) as file:
                data = file.read(LARGEST)
            index = {str(path): (int(size), str(content)) for path, (size, content) in json.loads(data).items()}
            plain = all(path == os.path.normpath(path) and _session(path) == session for path in index)
            plain = plain and all(size >= 0 and SUM.fullmatch(content) for size, content in index.values())
            if own in oids(data) and plain and self._are_there(session, index, sized=_age(name) < AT_REST):
                self._known[name] = index
        return self._known.get(name)

    def _whole(self, name: str) -> Index:
        if (index := self._index(name)) is None:
            raise Trouble(f"{name} is no longer in {self.repo}")
        return index

    def _spoilt(self, head: str, path: str) -> Trouble:
        self._broken.add(name := _at(head)[_session(path)])
        self._known.pop(name, None)
        return Trouble(f"{path} is not in {self.repo} as it was sent; what was there before is taken", spoilt=True)

    def _contents(self, session: str) -> dict[str, os.DirEntry[str]]:
        with suppress(FileNotFoundError):
            _plain(self._files / session)
            with os.scandir(self._files / session) as found:
                return {
                    one.name: one for one in found if SUM.fullmatch(one.name) and one.is_file(follow_symlinks=False)
                }
        return {}

    def _are_there(self, session: str, index: Index, sized: bool = False) -> bool:
        """Whether all that an index names is; `sized`, as big as it was: a crash is not long ago."""
        there = self._contents(session)
        for size, content in index.values():
            if content != EMPTY and (content not in there or (sized and there[content].stat().st_size != size)):
                return False
        return True

    def _named(self, session: str) -> set[str]:
        """Contents that an index counts on: they are not written over."""
        indexes = [self._index(name) or {} for name in self._list().get(session, [])]
        return {EMPTY}.union(content for index in indexes for _, content in index.values())

    def _put(self, path: str, content: str, source: bytes | Path, there: set[str]) -> None:
        if content not in there:
            place = self._files / _session(path) / content
            place.parent.mkdir(parents=True, exist_ok=True)
            _plain(place.parent)
            if _write(place, source) != content:
                raise Trouble(f"{path} has changed while it was sent")
            there.add(content)

    @contextmanager
    def _told(self, to_a_person: tuple[int, ...] = TO_A_PERSON) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"the folder {self.repo} cannot be used: {error.strerror or error}"
            raise Trouble(why, person=error.errno in to_a_person) from error
        except (ValueError, LookupError) as error:  # a path that no file can have, or that is not there
            raise Trouble(f"{self.repo} is not in order ({type(error).__name__}: {error})"[:300]) from error


Place = Remote | Shelf


class _NoFile(Exception):
    """A link, a folder or a pipe."""


def _open(place: Path) -> BinaryIO:
    """A plain file, to read."""
    try:
        file = os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        if error.errno in NO_FILE:
            raise _NoFile from error
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _NoFile
    return file


def _plain(folder: Path) -> None:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise Trouble(f"{folder} is no folder but a link or a file; take it away", person=True)


def _write(place: Path, source: bytes | Path) -> str:
    """A whole file, from its first byte to its last, and git's name for what was written."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    git = sha1(b"blob %d\0" % size)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(place.lstat().st_mode):  # somebody else's link or pipe
            place.unlink()
    into = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(into, "wb") as file, BytesIO(source) if isinstance(source, bytes) else source.open("rb") as data:
        while chunk := data.read(2**20):
            git.update(chunk)
            file.write(chunk)
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # it is sent when it is closed
                raise
    return git.hexdigest()


def _sum(source: bytes | Path) -> str:
    """Git's name for these bytes."""
    return min(oids(source), key=len)


def _session(path: str) -> str:
    """Whose a file is: sessions/<id>/… or traces/<id>.jsonl."""
    kind, session, *_ = path.split("/")
    return {"sessions": session, "traces": session.removesuffix(".jsonl")}[kind]


def _of(name: str) -> str:
    """The session of an index."""
    return name.rsplit(".", 3)[0]


def _age(name: str) -> float:
    return time.time() - int(name.split(".")[-3])


def _at(head: str) -> dict[str, str]:
    """Each session's index at a commit."""
    return {_of(name): name for name in head.splitlines()}
