"""The folder of a rented job in the person's private bucket: what goes there, and what comes back."""

from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, get_args

from lab.backend import State, read_json
from lab.errors import Refused

BUCKET = "jobs-artifacts"  # huggingface_hub's own for what jobs need (constants.HF_JOBS_ARTIFACTS_BUCKET_NAME)
MOUNT = "/job"
LARGEST = 50 * 2**30  # bytes of one file that a job may bring back


def upload(api: Any, owner: str, parcel: Path, place: str) -> Any:
    """The parcel as a volume. Raises Refused where the bucket is public."""
    from huggingface_hub import Volume

    bucket = f"{owner}/{BUCKET}"
    api.create_bucket(bucket, private=True, exist_ok=True)
    if not api.bucket_info(bucket).private:
        raise Refused(f"The bucket {bucket} is public, and what goes to jobs is not; make it private in its settings.")
    api.sync_bucket(str(parcel), f"hf://buckets/{bucket}/{place}", quiet=True)
    return Volume(type="bucket", source=bucket, mount_path=MOUNT, path=place, read_only=False)


class Brought:
    """What a job has left in the bucket so far."""

    def __init__(self, api: Any, owner: str, place: str, folder: Path):
        """`place` is the job's in the bucket, `folder` its own here. Raises what the Hub's client raises."""
        from huggingface_hub.errors import EntryNotFoundError

        self._api, self._folder = api, folder
        self._bucket, top = f"{owner}/{BUCKET}", PurePosixPath(place, "out")
        try:
            listed = list(api.list_bucket_tree(self._bucket, prefix=str(top), recursive=True))
        except EntryNotFoundError:
            listed = []
        self._files = {PurePosixPath(one.path).relative_to(top): one for one in listed if hasattr(one, "size")}

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


def _welcome(path: PurePosixPath) -> bool:
    """Whether a file may come back: nothing hidden, and no path that leads elsewhere."""
    return not path.is_absolute() and not any(part.startswith(".") for part in path.parts)
