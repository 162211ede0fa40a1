"""Where a rented machine leaves what its job makes: a mounted folder, or commits in a private dataset repository.

A repository cannot be mounted to write in. So what belongs there is laid into a folder of the machine first, and a thread
brings it to what the folder holds: each commit has whole checkpoints and the curve that belongs to them, or at the end all
that there is with exit.json, and takes out what is there no more. What is there is asked before each, so that a commit
whose answer was lost, or one of an earlier machine, costs nothing but that question. What was taken out stays in the
repository's history, and counts as what its owner stores: the larger a commit, the longer until the next.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recipes.grace import COMPLETE
from recipes.recorder import OF_A_CHECKPOINT

GAP = 120.0  # seconds between two commits: the Hub takes some 128 an hour for a repository, and other jobs use it, too
PACE = 1e6  # bytes a second of what is new there, over a job's time: 86 GB a day at most [H]
PAUSES = (2.0, 60.0)  # seconds before one is tried again: the first, and the longest
BRING = 600.0  # seconds at the end, after which what was not taken is lost; the Hub's timeout leaves as many [H]
REFUSED = (401, 403, 404)  # statuses that no other try makes better
Files = dict[str, bytes | Path]


class Public(Exception):
    """Anybody can read the repository."""


class Outbox:
    """A mounted folder: what is laid there is kept. `folder` is where to lay things."""

    def __init__(self, folder: Path):
        self.folder = folder

    def changed(self) -> None:
        """Its checkpoints are others now."""

    def close(self) -> None:
        """All is there, exit.json, too; comes back when it is kept, or never will be."""


class Commits(Outbox):
    """A folder of this machine, whose content goes below `within` of a repository. `api` has the token for it."""

    def __init__(self, api: Any, repo: str, within: str, folder: Path, pauses: tuple[float, float] = PAUSES):
        super().__init__(folder)
        self._api, self._within, self._pauses = api, within, pauses
        self._where = {"repo_id": repo, "repo_type": "dataset"}
        self._wanted: Files | None = None  # what is to be there
        self._news, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        whole = [mark.parent for mark in self.folder.glob(f"checkpoints/*/{COMPLETE}")]
        files: Files = {self._name(path): path for folder in whole for path in folder.rglob("*") if path.is_file()}
        for path in (self.folder / name for name in OF_A_CHECKPOINT):
            with suppress(FileNotFoundError):  # read now: a curve goes on
                files[self._name(path)] = path.read_bytes()
        if whole:  # what is there is not given up for nothing
            self._want(files)

    def close(self) -> None:
        self._want({self._name(path): path for path in self.folder.rglob("*") if path.is_file()})
        self._closing.set()
        self._news.set()
        self._thread.join(BRING)

    def _name(self, path: Path) -> str:
        return f"{self._within}/{path.relative_to(self.folder).as_posix()}"

    def _want(self, files: Files) -> None:
        self._wanted = files
        self._news.set()

    def _work(self) -> None:
        import httpx

        first, most = self._pauses
        pause = first
        while True:
            self._news.wait()
            self._news.clear()
            last = self._closing.is_set()  # after that: close() says so before there is news
            files = self._wanted or {}
            try:
                new = self._commit(files)
            except (httpx.HTTPError, OSError, RuntimeError, ValueError, Public) as error:  # RuntimeError: an upload's
                status, asked = _answer(error)
                # in one piece, and beside the lines by which curves go
                sys.stderr.write(f"What it made could not be committed ({status or type(error).__name__}).\n")
                hopeless = status in REFUSED or isinstance(error, Public)
                self._news.set()
                if last and hopeless:
                    self._wanted = {name: data for name, data in files.items() if not self._heavy(name)}
                    if status != 403 or len(self._wanted) == len(files):
                        return
                    continue  # 403: also what is too much for its owner's storage, and the model may not be
                self._rest(max(asked, most if hopeless else pause), most)
                pause = min(2 * pause, most)
                continue
            if last:
                return
            pause = first
            self._closing.wait(max(GAP, new / PACE))

    def _rest(self, seconds: float, most: float) -> None:
        """Wait until the next try: no longer than until the job ends, and from then on no longer than `most` [s]."""
        if self._closing.is_set():
            time.sleep(min(seconds, most))
        else:
            self._closing.wait(seconds)

    def _heavy(self, name: str) -> bool:
        return name.startswith(f"{self._within}/checkpoints/")

    def _commit(self, files: Files) -> int:
        """Bring the repository to these files; the bytes that were new. Without a checkpoint among them its own stay."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import EntryNotFoundError

        if not self._api.repo_info(**self._where).private:
            raise Public
        there: list[Any] = []
        with suppress(EntryNotFoundError):
            there = list(self._api.list_repo_tree(**self._where, path_in_repo=self._within, recursive=True))
        known = {one.path for one in there if hasattr(one, "size")}
        some = any(map(self._heavy, files))
        gone = [name for name in known if name not in files and (some or not self._heavy(name))]
        if not (files or gone):
            return 0
        with TemporaryDirectory(prefix="sending-", dir=self.folder.parent) as held:
            add = [
                CommitOperationAdd(path, _held(data, Path(held, str(n))))
                for n, (path, data) in enumerate(files.items())
            ]
            operations = [*map(CommitOperationDelete, gone), *add]
            self._api.create_commit(**self._where, operations=operations, commit_message=f"What {self._within} holds")
        return sum(one.upload_info.size for one in add if one.path_in_repo not in known)


def _held(data: bytes | Path, place: Path) -> bytes | str:
    """What a trainer that goes on saving does not take away while it is sent."""
    if isinstance(data, bytes):
        return data
    os.link(data, place)
    return str(place)


def _answer(error: BaseException) -> tuple[int, float]:
    """The status of the Hub's answer, 0 without one, and the seconds for which it asks us to wait."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import parse_ratelimit_headers

    said = error if isinstance(error, HfHubHTTPError) else error.__cause__
    if not isinstance(said, HfHubHTTPError):
        return 0, 0.0
    headers = said.response.headers
    limit, after = parse_ratelimit_headers(headers), headers.get("retry-after", "")
    asked = float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0
    return said.response.status_code, float(after) if after.isdecimal() else asked
