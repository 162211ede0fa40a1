"""What every job shares: config in, metrics and result out, in one folder.

    config.json                 the recipe's Config, flat
    metrics.jsonl               {"step", "steps", "at", <name>: number or "nan", "inf", "-inf"} a line
    result.json                 {"ok": true, ...} or {"ok": false, "error", "kind": config | memory | stopped | crash}
    heartbeat                   touched every two seconds while the process lives
    checkpoints/, model/        where the recipe makes them

Of several processes that train together (recipes.processes) the first alone writes; result.json says why the first that
failed did.

Exit codes: 0 done, 1 crashed (traceback on stderr), 2 bad config (one sentence on stderr), 143 stopped by SIGTERM.
"""

import gc
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from recipes import processes

HEARTBEAT_SECONDS = 2.0
OUT_OF_MEMORY = (
    "CUDA out of memory", "OutOfMemoryError", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory",
    "No available memory for the cache blocks", "Free memory on device",
)  # fmt: skip
CRASHED, BAD_CONFIG, TERMINATED = 1, 2, 128 + signal.SIGTERM

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Stopped(BaseException):
    """SIGTERM arrived, and what had to be saved is saved. Not an Exception: no recipe may swallow it."""


class ConfigError(ValueError):
    """The config is well formed but cannot be run; the message is one sentence for a person."""


class Job:
    """One job's folder, and whether somebody has asked it to stop."""

    def __init__(self, folder: Path, accelerators: int = 1):
        """`accelerators` are its machine's, which it may use all."""
        self.folder = folder
        self.accelerators = accelerators
        self.launched = processes.world() > 1  # as one of several
        self.first = processes.rank() == 0
        self.metrics = folder / "metrics.jsonl"
        self.stopping = False
        self._saves_first = False

    def log(self, step: int, steps: int, **values: float) -> None:
        """Append one line of metrics and flush it."""
        if not self.first:
            return
        line = {"step": step, "steps": steps, "at": round(time.time(), 3)} | {k: visible(v) for k, v in values.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Forget the metrics after `step`, and a torn last line; returns the lines that stay."""
        kept = [line for line in read_lines(self.metrics) if line["step"] <= step]
        if self.first:
            write_whole(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def latest(self) -> dict[str, Any]:
        """The newest value of every metric so far."""
        values: dict[str, Any] = {}
        for line in read_lines(self.metrics):
            values |= line
        return values

    def saves_before_stopping(self) -> None:
        """From here on SIGTERM only sets `stopping`: the recipe looks at it, saves, and calls `stop_if_asked`."""
        self._saves_first = True

    def stop_if_asked(self) -> None:
        """Raises Stopped once SIGTERM has arrived."""
        self._saves_first = False
        if self.stopping:
            raise Stopped

    def on_sigterm(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asking twice must not cut the saving short
        self.stopping = True
        if not self._saves_first:
            raise Stopped


def run(main: Callable[[Any, Job], dict[str, Any]], config_type: type[ConfigT]) -> NoReturn:
    """Run a recipe on `sys.argv[1]`, a config.json; its folder is the job's. Always leaves a result.json, and exits.

    `sys.argv[2]` is the number of accelerators that the machine has for it; 1 where it is left out.
    """
    given = sys.argv[1:]
    if len(given) not in (1, 2) or not all(map(str.isdigit, given[1:])):
        fail(None, "config", "Say which config to run: python -m recipes.NAME FOLDER/config.json [ACCELERATORS].")
    gc.set_threshold(700, 10, 1000)  # looking for garbage in what torch and TRL import was 0.8 s of a start
    path = Path(given[0]).absolute()
    job = Job(path.parent, *map(int, given[1:]))
    if not job.launched:
        (job.folder / "result.json").unlink(missing_ok=True)  # of an earlier run that was stopped
    config = parse(path, config_type, job)
    signal.signal(signal.SIGTERM, job.on_sigterm)
    if job.first:
        beat(job.folder / "heartbeat")
    try:
        result = main(config, job)
    except Stopped:
        fail(job, "stopped", "Stopped by SIGTERM.")
    except ConfigError as error:
        fail(job, "config", str(error))
    except Exception as error:
        traceback.print_exc()
        fail(job, "memory" if out_of_memory(error) else "crash", sentence(error))
    if job.first:
        write_json(job.folder / "result.json", {"ok": True} | result)
    sys.exit(0)


def parse(path: Path, config_type: type[ConfigT], job: Job) -> ConfigT:
    """The config as the recipe's type; a bad one ends the process with exit code 2."""
    try:
        return config_type.model_validate_json(path.read_bytes())
    except OSError as error:
        fail(None, "config", f"{path} cannot be read: {error.strerror}.")
    except ValidationError as error:
        fail(job, "config", f"{path.name} is not a valid config ({problems(error)}).")


def problems(error: ValidationError) -> str:
    """What is wrong with a config, in one line: each setting, why, and the value seen."""
    return "; ".join(_problem(one) for one in error.errors())


def _problem(one: Any) -> str:
    where = ".".join(map(str, one["loc"]))
    seen = "" if one["type"] in ("missing", "json_invalid") else f", not {repr(one['input'])[:60]}"
    return f"{where or 'the file'}: {one['msg'].rstrip('.')}{seen}"


def fail(job: Job | None, kind: str, error: str) -> NoReturn:
    """Say it on stderr and, where there is a folder, in result.json; then exit with the code of this kind."""
    print(error, file=sys.stderr, flush=True)
    if job is not None and not (job.folder / "result.json").exists():
        with suppress(FileExistsError, FileNotFoundError):  # another process fails at the same moment
            write_json(job.folder / "result.json", {"ok": False, "error": error, "kind": kind})
    sys.exit({"config": BAD_CONFIG, "stopped": TERMINATED}.get(kind, CRASHED))


def beat(path: Path) -> None:
    """Touch `path` every two seconds from a daemon thread, as long as the process lives."""

    path.touch()  # before anything can go wrong

    def touch() -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            path.touch()

    threading.Thread(target=touch, name="heartbeat", daemon=True).start()


def out_of_memory(error: BaseException) -> bool:
    """MemoryError, or a message that torch 2.13 gives on CPU or CUDA when memory runs out, or vLLM 0.31."""
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(mark in text for mark in OUT_OF_MEMORY)


def sentence(error: BaseException) -> str:
    """The error's type and first line, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def visible(value: float) -> float | str:
    """A number as JSON can carry it: non-finite values become "nan", "inf" or "-inf", never null."""
    return value if math.isfinite(value) else str(float(value))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a torn last line is left out. Empty where there is no file."""
    if not path.exists():
        return []
    *whole, _torn = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write strict JSON in one move: a reader sees the old file or the new one. Non-finite floats become words."""
    plain = {k: visible(v) if isinstance(v, float) else v for k, v in value.items()}
    write_whole(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.unlink(missing_ok=True)  # it may be a link that somebody else left
    with scratch.open("x", encoding="utf-8") as file:
        file.write(text)
    os.replace(scratch, path)


def peak_rss_mb() -> int:
    """The most memory this process has held so far, in MiB (Linux counts ru_maxrss in KiB, macOS in bytes)."""
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1024**2)
