"""What this machine is: cores, memory, GPU. Asked once."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

import psutil


@dataclass(frozen=True)
class Machine:
    cores: int
    memory_gib: float
    gpu: str | None  # the first GPU's name, as nvidia-smi says it
    gpu_gib: float | None = None

    @property
    def label(self) -> str:
        return f"local {self.gpu}" if self.gpu else f"local CPU, {self.cores} cores"


@cache
def this_machine() -> Machine:
    """The machine that we run on."""
    cores = psutil.cpu_count() or 1
    memory = psutil.virtual_memory().total / 2**30
    gpu, gpu_gib = _gpu()
    return Machine(cores, round(memory, 1), gpu, gpu_gib)


def _gpu() -> tuple[str | None, float | None]:
    if not shutil.which("nvidia-smi"):
        return None, None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    name, _, mib = asked.stdout.strip().partition("\n")[0].partition(", ")
    return (name, round(int(mib) / 1024, 1)) if asked.returncode == 0 and mib.isdigit() else (None, None)
