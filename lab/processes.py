"""Processes that outlive us: who they are, whether they still run, how to end them. Unix only."""

import os
import signal
from contextlib import suppress

import psutil

Identity = list  # [pid, start time in unix seconds]: a pid alone may be somebody else's by now


def identity(pid: int) -> Identity:
    """The identity of a process that runs."""
    return [pid, psutil.Process(pid).create_time()]


def alive(who: Identity | None) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    if not who:
        return False
    try:
        process = psutil.Process(who[0])
        return abs(process.create_time() - who[1]) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(who: Identity | None, what: signal.Signals) -> None:
    """Signal a process, if it is still that one."""
    if who and alive(who):
        with suppress(ProcessLookupError):
            os.kill(who[0], what)


def kill_group(pgid: int, what: signal.Signals = signal.SIGKILL) -> None:
    """Signal a whole process group; one that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, what)
