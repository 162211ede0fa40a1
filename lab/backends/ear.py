"""Hears the log of a rented machine and what it says of itself, and writes it into its job's folder here."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.backends.gauge import EVERY, Gauge
from lab.errors import LabError
from lab.hub import in_words
from recipes.remote import MARK, TOLD

LARGEST = 2**28  # bytes of a curve: a line that says more is none
PAUSE = 30.0  # seconds between two beginnings of what may be missed


class Ear:
    """Writes what a machine says into the folder of its job."""

    def __init__(self, folder: Path, every: float = EVERY):
        """`every`: seconds between two points of the curve that say how the machine is used."""
        self._folder = folder
        self._gauge = Gauge(folder, every)
        self._turn = 0
        self._lock = threading.Lock()
        self._threads: dict[str, tuple[threading.Thread, float]] = {}  # and when they may begin again
        self.heard = time.monotonic()  # when the Hub last answered
        self.ended = 0.0  # when it was first seen to be over
        self.missed = 0.0  # since when the Hub says that there is no such job

    def listen(self, lines: Callable[[], Iterable[str]], readings: Callable[[], Iterable[Any]]) -> None:
        """Hear a log and the readings of a machine, each to its end in a thread of its own, unless that is done already.

        One that ends, or cannot be had, says nothing of the job, and does not keep the other up.
        """
        self._begin("log", lambda: self.hear(lines()), 0.0)
        self._begin("readings", lambda: self._gauge.read(readings()), PAUSE)

    def _begin(self, what: str, work: Callable[[], None], pause: float) -> None:
        thread, not_before = self._threads.get(what, (None, 0.0))
        if (thread and thread.is_alive()) or time.monotonic() < not_before:
            return

        def run() -> None:
            with suppress(LabError, OSError, KeyError), in_words(f"a job's {what}"):
                work()

        thread = threading.Thread(target=run, name=f"hf job's {what}", daemon=True)
        self._threads[what] = (thread, time.monotonic() + pause)
        thread.start()

    def hear(self, lines: Iterable[str]) -> None:
        """A log from its beginning. Whoever heard it until now hears no more."""
        with self._lock:
            self._turn += 1
            turn = self._turn
        size = 0
        for line in lines:
            with self._lock:
                if turn != self._turn:
                    return
                if line.startswith(MARK):
                    self._put(line.removeprefix(MARK))
                else:
                    text = line.rstrip("\n").encode() + b"\n"
                    _write(self._folder / "log.txt", size, text)
                    size += len(text)

    def _put(self, text: str) -> None:
        try:
            told = json.loads(text)
            name, at, data = told["file"], int(told["at"]), told["text"].encode()
            whole = at + len(data) == told["of"]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return
        if name not in TOLD or not 0 <= at <= LARGEST:
            return
        path = self._folder / name
        if name.endswith(".jsonl"):
            if not path.exists() or at >= path.stat().st_size:  # what is heard again has its readings
                self._gauge.mark(data)
            _write(path, at, data)
        elif name.endswith(".json"):
            draft = self._folder / f".{name}.part"
            _write(draft, at, data)
            if whole:
                draft.replace(path)
        else:
            path.touch()


def _write(path: Path, at: int, data: bytes) -> None:
    """What a file holds from byte `at` on; untouched where it holds it, and more, already."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.seek(at)
        if file.read(len(data)) != data:
            file.truncate(at)
            file.seek(at)
            file.write(data)
