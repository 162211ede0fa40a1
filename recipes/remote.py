"""What stands beside a trainer on a rented machine: `python -m recipes.remote PLACE [--commit HUB REPO WITHIN] [NAME=PATH ...]`.

PLACE is a mounted folder that outlives the machine. In it come job.json ({"recipe", "hours", "attempt",
"accelerators"}), config.json and the files that it names, after HERE instead of the folder's own name; NAME=PATH is a setting that is mounted elsewhere. The trainer
works on the machine's own disk, since a mount is slow and may have no locks. Back into PLACE/out go its last
checkpoints while it runs, and at the end all that it leaves but those, with exit.json at last: {"state", "code", "attempt", "seconds", "files"}.
With --commit PLACE is read-only, and they go into WITHIN/out of a dataset repository instead, with the token that comes
on our input (recipes.secret) and that the trainer never sees.

Nobody else can reach this machine, so its curves go by its log: a line that begins with MARK is {"file", "at", "of",
"text"}, what a file of `of` bytes holds from byte `at` on. A reader that hears a line twice writes the same bytes twice.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from recipes.grace import checkpoint_bytes, grace
from recipes.job import write_json
from recipes.outbox import Commits, Outbox
from recipes.recorder import COMPLETE, OF_A_CHECKPOINT
from recipes.secret import take

MARK = "@ml-intern "
HERE = "@PLACE@"
TOLD = ("preflight.json", "metrics.jsonl", "heartbeat")
LONGEST = 8_000  # bytes of a file in one line of the log: containers cut lines at 16 KiB
LOOK = 1.0  # seconds
BEAT = 10.0  # seconds between two words that the trainer lives
STOPPED = (
    20.0  # seconds that a trainer has to save when the machine is taken away: what stops a container gives it 30 [H]
)
OOM_KILLS = Path("/sys/fs/cgroup/memory.events")


class Teller:
    """Says on our output what is new in the files of a folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._said: dict[str, tuple[float, int]] = {}  # a file's time, and how many of its bytes were said

    def tell(self) -> None:
        for name in TOLD:
            with suppress(FileNotFoundError):
                self._tell(name)

    def _tell(self, name: str) -> None:
        path = self._folder / name
        now = path.stat()
        changed, size = self._said.get(name, (0.0, 0))
        if now.st_mtime - changed < (BEAT if name == "heartbeat" else 1e-9) and now.st_size == size:
            return
        grows = name.endswith(".jsonl") and now.st_size >= size
        at = start = size if grows else 0  # a resume goes back: then all of it is said again
        with path.open("rb") as file:
            file.seek(at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1] if name.endswith(".jsonl") else data
        for piece in _pieces(whole) or [b""]:
            told = {"file": name, "at": at, "of": start + len(whole), "text": piece.decode()}
            print(MARK + json.dumps(told), flush=True)
            at += len(piece)
        self._said[name] = (now.st_mtime, start + len(whole))


