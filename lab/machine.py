"""What this machine is called in facts and reports: its GPU, or its cores. Asked once."""

import subprocess
from contextlib import suppress
from functools import cache

import psutil


@cache
def this_machine() -> str:
    """For example "local NVIDIA T4", by the first GPU that nvidia-smi names, or "local CPU, 2 cores"."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):  # there is none, it failed, or it did not answer
        asked = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        if name := asked.stdout.strip().partition("\n")[0]:
            return f"local {name}"
    return f"local CPU, {psutil.cpu_count() or 1} cores"
