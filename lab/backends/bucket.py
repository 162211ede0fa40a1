"""The folder of a rented job in the person's private bucket."""

import re
from pathlib import Path
from typing import Any

from lab.errors import Refused

# huggingface_hub's own for what jobs need (constants.HF_JOBS_ARTIFACTS_BUCKET_NAME); and ours, where that one was made
# by another application: a sign-in with contribute-repos has only what this one makes
BUCKETS = ("jobs-artifacts", "ml-intern-jobs")
REFUSED = re.compile(r"client error \((401|403|404)\b")  # hf_xet's words, in a ConnectionError


class Bucket:
    """A depot (see lab.backends.depot.Depot)."""

    def __init__(self, api: Any, owner: str):
        self._api = api
        self._names = [f"{owner}/{name}" for name in BUCKETS]
        self._name = self._names[0]

    def send(self, parcel: Path, place: str) -> str | None:
        """Put the parcel there; the bucket, None where there is none for it. Raises Refused for a public one."""
        from huggingface_hub.errors import HfHubHTTPError

        for bucket in self._names:
            try:
                self._api.create_bucket(bucket, private=True, exist_ok=True)
                if not self._api.bucket_info(bucket).private:
                    raise Refused(
                        f"The bucket {bucket} is public, and what goes to jobs is not; make it private in its settings."
                    )
                self._api.sync_bucket(str(parcel), f"hf://buckets/{bucket}/{place}", quiet=True)
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
                return bucket
        return None

    def listed(self, place: str) -> list[Any]:
        """Of the bucket that a parcel went to; the first one where somebody took it away."""
        from huggingface_hub.errors import BucketNotFoundError, EntryNotFoundError

        hidden: BucketNotFoundError | None = None
        for bucket in self._names:
            try:
                if listed := list(self._api.list_bucket_tree(bucket, prefix=place, recursive=True)):
                    self._name = bucket
                    return listed
            except EntryNotFoundError:
                continue
            except BucketNotFoundError as error:
                hidden = hidden or (error if bucket == self._names[0] else None)
        if hidden:  # this token may be another one than that which sent the job: a sign-in sees its own buckets only
            raise hidden
        return []

    def download(self, pairs: list[tuple[Any, Path]]) -> None:
        self._api.download_bucket_files(self._name, pairs)
