"""Hears the log of a rented machine, and writes into its job's folder here what it says."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from lab.errors import LabError
from lab.hub import in_words
from recipes.remote import MARK, TOLD

LARGEST = 2**28  # bytes of a curve: a line that says more is none


class Ear:
    """Writes what the log of a job says into its folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._turn = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.heard = time.monotonic()  # when the Hub last answered
        self.ended = 0.0  # when it was first seen to be over
        self.missed = 0.0  # since when the Hub says that there is no such job

    def listen(self, lines: Callable[[], Iterable[str]]) -> None:
        """Hear a log to its end in a thread of its own; nothing new happens while one does. A log that ends says nothing."""
        if self._thread and self._thread.is_alive():
            return

        def hear() -> None:
            with suppress(LabError, OSError, KeyError), in_words("a log"):
                self.hear(lines())

        self._thread = threading.Thread(target=hear, name="hf job's log", daemon=True)
        self._thread.start()

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
