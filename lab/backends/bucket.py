"""The folder of a rented job in the person's private bucket: what goes there, and what comes back."""

import re
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, get_args

from lab.backend import State, read_json
from lab.errors import Refused

# huggingface_hub's own for what jobs need (constants.HF_JOBS_ARTIFACTS_BUCKET_NAME); and ours, where that one was made
# by another application: a sign-in with contribute-repos has only what this one makes
BUCKETS = ("jobs-artifacts", "ml-intern-jobs")
MOUNT = "/job"
LARGEST = 50 * 2**30  # bytes of one file that a job may bring back
REFUSED = re.compile(r"client error \((401|403|404)\b")  # hf_xet's words, in a ConnectionError


def upload(api: Any, owner: str, parcel: Path, place: str) -> Any:
    """The parcel as a volume that the job can write in. Raises Refused where there is no bucket for it, or a public one.

    Nothing else takes the place of a bucket: repositories are mounted read-only, and what a machine would push to one
    needs a token on it.
    """
    from huggingface_hub import Volume
    from huggingface_hub.errors import HfHubHTTPError

    for bucket in (f"{owner}/{name}" for name in BUCKETS):
        try:
            api.create_bucket(bucket, private=True, exist_ok=True)
            if not api.bucket_info(bucket).private:
                raise Refused(
                    f"The bucket {bucket} is public, and what goes to jobs is not; make it private in its settings."
                )
            api.sync_bucket(str(parcel), f"hf://buckets/{bucket}/{place}", quiet=True)
        except HfHubHTTPError as error:
            if error.response.status_code not in (
                401,
                403,
                404,
            ):  # 401: of a token without the scope, too (create_bucket)
                raise
        except OSError as error:
            if not REFUSED.search(str(error)):
                raise
        else:
            return Volume(type="bucket", source=bucket, mount_path=MOUNT, path=place, read_only=False)
    api.whoami()  # raises where the token has just ended: that is no refusal
    raise Refused(
        f"This HF_TOKEN may write in no bucket of {owner} ({' or '.join(BUCKETS)}), and what a rented job makes comes back "
        "by one; give it write access to your repositories and buckets (write-repos), or use machine 'local'."
    )


class Brought:
    """What a job has left in the bucket so far."""

    def __init__(self, api: Any, owner: str, place: str, folder: Path):
        """`place` is the job's in the bucket, `folder` its own here. Raises what the Hub's client raises."""
        self._api, self._folder = api, folder
        self._bucket, listed = _found(api, owner, place)
        files = {PurePosixPath(one.path): one for one in listed if hasattr(one, "size")}
        top = PurePosixPath(place, "out")
        self._files = {path.relative_to(top): one for path, one in files.items() if path.is_relative_to(top)}

    def ending(self, attempt: int) -> dict[str, Any]:
        """The exit.json of an attempt; {} where it did not come to that, wrote what is none, or its files are not all here yet."""
        said = self._files.get(PurePosixPath("exit.json"))
        if not said:
            return {}
        with TemporaryDirectory(prefix=".fetched-", dir=self._folder) as scratch:
            self._api.download_bucket_files(self._bucket, [(said, Path(scratch, "exit.json"))])
            left = read_json(Path(scratch, "exit.json"))
        ends = left.get("attempt") == attempt and left.get("state") in get_args(State)[2:]
        ends = ends and isinstance(left.get("code"), int) and -64 < left["code"] < 256
        return left if ends and isinstance(left.get("files"), dict) and self._has(left["files"]) else {}

    def _has(self, files: dict[str, Any]) -> bool:
        here = {path.as_posix(): file.size for path, file in self._files.items()}
        return all(here.get(name) == size for name, size in files.items())

    def fetch(self, *, whole: bool, checkpoints: bool) -> None:
        """Bring it into the job's folder. What is not `whole` has no model: half of one must not be taken for it."""
        leaves = {"exit.json"} | (set() if whole else {"model"}) | (set() if checkpoints else {"checkpoints"})
        wanted = [path for path in self._files if _welcome(path) and path.parts[0] not in leaves]
        pairs = [(self._files[path], self._folder / path) for path in wanted if self._files[path].size <= LARGEST]
        self._api.download_bucket_files(self._bucket, pairs)


def _found(api: Any, owner: str, place: str) -> tuple[str, list[Any]]:
    """The bucket that a parcel went to, and what is there; the first one where somebody took it away. Raises where that is hidden."""
    from huggingface_hub.errors import BucketNotFoundError, EntryNotFoundError

    first, other = (f"{owner}/{name}" for name in BUCKETS)
    hidden: BucketNotFoundError | None = None
    for bucket in (first, other):
        try:
            if listed := list(api.list_bucket_tree(bucket, prefix=place, recursive=True)):
                return bucket, listed
        except EntryNotFoundError:
            continue
        except BucketNotFoundError as error:
            hidden = hidden or (error if bucket == first else None)
    if hidden:  # this token may be another one than that which sent the job
        raise hidden
    return first, []


def _welcome(path: PurePosixPath) -> bool:
    """Whether a file may come back: nothing hidden, and no path that leads elsewhere."""
    return not path.is_absolute() and not any(part.startswith(".") for part in path.parts)
