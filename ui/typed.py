"""The answer that is being written, as its viewers get it: what is new in it, and when it is over."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from record.events import Closed, Event, Halted, Replied
from record.typing import NAME, read_typing

STALE = 120.0  # seconds without a word: whoever wrote it was killed, and nobody takes it away


class Draft:
    """How far an answer is written. `turn` is another one for each text of a session, and 0 where nothing is written."""

    def __init__(self, text: str = "", thought: str = "", turn: int = 0):
        self.text, self.thought, self.turn = text, thought, turn
        self._told = (-1, "")  # viewers that are at the same point get the same message

    def since(self, before: "Draft") -> str:
        """JSON {"from", "text", "thought_from", "thought"}: keep so much of each, and append.

        `from` and `thought_from` count UTF-16 units, as JavaScript does. All are 0 and "" when nothing is being written.
        """
        if self._told[0] != before.turn:
            (start, text), (thought_start, thought) = _new(before.text, self.text), _new(before.thought, self.thought)
            news = {"from": start, "text": text, "thought_from": thought_start, "thought": thought}
            self._told = (before.turn, json.dumps(news))
        return self._told[1]


NOTHING = Draft()


class Drafts:
    """What the file of one session says. Not for two threads at once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._file: tuple[int, int, int] | None = None  # what the file was like when it was read
        self._written = 0.0  # unix seconds
        self._ended = 0.0
        self._turn = 0
        self._draft = NOTHING

    def look(self) -> None:
        """Read the file if it is another one."""
        try:
            about = os.stat(self._folder / NAME, follow_symlinks=False)
        except OSError:
            self._file = None
            self._become("", "")
            return
        file = (about.st_mtime_ns, about.st_ino, about.st_size)
        self._written = about.st_mtime_ns / 1e9
        if file != self._file:
            self._file = file
            self._become(*(read_typing(self._folder) or ("", "")))

    def after(self, facts: Sequence[Event]) -> Draft:
        """What is being written, now that these facts have come, too: what stood there before an answer is that answer."""
        for fact in facts:
            if isinstance(fact, Replied | Halted | Closed):
                self._ended = fact.at.timestamp()
        if self._written <= self._ended or time.time() - self._written > STALE:
            self._become("", "")
        return self._draft

    def _become(self, text: str, thought: str) -> None:
        if (text, thought) != (self._draft.text, self._draft.thought):
            self._turn += 1
            self._draft = Draft(text, thought, self._turn) if text or thought else NOTHING


def _new(before: str, now: str) -> tuple[int, str]:
    """How many UTF-16 units stay, and what follows them."""
    same = len(before)
    if not now.startswith(before):  # what was shown of a word became a secret and was taken out
        same = next(
            (i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now))
        )
    return len(now[:same].encode("utf-16-le", "surrogatepass")) // 2, now[same:]
