"""The answer that a model is writing, while it writes it. No fact: the whole answer becomes one, and this is gone.

One file beside the log, `typing.json`, holds all of the text so far. Whoever looks on reads it; nobody may build on it.
"""

import json
import os
import stat
import string
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from record.redact import MIN_SECRET, redact

NAME = "typing.json"
EVERY = 0.1  # seconds between two writes at the least
LARGEST = 8 * 2**20  # bytes; no answer is that long
_WORD = string.ascii_letters + string.digits + string.punctuation


class Typing:
    """The writer's side, for one thread at a time. It never raises: a look over the shoulder must not end a session."""

    def __init__(self, folder: Path, secrets: Iterable[str] = (), every: float = EVERY):
        self._path = folder / NAME
        self._draft = folder / f"{NAME}.part"
        self.secrets = tuple(secrets)
        self._every = every
        self._written = float("-inf")  # monotonic seconds

    def show(self, text: str, thought: str = "") -> None:
        """Let viewers see the whole text and thought so far.

        Within `every` seconds of the last write nothing is written: the next call brings this text, too. Secrets are taken
        out; of a word that is still being written, which may become one, only so much is shown as no secret is short.
        """
        now = time.monotonic()
        if now - self._written < self._every:
            return
        self._written = now
        words = {"text": self._seemly(text), "thought": self._seemly(thought)}
        with suppress(OSError):  # a full disk: the answer itself is a fact, and whether that can be stored is the log's
            self._draft.write_text(json.dumps(words))
            self._draft.replace(self._path)

    def clear(self) -> None:
        """Nothing is being written any more."""
        self._written = float("-inf")
        for path in (self._path, self._draft):
            with suppress(OSError):  # as above; FileNotFoundError is one
                path.unlink()

    def _seemly(self, text: str) -> str:
        finished = len(text.rstrip(_WORD))
        return redact(text[: finished + MIN_SECRET - 1], self.secrets)


def read_typing(folder: Path) -> tuple[str, str] | None:
    """Text and thought of the answer that is being written; None when there is none, or a file that Typing did not write."""
    try:
        # a pipe would keep us waiting for its writer, and a link may lead anywhere
        at = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    about = os.fstat(at)
    if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
        os.close(at)
        return None
    with os.fdopen(at, "rb") as file:
        try:
            match json.loads(file.read(LARGEST)):
                case {"text": str(text), "thought": str(thought)}:
                    return text, thought
        except (OSError, ValueError, RecursionError):  # cut off, or never ours
            pass
    return None
