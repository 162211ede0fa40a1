"""The folder of a rented job in the person's private dataset repository, where they may use no bucket."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.errors import Refused

NAME = "ml-intern-jobs"
JOB_TOKEN = "ML_INTERN_JOB_TOKEN"  # the setting, and the job's secret


class Repository:
    """A depot (see lab.backends.depot.Depot)."""

    def __init__(self, api: Any, name: str):
        self.name = name
        self._api = api
        self._where: dict[str, Any] = {"repo_id": name, "repo_type": "dataset"}
        self._head = ""

    def send(self, token: str, parcel: Path, place: str) -> str:
        """Commit the parcel below a place; the commit. Raises Refused, also for a repository that is public.

        With the token that the machine gets: what may not write there now could not later. The job is mounted and read
        back with the person's own.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

        api: Any = HfApi(endpoint=self._api.endpoint, token=token)
        try:
            role = ((api.whoami().get("auth") or {}).get("accessToken") or {}).get("role")
            if role in ("read", "write"):
                raise Refused(
                    f"{JOB_TOKEN} is a token for all that is yours (its role is {role}), and a machine gets it; "
                    f"make a fine-grained one that may write in the dataset repository {self.name} alone."
                )
            try:
                about = api.repo_info(**self._where)
            except RepositoryNotFoundError:
                if not self._api.repo_exists(**self._where):  # else the token is for something else
                    self._api.create_repo(**self._where, private=True, exist_ok=True)
                about = api.repo_info(**self._where)
            if not about.private:
                raise Refused(
                    f"The dataset repository {self.name} is public, and what goes to jobs is not; make it private in its settings."
                )
            if not self._api.repo_exists(**self._where):
                raise Refused(
                    f"This HF_TOKEN may not read the dataset repository {self.name}, by which the job goes; "
                    "give it read access to that one."
                )
            sent = api.upload_folder(
                **self._where, folder_path=parcel, path_in_repo=place, commit_message=f"The parcel of {place}"
            )
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 403, 404):
                raise
            raise Refused(
                f"{JOB_TOKEN} may not write in the dataset repository {self.name}, or there is none; make it, private, "
                "and a fine-grained token that may write in it alone."
            ) from error
        return sent.oid

    def listed(self, place: str) -> list[Any]:
        """Raises RepositoryNotFoundError where it is hidden; it is not where its owner asks and is not shown it."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

        try:
            self._head = self._api.repo_info(**self._where).sha
        except RepositoryNotFoundError:
            if self._api.whoami()["name"] != self.name.partition("/")[0]:
                raise
            return []
        with suppress(EntryNotFoundError):
            return list(
                self._api.list_repo_tree(**self._where, path_in_repo=place, recursive=True, revision=self._head)
            )
        return []

    def download(self, pairs: list[tuple[Any, Path]]) -> None:
        for file, target in pairs:
            target.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".fetched-", dir=target.parent) as scratch:
                found = self._api.hf_hub_download(
                    **self._where, filename=file.path, revision=self._head, local_dir=scratch
                )
                os.replace(found, target)
