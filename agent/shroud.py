"""Keep keys out of what others can read of this process: its initial environment, its error output (its memory: recipes.secret).

What a process was started with stands in /proc/<pid>/environ for as long as it lives, whatever it removes from its
environment later, and every process of the same user can read it: the agent's own commands, for one.
"""

import ctypes
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from record.redact import redact

ENV_START, ENV_END = 49, 50  # places in /proc/self/stat, from 0 (proc(5): fields 50 and 51)


def wipe(names: Iterable[str]) -> None:
    """Overwrite the values of these variables where the kernel shows them. Linux only; elsewhere it does nothing.

    It does not reach the environment of whoever started us, e.g. a shell in which a key was exported.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):  # no /proc, or one that hides these places: then nobody reads it
        stat = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
        start, end = (int(stat[place - 2]) for place in (ENV_START, ENV_END))
        if not 0 < start < end:
            return
        wanted, at = {name.encode() for name in names}, start
        for entry in ctypes.string_at(start, end - start).split(b"\0"):
            name, equals, value = entry.partition(b"=")
            if equals and name in wanted:
                ctypes.memset(at + len(name) + 1, 0, len(value))
            at += len(entry) + 1


def redact_errors(secrets: Iterable[str]) -> None:
    """From now on nothing is written to this process's error output with a secret in it, tracebacks included."""
    known = tuple(secrets)
    under = sys.stderr.under if isinstance(sys.stderr, _Redacted) else sys.stderr
    if under is not None:
        sys.stderr = _Redacted(under, known)  # type: ignore[assignment]  (it is all that a TextIO is asked for)


class _Redacted:
    """A text stream whose every write is redacted by itself: a secret torn over two writes is not seen."""

    def __init__(self, under: TextIO, secrets: tuple[str, ...]):
        self.under = under
        self._secrets = secrets

    def write(self, text: str) -> int:
        self.under.write(redact(text, self._secrets))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.under, name)
