"""Processes that outlive us: who they are, whether they still run, how to end them. Unix only."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

UNWILLING = 10.0  # seconds that a launcher has: twice what it gives itself
Identity = list  # [pid, when it began]: a pid alone may be somebody else's by now


def identity(pid: int) -> Identity:
    """The identity of a process that runs. Raises psutil.NoSuchProcess."""
    return [pid, _began(pid)]


def alive(who: Identity | None) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    if not who:
        return False
    try:
        return _began(who[0]) == who[1] and psutil.Process(who[0]).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _began(pid: int) -> float:
    """On Linux in ticks since the machine started (proc(5), field 22), which a step of the clock does not move."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return psutil.Process(pid).create_time()


def send(who: Identity | None, what: signal.Signals) -> None:
    """Signal a process, if it is still that one."""
    if who and alive(who):
        with suppress(ProcessLookupError):
            os.kill(who[0], what)


def kill_group(pgid: int, what: signal.Signals = signal.SIGKILL) -> None:
    """Signal a whole process group; one that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, what)


def end(launcher: subprocess.Popen) -> int:
    """End a command that runs beside its launcher (lab.confine), with all that it started; returns its exit code."""
    launcher.terminate()
    try:
        return launcher.wait(UNWILLING)
    except subprocess.TimeoutExpired:
        kill_group(launcher.pid)
        return launcher.wait()
