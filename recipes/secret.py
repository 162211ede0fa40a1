"""A secret that is handed to a process: on its standard input, where it is read once, and so in no environment or command."""

import ctypes
import sys

PR_SET_DUMPABLE = 4  # linux/prctl.h


def take() -> str:
    """The secret, from the first line of our input; from then on our memory is ours alone."""
    hide_memory()
    return sys.stdin.readline().strip()


def hide_memory() -> None:
    """No core dump, and no other process of our user may read our memory or attach to us. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
