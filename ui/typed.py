"""The answer that is being written, as its viewers get it: what is new in it, and when it is over."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from record.events import Closed, Event, Halted, Replied
from record.typing import NAME, read_typing
from record.views import MAIN

STALE = 120.0  # seconds without a word: whoever wrote it was killed, and nobody takes it away


@dataclass(frozen=True)
class Draft:
    """How far an answer is written; "" and "" where none is."""

    text: str = ""
    thought: str = ""

    def since(self, before: "Draft") -> str:
        """JSON {"from", "text", "thought_from", "thought"}: keep so much of each, and append.

        `from` and `thought_from` count UTF-16 units, as JavaScript does. All are 0 and "" when nothing is being written.
        """
        (start, text), (thought_start, thought) = _new(before.text, self.text), _new(before.thought, self.thought)
        return json.dumps({"from": start, "text": text, "thought_from": thought_start, "thought": thought})


NOTHING = Draft()


class Drafts:
    """What the file of one session says. Not for two threads at once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._file: tuple[int, int, int] | None = None  # what the file was like when it was read
        self._written = 0.0  # unix seconds
        self._ended = 0.0
        self._draft = NOTHING

    def look(self) -> None:
        """Read the file if it is another one."""
        try:
            about = os.stat(self._folder / NAME, follow_symlinks=False)
        except OSError:
            self._file, self._draft = None, NOTHING
            return
        file = (about.st_mtime_ns, about.st_ino, about.st_size)
        self._written = about.st_mtime_ns / 1e9
        if file != self._file:
            self._file = file
            self._draft = Draft(*(read_typing(self._folder) or ()))

    def after(self, facts: Sequence[Event]) -> Draft:
        """What is being written, now that these facts have come, too: what stood there before an answer is that answer."""
        for fact in facts:
            if isinstance(fact, Halted | Closed) or (isinstance(fact, Replied) and fact.who == MAIN):
                self._ended = fact.at.timestamp()
        if self._written <= self._ended or time.time() - self._written > STALE:
            self._draft = NOTHING
        return self._draft


def _new(before: str, now: str) -> tuple[int, str]:
    """How many UTF-16 units stay, and what follows them."""
    same = len(before)
    if not now.startswith(before):  # what was shown of a word became a secret and was taken out
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False))))
    return len(now[:same].encode("utf-16-le", "surrogatepass")) // 2, now[same:]
