"""What the tests of the mirror and of fetching out of it share: sessions of one person, and what of them is on the Hub."""

import random
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
from tests.conftest import until
from tests.hub import Hub

REPO = "ada/ml-intern-sessions"
DAY = "20261121-120000-"
CALM = Pace(gap=0.01, every=0.01, first=0.01, longest=0.1)  # nothing but what the test does
# An hour in some seconds: 600 times as fast as `Pace()`.
FAST = Pace(every=0.15, gap=0.03, most=40, window=6.0, first=0.02, longest=0.6, renew=0.8, dead=1.0, trace=1.0)


def remote_of(hub: Hub, home: Path, token: str = "hf_ada") -> Remote:
    return Remote(HfApi(endpoint=hub.url, token=token), REPO, home / "mirror")


def mirror_of(hub: Hub, home: Path, machine: str = "here", pace: Pace = CALM, **more) -> Mirror:
    return Mirror(remote_of(hub, home), home / "sessions", machine, pace, **more)


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


def there(hub: Hub, name: str = "aaa") -> dict[str, bytes]:
    prefix = f"sessions/{DAY}{name}/"
    files = hub.repos.files("dataset", REPO)
    return {path[len(prefix) :]: data for path, data in files.items() if path.startswith(prefix)}


def commits(hub: Hub) -> int:
    """Commits of ours: one is the Hub's own."""
    return len(hub.repos.commits("dataset", REPO)) - 1


def log_there(hub: Hub, name: str = "aaa") -> bytes:
    return b"".join(data for path, data in sorted(there(hub, name).items()) if path.startswith("events/"))


def weights(folder: Path, size: int = 1000) -> bytes:
    folder.mkdir(parents=True)
    data = random.randbytes(size)
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text("{}")
    return data