def main(place: Path, mounted: dict[str, str], outbox: Outbox) -> int:
    """Run the job of PLACE to its end; 0 where its trainer did."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(signal.SIGTERM))
    job, config = (json.loads((place / name).read_text()) for name in ("job.json", "config.json"))
    config = {name: _there(value, place) for name, value in config.items()} | mounted
    work, out = Path(tempfile.mkdtemp(prefix="job-")), outbox.folder
    _restore(place / "out", work)
    write_json(work / "config.json", config)
    started, kills, until = time.time(), _oom_kills(), float("inf")
    saves = checkpoint_bytes(config)
    command = [sys.executable, "-m", f"recipes.{job['recipe']}", str(work / "config.json"), str(job["accelerators"])]
    trainer = subprocess.Popen(command, cwd=work, start_new_session=True, stdin=subprocess.DEVNULL)
    teller, why = Teller(work), None
    while trainer.poll() is None:
        teller.tell()
        if _carry(work, out):
            outbox.changed()
        late = time.time() - started > job["hours"] * 3600
        if why is None and (asked or late):
            why = "cancelled" if asked else "timeout"
            trainer.terminate()
            until = time.time() + (STOPPED if asked else grace(work, saves))
        if time.time() > until:
            with suppress(ProcessLookupError):
                os.killpg(trainer.pid, signal.SIGKILL)
        time.sleep(LOOK if trainer.poll() is None else 0)
    teller.tell()
    ending = {"state": why or ("done" if trainer.returncode == 0 else "failed"), "code": trainer.returncode}
    ending["attempt"] = job["attempt"]
    ending |= {"starved": _oom_kills() > kills, "seconds": time.time() - started}
    _carry(work, out)
    write_json(out / "exit.json", ending | {"files": _bring(work, out)})
    outbox.close()
    return 0 if trainer.returncode == 0 else 1


def _there(value: Any, place: Path) -> Any:
    return value.replace(HERE, str(place)) if isinstance(value, str) else value


def _restore(out: Path, work: Path) -> None:
    """What an earlier machine of this job had saved."""
    for checkpoint in out.glob("checkpoints/checkpoint-*"):
        if (checkpoint / COMPLETE).exists():
            _copy(checkpoint, work / "checkpoints" / checkpoint.name)
            (work / "checkpoints" / checkpoint.name / COMPLETE).touch()
    for name in (name for name in OF_A_CHECKPOINT if (out / name).exists()):
        shutil.copyfile(out / name, work / name)


def _carry(work: Path, out: Path) -> bool:
    """Keep in `out` the complete checkpoints that the trainer has, and the curve that belongs to them; whether that was news."""
    kept = out / "checkpoints"
    here = {path.name: path for path in work.glob("checkpoints/checkpoint-*") if (path / COMPLETE).exists()}
    there = {path.name for path in kept.glob("checkpoint-*") if (path / COMPLETE).exists()}
    for name in sorted(set(here) - there):
        try:
            _copy(here[name], kept / name)
            for beside in (one for one in OF_A_CHECKPOINT if (work / one).exists()):
                shutil.copyfile(work / beside, out / beside)
            shutil.copyfile(
                here[name] / COMPLETE, kept / name / COMPLETE
            )  # last: what a machine's death cuts off is none
        except OSError as error:  # the trainer has taken it away meanwhile, or the mount refuses
            print(f"The checkpoint {name} could not be kept: {error}", flush=True)
    for name in there - set(here) if here else ():
        shutil.rmtree(kept / name, ignore_errors=True)
    return bool(here) and there != {path.parent.name for path in kept.glob(f"checkpoint-*/{COMPLETE}")}


def _bring(work: Path, out: Path) -> dict[str, int]:
    """All that the trainer left, but its checkpoints and what is hidden; returns the bytes of each file."""
    out.mkdir(exist_ok=True)
    for path in work.iterdir():
        if path.name.startswith(".") or path.name in ("checkpoints", "config.json") or path.is_symlink():
            continue
        if path.is_dir():
            _copy(path, out / path.name)
        else:
            shutil.copyfile(path, out / path.name)
    brought = (path for path in work.rglob("*") if (out / path.relative_to(work)).is_file())
    names = {path.relative_to(work).as_posix(): path.stat().st_size for path in brought if path.is_file()}
    return {name: size for name, size in names.items() if not name.startswith("checkpoints/")}


def _copy(source: Path, target: Path) -> None:
    """The files of a folder, all but COMPLETE. Their bytes only: a mount may know no times and no modes."""
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != COMPLETE:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            try:
                os.link(path, place)
            except OSError:  # it is a mount
                shutil.copyfile(path, place)


def _pieces(data: bytes) -> list[bytes]:
    """Whole lines together, up to LONGEST bytes; a longer line is a piece of its own."""
    pieces: list[bytes] = []
    for line in data.splitlines(keepends=True):
        if pieces and len(pieces[-1]) + len(line) <= LONGEST:
            pieces[-1] += line
        else:
            pieces.append(line)
    return pieces


def _oom_kills() -> int:
    """How often the kernel has ended a process of this container for want of memory; 0 where it does not say."""
    with suppress(OSError, ValueError):
        events: dict[str, Any] = dict(line.split() for line in OOM_KILLS.read_text().splitlines())
        return int(events["oom_kill"])
    return 0


def outbox_of(place: Path, commit: list[str] | None) -> Outbox:
    """Where the job of PLACE leaves what it makes; `commit` is HUB, REPO and WITHIN."""
    if not commit:
        return Outbox(place / "out")
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    hub, repo, within = commit
    folder = Path(tempfile.mkdtemp(prefix="out-"))
    return Commits(HfApi(endpoint=hub, token=take()), repo, f"{within}/out", folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recipes.remote")
    parser.add_argument("place", type=Path)
    parser.add_argument("mounted", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--commit", nargs=3, metavar=("HUB", "REPO", "WITHIN"))
    return parser.parse_args()


if __name__ == "__main__":
    asked = _arguments()
    given = dict(pair.split("=", 1) for pair in asked.mounted)
    sys.exit(main(asked.place, given, outbox_of(asked.place, asked.commit)))
