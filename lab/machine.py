"""What this machine is called in facts and reports: its GPU, or its cores. Asked once."""

import subprocess
from functools import cache

import psutil


@cache
def this_machine() -> str:
    """For example "local NVIDIA T4" or "local CPU, 2 cores"."""
    gpu = _gpu()
    return f"local {gpu}" if gpu else f"local CPU, {psutil.cpu_count() or 1} cores"


def _gpu() -> str | None:
    """The first GPU's name, as nvidia-smi says it."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    name = asked.stdout.strip().partition("\n")[0]
    return name if asked.returncode == 0 and name else None
