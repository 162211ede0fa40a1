"""What a job is and what a machine must be able to do with one. A job is a folder: config in; metrics, log, result out."""

import json
import os
import stat
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any, BinaryIO, ClassVar, Literal, Protocol

from recipes.memory import Device

RENTED = "hf-jobs "  # how the names of rented machines begin
LONGEST = 1e8  # seconds: three years
ENDS = 4096  # bytes: some twenty lines of metrics
MOST = 2**26  # bytes of metrics that are read at once
LARGEST, DEEPEST = 2**20, 50  # bytes, and levels, of JSON that a trainer may have written
HIGHEST = 2**53  # of a step: what floats, and the page, count to
State = Literal["queued", "running", "done", "failed", "cancelled", "timeout"]


@dataclass(frozen=True)
class JobSpec:
    """What to run and where. `folder` is the job's own; `config` is the recipe's."""

    job: str
    recipe: str
    config: dict[str, Any]
    folder: Path
    machine: str = "local"
    hours: float = 1.0  # run time, after which the backend ends the job; waiting in the queue does not count
    attempt: int = 1
    takes_s: float | None = None  # run time that is expected of it; None when nobody knows
    revisions: Mapping[str, str] = field(default_factory=dict)  # of the Hub's models that are mounted for it


@dataclass(frozen=True)
class JobState:
    """Where a job stands. `seconds` is run time so far; `place` is the number of jobs before it in the queue."""

    __pydantic_config__: ClassVar = {"allow_inf_nan": False}

    state: State
    seconds: float = 0.0
    reason: str = ""  # how it ended, or why it waits although nobody is before it
    place: int = 0
    signal: Signals | None = None  # what killed the trainer, when a signal did
    eta_s: float | None = None  # seconds until a queued job starts; None when nobody knows
    unseen: bool = False  # it cannot be asked at present: its silence says nothing

    @property
    def ended(self) -> bool:
        return self.state not in ("queued", "running")


@dataclass(frozen=True)
class Machine:
    """A machine that a job can have, here or rented. `bytes` are a GPU's, or its RAM; `price` is dollars an hour."""

    name: str
    device: Device
    bytes: int
    price: float | None  # None is unknown
    accelerators: int = 1  # that a job may use
    why: str = ""  # it was chosen, where nobody had named it
    half: bool = True  # it computes in bfloat16

    @property
    def here(self) -> bool:
        return not self.name.startswith(RENTED)


@dataclass(frozen=True)
class Point:
    """The metrics of one step, as the trainer logged them. Values are floats and may be nan or inf."""

    step: int
    values: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    at: float = 0.0  # unix seconds


class Backend(Protocol):
    """The six verbs of a machine. What a job makes comes into its folder (see lab.backends.folder). All are safe to repeat; none raises for a job that has ended."""

    @abstractmethod
    def price(self, machine: str) -> float | None:
        """Dollars an hour of a machine; None is unknown."""

    @abstractmethod
    def machines(self) -> Mapping[str, Machine]:
        """What can be rented, by name. Raises LabError."""

    @abstractmethod
    def waits(self, session: Path) -> float | None:
        """Seconds until the machine here would be free for a job of a session, whose folder it is; None when nobody knows."""

    @abstractmethod
    def launch(self, spec: JobSpec) -> None:
        """Start the job in its folder; a job that runs there already is left alone. Raises LabError."""

    @abstractmethod
    def state(self, folder: Path) -> JobState:
        """Where the job stands."""

    @abstractmethod
    def cancel(self, folder: Path) -> None:
        """Ask the job to save and stop, and then make it stop. Returns at once: `state` says when it has."""


def read_points(path: Path, after: int) -> tuple[list[Point], int]:
    """Points in a metrics.jsonl from byte offset `after`; a torn last line is left for the next call.

    A line that is none is left out: a disk that was full for a moment leaves half of one.
    """
    try:
        with own_file(path, os.O_RDONLY) as file:
            file.seek(after)
            data = file.read(MOST)
    except OSError:
        return [], after
    whole = data[: data.rfind(b"\n") + 1]
    points = [_point(line) for line in whole.splitlines()]
    return [point for point in points if point], after + len(whole)


def _point(line: bytes) -> Point | None:
    try:
        row = json.loads(line)
        values = {k: float(v) for k, v in row.items() if k not in ("step", "steps", "at") and v is not None}
        step, steps = int(row["step"]), row.get("steps")
        point = Point(step, values, None if steps is None else int(steps), float(row.get("at", 0.0)))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return point if max(abs(step), abs(point.steps or 0)) < HIGHEST else None


def pace_eta(point: Point, points: Sequence[Point]) -> float | None:
    """Seconds to the last step, from the pace between the first and this point; None before two points are there."""
    first = next((p for p in points if p.step), point)  # what is sampled before step 1 takes its time once
    if not point.steps or point.step <= first.step or point.at <= first.at:
        return None
    pace = (point.at - first.at) / (point.step - first.step)
    return round(pace * max(0, point.steps - point.step), 1)


def left_s(path: Path) -> float | None:
    """Seconds that a job still needs, by the ends of its metrics.jsonl; None when nobody knows."""
    try:
        with own_file(path, os.O_RDONLY) as file:
            head = file.read(ENDS)
            file.seek(max(0, file.seek(0, os.SEEK_END) - ENDS))
            tail = file.read()
    except OSError:
        return None
    points = [point for line in (head + b"\n" + tail).splitlines() if (point := _point(line))]
    eta = pace_eta(points[-1], points) if points else None
    if eta is None or not eta < LONGEST:  # its trainer may have written anything
        return None
    return max(0.0, eta - max(0.0, time.time() - points[-1].at))


def own_file(path: Path, flags: int) -> BinaryIO:
    """Open a file of a job's folder. That is its trainer's to write: a link may lead out of it, a pipe would hold us up.

    Raises OSError for these and for whatever else is no regular file.
    """
    at = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(at).st_mode):
        os.close(at)
        raise OSError(f"{path} is no file.")
    return os.fdopen(at, "rb" if flags == os.O_RDONLY else "ab")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that is written atomically; {} when it is not there, is none, or has no end."""
    try:
        with own_file(path, os.O_RDONLY) as file:
            value = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and not _deeper(value, DEEPEST) else {}


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object so that a reader sees all of it or the old one."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.unlink(missing_ok=True)  # it may be a link
    with own_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        file.write(json.dumps(value, indent=1, default=str).encode())
    draft.replace(path)
