"""What the Hub keeps: repositories and buckets in sqlite beside files named by their content. Knows no HTTP and no people."""

import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS repos(key INTEGER PRIMARY KEY AUTOINCREMENT, kind, id, visibility, gated, accepted, maker,
    created, more, UNIQUE(kind, id));
CREATE TABLE IF NOT EXISTS refs(repo REFERENCES repos ON DELETE CASCADE, ref, oid, PRIMARY KEY(repo, ref));
CREATE TABLE IF NOT EXISTS commits(repo REFERENCES repos ON DELETE CASCADE, oid, parent, title, message, author, at, tree,
    PRIMARY KEY(repo, oid));
CREATE TABLE IF NOT EXISTS objects(repo REFERENCES repos ON DELETE CASCADE, sha, size, xet, PRIMARY KEY(repo, sha));
CREATE TABLE IF NOT EXISTS stored(repo REFERENCES repos ON DELETE CASCADE, path, file, mtime, at, PRIMARY KEY(repo, path));
CREATE TABLE IF NOT EXISTS pieces(xet PRIMARY KEY, person, terms);
"""
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"


class Missing(Exception):
    """There is no such revision, file or object. `what` is X-Error-Code."""

    def __init__(self, what: str, message: str, commit: str = ""):
        super().__init__(message)
        self.what, self.commit = what, commit


class Conflict(Exception):
    """Somebody else was there first."""


@dataclass(frozen=True)
class File:
    """A file of a commit or a bucket. `oid` is git's name for what lies in the repository: for LFS, of the pointer."""

    size: int
    sha: str  # sha256 of the content
    oid: str = ""
    lfs: bool = False
    xet: str | None = None


