"""Volumes of a job. Nothing can be mounted here: a volume is a copy, and its mount path is rewritten to where that lies.

Rewritten in the command, its arguments and the environment; a script that names the path in its own text does not find it.
What a job writes into a bucket goes there when its file has been still for a moment, and when the job ends by itself. As with
the Hub's own mounts, what a killed job had not yet brought there is lost.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi

from tests.hub.store import Store


@dataclass
class Mount:
    """One volume in a job's scratch folder."""

    repos: Store
    api: HfApi  # writes as any client does: so a file gets its Xet hash
    kind: str
    source: str
    within: str  # "" or "folder/": the part of the source that is mounted
    path: str  # where the job believes that it lies
    folder: Path
    revision: str
    writable: bool
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def fill(self) -> None:
        self.folder.mkdir(parents=True)
        for name, data in self.repos.files(self.kind, self.source, self.revision).items():
            if name.startswith(self.within):
                file = self.folder / name.removeprefix(self.within)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
        self._seen = self._now()

    def bring(self) -> None:
        """Take what changed to the bucket."""
        if not self.writable:
            return
        now = self._now()
        added = [
            (self.folder / name, self.within + name) for name, stamp in now.items() if self._seen.get(name) != stamp
        ]
        gone = [self.within + name for name in self._seen.keys() - now.keys()]
        if added or gone:
            self.api.batch_bucket_files(self.source, add=added or None, delete=gone or None)
        self._seen = now

    def _now(self) -> dict[str, tuple[int, int]]:
        found = {}
        for file in self.folder.rglob("*"):
            if file.is_file():
                about = file.stat()
                found[file.relative_to(self.folder).as_posix()] = (about.st_mtime_ns, about.st_size)
        return found

    def rewritten(self, text: str) -> str:
        """`/data/x` as the path where it really lies; `/database` and `/my/data` stay."""
        return re.sub(rf"(?<![\w./-]){re.escape(self.path)}(?![\w.-])", str(self.folder), text)


def mount(volume: dict, repos: Store, api: HfApi, folder: Path) -> Mount:
    """A volume of a job's spec, in a folder of the job."""
    path = volume["mountPath"].rstrip("/")
    within = f"{inside}/" if (inside := (volume.get("path") or "").strip("/")) else ""
    writable = volume["type"] == "bucket" and not volume.get("readOnly")
    place = folder / path.strip("/").replace("/", "-")
    revision = volume.get("revision") or "main"
    return Mount(repos, api, volume["type"], volume["source"], within, path, place, revision, writable)
