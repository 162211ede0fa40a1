"""What a rented machine says of itself about every second, as part of its job's curve.

It comes by another way than the curve, whose file is the trainer's to the byte; so it stands in a file beside that one, in
lines that name the point to which they belong by its time.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from lab.backend import Point, own_file, read_points

FILE = "hardware.jsonl"
EVERY = 15.0  # seconds between two points that say it
MOST = 600  # readings that are kept: the mean is of the last ten minutes, where points come more seldom
ODD = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
GB = 1e9  # bytes
SILENT = 10.0  # seconds without an event, which comes each second, after which a stream is over: it does not end with the job


def events(api: Any, job_id: str, namespace: str) -> Iterator[Any]:
    """What a job's machine says, each second, until the stream ends or fails. Raises what the Hub's client raises.

    `HfApi.fetch_job_metrics` of 1.33 asks again without a pause for as long as the Hub answers 500.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    address, headers = f"{api.endpoint}/api/jobs/{namespace}/{job_id}/metrics", build_hf_headers(token=api.token)
    with get_session().stream("GET", address, headers=headers, timeout=SILENT) as answer:
        hf_raise_for_status(answer)
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


class Gauge:
    """Gathers readings of one machine until a point of its job's curve takes their means along."""

    def __init__(self, folder: Path, every: float = EVERY):
        self._file, self._every = folder / FILE, every
        self._readings: deque[dict[str, float]] = deque(maxlen=MOST)
        self._taken = -every

    def read(self, told: Iterable[Any]) -> None:
        """Events of `events`, to their end; what is none is left out."""
        for one in told:
            with suppress(*ODD):
                self._readings.append(_reading(one))

    def mark(self, lines: bytes) -> None:
        """New lines of metrics.jsonl: the last of them has the means of all readings since `mark` last used some."""
        if not lines or not self._readings or time.monotonic() < self._taken + self._every:
            return
        with suppress(*ODD):
            last = json.loads(lines.splitlines()[-1])
            readings = [self._readings.popleft() for _ in range(len(self._readings))]
            means = {k: round(fmean(one[k] for one in readings if k in one), 2) for k in readings[-1]}
            line = json.dumps({"step": last["step"], "at": last["at"]} | means) + "\n"
            with own_file(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
                file.write(line.encode())
            self._taken = time.monotonic()


def gauged(folder: Path, points: list[Point]) -> list[Point]:
    """The points with what their machine said of itself."""
    said = {point.at: point.values for point in read_points(folder / FILE, 0)[0]} if points else {}
    return [replace(p, values=said[p.at] | p.values) if p.at in said else p for p in points]


def _reading(told: Any) -> dict[str, float]:
    """Percent and GB (of all GPUs together) of one event; raises ODD for what is none."""
    gpus = list(told["gpus"].values())
    found = {"cpu_util": told["cpu_usage_pct"], "memory_gb": told["memory_used_bytes"] / GB}
    if gpus:
        found |= {"gpu_util": fmean(gpu["utilization"] for gpu in gpus)}
        found |= {"gpu_memory_gb": sum(gpu["memory_used_bytes"] for gpu in gpus) / GB}
    if not all(map(isfinite, found.values())):
        raise ValueError(f"{found} is no reading.")
    return found
