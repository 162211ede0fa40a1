"""What a job's folder says, wherever the job ran."""

import os
from pathlib import Path
from signal import Signals
from typing import Any

from lab.backend import Point, own_file, read_json, read_points
from lab.backends.gauge import gauged

SENTENCE = 1000  # characters of a reason


def metrics(folder: Path, after: int) -> tuple[list[Point], int]:
    """Points after byte offset `after`; a file that has shrunk (a resume cut it) is read again from its start."""
    path = folder / "metrics.jsonl"
    if path.exists() and path.stat().st_size < after:
        after = 0
    points, after = read_points(path, after)
    return gauged(folder, points), after


def log_tail(folder: Path, chars: int = 4000) -> str:
    """The last characters of what the trainer printed."""
    try:
        with own_file(folder / "log.txt", os.O_RDONLY) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - chars))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def result(folder: Path) -> dict[str, Any]:
    return read_json(folder / "result.json")


def why(folder: Path, signal: Signals | None, code: Any) -> str:
    """Why a job failed, in one line: the signal, the recipe's own sentence, or the last line that it printed."""
    if signal:
        return f"the trainer was killed by {signal.name}"
    if said := result(folder).get("error"):
        return str(said)[:SENTENCE]
    lines = log_tail(folder).strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {code}"
