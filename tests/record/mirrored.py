"""What the tests of the mirror and of fetching out of it share: sessions of one person, and what of them is elsewhere."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from record.events import (
    Budget,
    Goal,
    Launched,
    Opened,
)  # fmt: skip
from record.log import Log
from record.mirror import Mirror, Pace
from record.remote import Remote
from record.shelf import Place, Shelf
from tests.conftest import until
from tests.hub import Hub

REPO = "ada/ml-intern-sessions"
DAY = "20261121-120000-"
CALM = Pace(gap=0.01, every=0.01, first=0.01, longest=0.1)  # nothing but what the test does
# An hour in some seconds: 600 times as fast as `Pace()`.
FAST = Pace(every=0.15, gap=0.03, most=40, window=6.0, first=0.02, longest=0.6, renew=0.8, dead=1.0, trace=1.0)


@dataclass(frozen=True)
class Folder:
    """A folder in the place of the Hub."""

    path: Path

    @property
    def shelf(self) -> Shelf:
        """As a process sees it that has just begun."""
        return Shelf(self.path, self.path.with_name("reading"))


Store = Hub | Folder


def remote_of(store: Store, home: Path, token: str = "hf_ada") -> Place:
    if isinstance(store, Folder):
        return Shelf(store.path, home / "mirror")
    return Remote(HfApi(endpoint=store.url, token=token), REPO, home / "mirror")


def mirror_of(store: Store, home: Path, machine: str = "here", pace: Pace = CALM, **more) -> Mirror:
    return Mirror(remote_of(store, home), home / "sessions", machine, pace, **more)


def files_of(store: Store) -> dict[str, bytes]:
    """Every file, by its path."""
    if not isinstance(store, Folder):
        return store.repos.files("dataset", REPO)
    shelf, target = store.shelf, store.path.with_name("read")
    shutil.rmtree(target, ignore_errors=True)
    if not (head := shelf.head()):
        return {}
    files = {path: entry for path, entry in shelf.files(head).items() if "/" in path}
    shelf.fetch(head, files, target)
    return {path: (target / path).read_bytes() for path in files} | {
        "README.md": (store.path / "README.md").read_bytes()
    }


def session(home: Path, name: str = "aaa") -> Log:
    folder = home / "sessions" / f"{DAY}{name}"
    (folder / "workspace").mkdir(parents=True)
    (folder / "jobs").mkdir()
    log = Log(folder / "events.jsonl")
    goal = Goal(text="Make it better", task="chains", model="starter")
    log.append(Opened(session=folder.name, goal=goal, budget=Budget(), driver="autopilot"))
    return log


def job(log: Log, name: str = "sft-1") -> Path:
    log.append(Launched(job=name, recipe="sft", config={}, machine="local", hours=1, folder=f"jobs/{name}"))
    folder = log.path.parent / "jobs" / name
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def sent(one: Mirror, seconds: float = 20) -> None:
    """Look until all that is here is there."""
    until(lambda: one.look(hurry=True), seconds)


def there(store: Store, name: str = "aaa") -> dict[str, bytes]:
    prefix = f"sessions/{DAY}{name}/"
    return {path[len(prefix) :]: data for path, data in files_of(store).items() if path.startswith(prefix)}


def commits(store: Store) -> int:
    """Commits of ours: one is the Hub's own. In a folder, those of the session with the most; each of ten minutes is kept."""
    if isinstance(store, Folder):
        return max(map(len, store.shelf._list().values()))
    return len(store.repos.commits("dataset", REPO)) - 1


def log_there(store: Store, name: str = "aaa") -> bytes:
    return b"".join(data for path, data in sorted(there(store, name).items()) if path.startswith("events/"))


def weights(folder: Path, size: int = 1000) -> bytes:
    folder.mkdir(parents=True)
    data = random.randbytes(size)
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text("{}")
    return data