@dataclass(frozen=True)
class Repo:
    """A repository or a bucket. `kind` is model, dataset, space or bucket."""

    key: int
    kind: str
    id: str
    visibility: str
    gated: str  # "", "auto" or "manual"
    accepted: tuple[str, ...]  # who was let through the gate
    maker: str  # Person.maker of who made it
    created: float
    more: Mapping  # what else the request to make it said: sdk, hardware, variables ...

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    at: float


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(sha: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {size}\n".encode()


class Store:
    """Every method may be called by any thread; what is inside `at_once` happens wholly or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("blobs", "parts", "xorbs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(folder / "hub.sqlite", check_same_thread=False, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;" + TABLES)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield

    def _ask(self, question: str, *values) -> list[tuple]:
        with self._lock:
            return self._db.execute(question, values).fetchall()

    # content

    def blob(self, sha: str) -> Path:
        return self.folder / "blobs" / sha

    def keep(self, content: bytes) -> str:
        """Keep bytes under their sha256, and return that."""
        sha = hashlib.sha256(content).hexdigest()
        if not self.blob(sha).exists():
            self._write(self.blob(sha), content)
        return sha

    def xorb(self, person: str, name: str) -> Path:
        return self.folder / "xorbs" / person / name

    def keep_xorb(self, person: str, name: str, content: bytes) -> None:
        self.xorb(person, name).parent.mkdir(exist_ok=True)
        self._write(self.xorb(person, name), content)

    def _write(self, file: Path, content: bytes) -> None:
        draft = self.folder / "parts" / secrets.token_hex(8)
        draft.write_bytes(content)
        draft.replace(file)

    def hold(self, repo: Repo, sha: str, size: int, xet: str | None = None) -> None:
        """From now on this repository may name the content: what another one has is not for it, though the bytes are here."""
        with self.at_once():
            self._ask("INSERT OR IGNORE INTO objects VALUES(?, ?, ?, NULL)", repo.key, sha, size)
            self._ask("UPDATE objects SET xet = COALESCE(?, xet) WHERE repo = ? AND sha = ?", xet, repo.key, sha)

    def held(self, repo: Repo, sha: str = "", xet: str = "") -> File | None:
        """Content that this repository may name."""
        rows = self._ask(
            "SELECT size, sha, xet FROM objects WHERE repo = ? AND (sha = ? OR xet = ?)", repo.key, sha, xet
        )
        return next((File(size, sha, git_oid(pointer(sha, size)), True, xet) for size, sha, xet in rows), None)

    def set_pieces(self, xet: str, person: str, terms: list) -> None:
        """A file is made of these terms of this person's xorbs."""
        self._ask("INSERT OR REPLACE INTO pieces VALUES(?, ?, ?)", xet, person, json.dumps(terms))

    def pieces(self, xet: str) -> tuple[str, list]:
        ((person, terms),) = self._ask("SELECT person, terms FROM pieces WHERE xet = ?", xet)
        return person, json.loads(terms)

    # repositories

    def add(self, kind: str, id: str, visibility: str = "public", maker: str = "", author: str = "", **more) -> Repo:
        """A new repository with the Hub's first commit, or an empty bucket. Raises Conflict."""
        with self.at_once():
            if self.get(kind, id):
                raise Conflict(f"You already created this {kind} repo: {id}")
            self._ask(
                "INSERT INTO repos(kind, id, visibility, gated, accepted, maker, created, more) VALUES(?,?,?,'','[]',?,?,?)",
                kind, id, visibility, maker, time.time(), json.dumps(more),
            )  # fmt: skip
            repo = self.repo(kind, id)
            if kind != "bucket":
                first = {".gitattributes": self.file(ATTRIBUTES)}
                self.commit(repo, "refs/heads/main", lambda _: first, "initial commit", author=author, born=True)
            return repo

    def get(self, kind: str, id: str) -> Repo | None:
        return next(iter(self._repos("kind = ? AND id = ?", kind, id)), None)

    def repo(self, kind: str, id: str) -> Repo:
        """Raises Missing."""
        if (found := self.get(kind, id)) is None:
            raise Missing("RepoNotFound", f"There is no {kind} {id} on this Hub.")
        return found

    def by_key(self, key: int) -> Repo | None:
        return next(iter(self._repos("key = ?", key)), None)

    def all(self, kind: str) -> list[Repo]:
        return self._repos("kind = ?", kind)

    def _repos(self, where: str, *values) -> list[Repo]:
        with self._lock:
            rows = self._db.execute(f"SELECT * FROM repos WHERE {where} ORDER BY key DESC", values)
            named = [dict(zip((column[0] for column in rows.description), row, strict=True)) for row in rows]
        return [Repo(**row | {name: json.loads(row[name]) for name in ("accepted", "more")}) for row in named]

    def change(self, repo: Repo, **fields) -> None:
        """Set columns: id, visibility, gated, accepted, more. Raises Conflict for an id that is taken."""
        packed = {name: json.dumps(value) if name in ("accepted", "more") else value for name, value in fields.items()}
        try:
            with self.at_once():
                for name, value in packed.items():
                    self._ask(f"UPDATE repos SET {name} = ? WHERE key = ?", value, repo.key)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"There is a {repo.kind} of the name {fields['id']} already.") from error

    def drop(self, repo: Repo) -> None:
        self._ask("DELETE FROM repos WHERE key = ?", repo.key)

    # revisions

    def refs(self, repo: Repo) -> dict[str, str]:
        return dict(self._ask("SELECT ref, oid FROM refs WHERE repo = ?", repo.key))

    def ref(self, repo: Repo, revision: str) -> str:
        """The full name of a branch. Raises Missing."""
        known = self.refs(repo)
        if found := next((name for name in (revision, f"refs/heads/{revision}") if name in known), None):
            return found
        raise Missing("RevisionNotFound", f"Invalid rev id: {revision}")

    def resolve(self, repo: Repo, revision: str) -> str:
        """The commit that a branch, or the (beginning of the) name of a commit, stands for."""
        try:
            return self.refs(repo)[self.ref(repo, revision)]
        except Missing:
            if len(revision) >= 7 and revision.isalnum():
                rows = self._ask("SELECT oid FROM commits WHERE repo = ? AND oid LIKE ?", repo.key, f"{revision}%")
                if len(rows) == 1:
                    return rows[0][0]
            raise

    def history(self, repo: Repo, oid: str) -> list[Commit]:
        """A commit and those before it, newest first."""
        columns = "oid, parent, title, message, author, at"
        known = {row[0]: Commit(*row) for row in self._ask(f"SELECT {columns} FROM commits WHERE repo = ?", repo.key)}
        found, at = [], known.get(oid)
        while at:
            found.append(at)
            at = known.get(at.parent or "")
        return found

    def tree(self, repo: Repo, oid: str) -> dict[str, File]:
        """Path to file, in the order of paths."""
        rows = self._ask("SELECT tree FROM commits WHERE repo = ? AND oid = ?", repo.key, oid)
        return {path: File(**known) for path, known in json.loads(rows[0][0]).items()}

    def file(self, content: bytes) -> File:
        """A regular file of git."""
        return File(len(content), self.keep(content), git_oid(content))

    def commit(
        self, repo: Repo, ref: str, edit: Callable[[dict[str, File]], dict[str, File]], title: str, message: str = "",
        author: str = "", born: bool = False,
    ) -> str:  # fmt: skip
        """One commit on a ref, and its name. `edit` is given the tree before and returns the one after. Where `born`, the ref
        begins with it, and has no past. Raises Missing."""
        with self.at_once():
            before = None if born else self.refs(repo)[self.ref(repo, ref)]
            tree = dict(sorted(edit(self.tree(repo, before) if before else {}).items()))
            packed = json.dumps({path: asdict(file) for path, file in tree.items()})
            oid = hashlib.sha1(f"{before}{title}{packed}{secrets.token_hex(8)}".encode()).hexdigest()
            row = (repo.key, oid, before, title, message, author, time.time(), packed)
            self._ask("INSERT INTO commits VALUES(?,?,?,?,?,?,?,?)", *row)
            self._ask("INSERT OR REPLACE INTO refs VALUES(?, ?, ?)", repo.key, ref, oid)
            return oid

    # buckets

    def stored(self, repo: Repo) -> dict[str, tuple[File, int, float]]:
        """A bucket's files: path to (file, the client's mtime in milliseconds, unix time of the upload)."""
        rows = self._ask("SELECT path, file, mtime, at FROM stored WHERE repo = ? ORDER BY path", repo.key)
        return {path: (File(**json.loads(file)), mtime, at) for path, file, mtime, at in rows}

    def put(self, repo: Repo, path: str, file: File | None, mtime: int = 0) -> None:
        """Set or (None) remove a file of a bucket."""
        with self.at_once():
            self._ask("DELETE FROM stored WHERE repo = ? AND path = ?", repo.key, path)
            if file is not None:
                row = (repo.key, path, json.dumps(asdict(file)), mtime, time.time())
                self._ask("INSERT INTO stored VALUES(?, ?, ?, ?, ?)", *row)

    # for tests

    def files(self, kind: str, id: str, rev: str = "main") -> dict[str, bytes]:
        """Everything in a revision of a repository, or in a bucket."""
        repo = self.repo(kind, id)
        if kind == "bucket":
            return {path: self.blob(file.sha).read_bytes() for path, (file, _, _) in self.stored(repo).items()}
        tree = self.tree(repo, self.resolve(repo, rev))
        return {path: self.blob(file.sha).read_bytes() for path, file in tree.items()}

    def commits(self, kind: str, id: str, rev: str = "main") -> list[Commit]:
        """Newest first."""
        repo = self.repo(kind, id)
        return self.history(repo, self.resolve(repo, rev))

    def write(self, kind: str, id: str, files: Mapping[str, bytes], title: str = "written by a test", **new) -> str:
        """Add regular files to a repository's main branch, and make it first if need be; `new` are arguments of add()."""
        with self.at_once():
            repo = self.get(kind, id) or self.add(kind, id, **new)
            added = {path: self.file(content) for path, content in files.items()}
            return self.commit(repo, "refs/heads/main", lambda tree: tree | added, title, author=repo.namespace)

    def gate(self, kind: str, id: str, accepted: tuple[str, ...] | list[str] = (), how: str = "auto") -> None:
        """Let only the accepted (and its owners) read the files of a repository; `how` "" opens it."""
        self.change(self.repo(kind, id), gated=how, accepted=list(accepted))
