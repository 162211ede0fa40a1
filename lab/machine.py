"""What this machine is called in facts and reports, and how much memory a trainer has on it. Asked once."""

import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from recipes.memory import Device

LIMIT = Path("/sys/fs/cgroup/memory.max")  # cgroup v2: what a container may use


def this_machine() -> str:
    """For example "local NVIDIA T4", by the first GPU that nvidia-smi names, or "local CPU, 2 cores"."""
    gpu = _gpu()
    return f"local {gpu[0]}" if gpu else f"local CPU, {psutil.cpu_count() or 1} cores"


def memory() -> tuple[Device, int]:
    """Where a trainer keeps its tensors, and how many bytes are there: of the first GPU, or of the container's RAM."""
    if gpu := _gpu():
        return "cuda", gpu[1]
    limit = LIMIT.read_text().strip() if LIMIT.is_file() else "max"
    whole = psutil.virtual_memory().total
    return "cpu", whole if limit == "max" else min(whole, int(limit))


@cache
def _gpu() -> tuple[str, int] | None:
    """Name and bytes of the first GPU; None where there is none, nvidia-smi failed, or did not answer."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        asked = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        name, _, mebibytes = asked.stdout.strip().partition("\n")[0].rpartition(", ")
        return (name, int(mebibytes) * 2**20) if name else None
    return None
