"""A person's dataset repository as the mirror uses it: every way in which the Hub can fail becomes one error."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from record.contents import oids

Entry = TypeVar("Entry")
REFUSED = (400, 413, 422)  # statuses of a request that is wrong in itself
OFF = "OFF"  # by a file of this name a person refuses, in whatever Space they sign in
TO_A_PERSON = (401, 402, 403)  # nothing but a person mends these: token, quota, rights
WHY = {
    401: "the Hub does not know this token; sign in again, or set another HF_TOKEN",
    402: "the Hub wants this storage to be paid for; see https://huggingface.co/settings/billing",
    403: "this token may not write there; sign in again, or set an HF_TOKEN that may write",
    429: "the Hub asks for a pause",
}


class Trouble(Exception):
    """The Hub, or a folder in its place, did not do what it was asked, or did not say so.

    Args:
        wait_s: How long it asks us to wait.
        person: Somebody must act.
        refused: It does not take just this, however often it is sent.
        spoilt: Part of what was sent is lost there; from now on the newest is what is whole.
    """

    def __init__(
        self, why: str, wait_s: float = 0.0, person: bool = False, refused: bool = False, spoilt: bool = False
    ):
        super().__init__(why)
        self.wait_s, self.person, self.refused, self.spoilt = wait_s, person, refused, spoilt


class Remote:
    """One repository. Every method raises Trouble. Thread-safe.

    Args:
        api: A huggingface_hub.HfApi with the person's token: whatever goes out goes with it, and to its endpoint alone.
        repo: Its full name.
        scratch: A folder of ours, on the disk of the sessions.
    """

    def __init__(self, api: Any, repo: str, scratch: Path):
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        self.repo = repo
        self.scratch = scratch
        self.made: set[str] = set()  # commits of this process
        self._api = api
        self._where = {"repo_id": repo, "repo_type": "dataset"}

    def renew(self, token: str) -> None:
        """Go on with another token of the same person."""
        self._api.token = token

    def head(self, make: bool = False) -> str | None:
        """The newest commit. None where there is no repository; with `make` there is one then, a private one."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with told():
            try:
                info = self._api.repo_info(**self._where)
            except RepositoryNotFoundError:
                if not make:
                    return None
                self._api.create_repo(**self._where, private=True, exist_ok=True)
                info = self._api.repo_info(**self._where)
            if not info.private:
                raise Trouble(f"{self.repo} is public, and sessions are not: make it private again", person=True)
            if any(file.rfilename == OFF for file in info.siblings or []):
                raise Trouble(
                    f"{self.repo} has a file {OFF}: nothing is written or fetched until it is gone", person=True
                )
            return info.sha

    def files(self, head: str) -> dict[str, tuple[int, str]]:
        """Size and name (see `oids`) of every file at a commit."""
        from huggingface_hub.hf_api import RepoFile

        with told():
            rows = self._api.list_repo_tree(**self._where, recursive=True, revision=head)
            return {
                row.path: (row.size, row.lfs.sha256 if row.lfs else row.blob_id)
                for row in rows
                if isinstance(row, RepoFile)
            }

    def fetch(self, head: str, files: dict[str, tuple[int, str]], target: Path) -> None:
        """Lay files of a commit down below a folder, each as it was sent. A fetch that was cut off goes on."""
        with told():
            for path, (_, name) in files.items():
                cache = {"local_dir": target, "cache_dir": self.scratch / "cache"}
                for _ in range(2):  # what lies there may have been changed since it was fetched
                    found = Path(self._api.hf_hub_download(**self._where, filename=path, revision=head, **cache))
                    if name in oids(found):
                        break
                    found.unlink()
                else:
                    raise Trouble(f"{path} did not arrive as it was sent")

    def read(self, head: str, path: str) -> dict[str, Any]:
        """A small JSON object."""
        with told():
            cache = {"local_dir": self.scratch / "read", "cache_dir": self.scratch / "cache"}
            found = self._api.hf_hub_download(**self._where, filename=path, revision=head, **cache)
            return dict(json.loads(Path(found).read_bytes()))

    def upload(self, path: str, file: Path) -> Any:
        """Send the content of a big file ahead; what is returned goes into a later `commit`."""
        from huggingface_hub import CommitOperationAdd

        with told():
            addition = CommitOperationAdd(path, file)
            self._api.preupload_lfs_files(**self._where, additions=[addition], free_memory=False)
            return addition

    def commit(self, head: str, title: str, add: dict[str, Any], delete: list[str]) -> str:
        """Change files in one commit, if `head` is still the newest, and return its name.

        Args:
            add: Path to bytes, or to what `upload` returned.
            delete: Paths of files.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with told():
            added = [CommitOperationAdd(path, what) if isinstance(what, bytes) else what for path, what in add.items()]
            operations = [*map(CommitOperationDelete, delete), *added]  # a folder may take the place of a file
            done = self._api.create_commit(
                **self._where, operations=operations, commit_message=title, parent_commit=head
            )
            self.made.add(done.oid)
            return done.oid

    def history(self) -> list[tuple[str, float]]:
        """Every commit, newest first: its name, and when the Hub took it (unix seconds)."""
        with told():
            return [(one.commit_id, one.created_at.timestamp()) for one in self._api.list_repo_commits(**self._where)]

    def squash(self) -> None:
        """Make one commit, of the files that are there now, out of the history."""
        with told():
            self._api.super_squash_history(**self._where, commit_message="Earlier snapshots, as one")


def by_session(files: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    """The files of every session, by their whole paths."""
    found: dict[str, dict[str, Entry]] = {}
    for path, entry in files.items():
        if path.startswith("sessions/") and path.count("/") > 1:
            found.setdefault(path.split("/")[1], {})[path] = entry
    return found


@contextmanager
def told() -> Iterator[None]:
    """Every failure as Trouble: refusals, cut connections, answers that are none, and a disk that is full."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import parse_ratelimit_headers

    try:
        yield
    except HfHubHTTPError as error:
        headers, status = error.response.headers, error.response.status_code
        limit, after = parse_ratelimit_headers(headers), headers.get("retry-after", "")
        asked = float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0
        why = WHY.get(status) or f"the Hub answers {status}: {' '.join((error.server_message or str(error)).split())}"
        wait = float(after) if after.isdecimal() else asked
        raise Trouble(why[:300], wait, status in TO_A_PERSON, status in REFUSED) from error
    except httpx.TransportError as error:
        raise Trouble(f"the Hub cannot be reached ({type(error).__name__})") from error
    except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        refused = isinstance(error, ValueError)  # the client itself does not take a name that it is given
        raise Trouble(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], refused=refused) from error
