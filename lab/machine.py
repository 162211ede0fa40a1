"""What this machine is called in facts and reports, and how much memory a trainer has on it, or finds free.

Of several GPUs the first is used, here as in recipes.training: trainers that share a model talk by ports of their own
choice, which lab.confine keeps shut. On rented machines they use all.
"""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from lab.backend import Machine
from recipes.memory import MIB, Device, cpu_halves

CGROUP = Path("/sys/fs/cgroup")  # version 2: what a container may use, and what became of it


def this_machine(device: str = "auto") -> str:
    """For example "local NVIDIA T4", by the first GPU that nvidia-smi names, or "local CPU, 2 cores" (always for "cpu")."""
    gpu = _gpu() if device == "auto" else None
    return f"local {gpu[0]}" if gpu else f"local CPU, {psutil.cpu_count() or 1} cores"


def machine_here(price: Callable[[str], float | None], device: str = "auto") -> Machine:
    """This machine for a job whose setting `device` is this. `price` knows the dollars an hour of a name."""
    name = this_machine(device)
    return Machine(name, *memory(device), price(name), half=has_bfloat16(device))


def memory(device: str = "auto") -> tuple[Device, int]:
    """Where a trainer keeps its tensors, and how many bytes are there: of the first GPU, or of the container's RAM."""
    gpu = _gpu() if device == "auto" else None
    return ("cuda", gpu[1]) if gpu else ("cpu", ram())


def has_bfloat16(device: str = "auto") -> bool:
    """Whether a trainer computes in it here: GPUs from Ampere on do, and one that does not say; see recipes.memory."""
    gpu = _gpu() if device == "auto" else None
    with suppress(ValueError):
        return float(gpu[2]) >= 8.0 if gpu else cpu_halves()
    return True


def ram() -> int:
    """Bytes that the container may use, or the machine has."""
    whole, limit = psutil.virtual_memory().total, _number(CGROUP / "memory.max")
    return whole if limit is None else min(whole, limit)


def free(device: Device) -> int:
    """Bytes that nobody uses: of the first GPU, or of what the container may use. A GPU that does not answer is all free."""
    if device == "cuda":
        return int(said[0]) * MIB if (said := _asked("memory.free")) else memory()[1]
    there, limit, taken = (
        psutil.virtual_memory().available,
        *(_number(CGROUP / f"memory.{n}") for n in ("max", "current")),
    )
    if limit is None or taken is None:
        return there
    return min(
        there, limit - taken + (_number(CGROUP / "memory.stat", "inactive_file") or 0)
    )  # the kernel gives that back


def oom_kills() -> int:
    """How many processes of this container the kernel has ended for want of memory; 0 where it does not say."""
    return _number(CGROUP / "memory.events", "oom_kill") or 0


def _number(file: Path, name: str = "") -> int | None:
    """The number in a file of the cgroup, or behind a name in it; None where there is none, or "max"."""
    with suppress(OSError, ValueError, StopIteration):
        return int(next(line.split()[-1] for line in file.read_text().splitlines() if line.startswith(name)))
    return None


@cache
def _gpu() -> tuple[str, int, str] | None:
    """Name, bytes and compute capability of the first GPU; None where there is none, nvidia-smi failed, or did not answer."""
    if not (said := _asked("name,memory.total")):
        return None
    able = _asked("compute_cap,memory.total")
    return said[0], int(said[1]) * MIB, able[0] if able else ""


def _asked(query: str) -> list[str] | None:
    """What nvidia-smi says of the first GPU: a name and whole numbers, in MiB."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        *name, number = asked.stdout.strip().partition("\n")[0].rsplit(", ", 1)
        return [*name, number] if number.isdigit() else None
    return None
