"""One file of facts: append from any process, follow from any process. Knows nothing of what the facts mean."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import IO, overload

from pydantic import ValidationError

from record.events import Event, Progressed, from_dict, parse
from record.redact import redact_tree

POLL = 0.02  # seconds between looks at the file; a reader is at most this late


class LogError(Exception):
    """The log could not be read or written. One sentence, with the value seen."""


class Log(Sequence[Event]):
    """The facts of one session, oldest first, as a sequence that grows.

    Each instance holds what it has read so far; `refresh` reads what other processes have appended since. Thread-safe.
    Cost of an append or a refresh is proportional to the new bytes, never to the length of the log.
    """

    def __init__(self, path: Path, secrets: Sequence[str] = ()):
        self.path = path
        self.secrets = tuple(secrets)  # exact values that no fact may hold
        self.read_bytes = 0  # length of the whole lines read so far
        self._facts: list[Event] = []
        self._mutex = threading.RLock()

    @overload
    def __getitem__(self, index: int) -> Event:
        """One fact."""

    @overload
    def __getitem__(self, index: slice) -> list[Event]:
        """Some facts, copied."""

    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return self._facts[index]

    def __len__(self) -> int:
        return len(self._facts)

    def refresh(self) -> int:
        """Read what is new; returns how many facts. A torn last line is left for later.

        Raises:
            LogError: A whole line is not a fact.
        """
        with self._mutex:
            try:
                if os.stat(self.path).st_size <= self.read_bytes:
                    return 0
                with open(self.path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH)  # a failed append is being rolled back, or nobody writes
                    return self._read(file)
            except FileNotFoundError:
                return 0

    def append(self, *facts: Event) -> list[Event]:
        """Store facts, redacted and numbered, and return them so. When this returns they are on the disk.

        Raises:
            LogError: The disk refused; nothing of this call is stored then.
        """
        with self._mutex, self._opened() as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes, also by a kill
            self._read(file)
            if os.fstat(file.fileno()).st_size > self.read_bytes:  # a killed writer's torn line was never acknowledged
                os.ftruncate(file.fileno(), self.read_bytes)
            stored = [self._number(fact, len(self._facts) + i) for i, fact in enumerate(facts, start=1)]
            self._write(file, stored)
            self._facts.extend(stored)
            return stored

    def follow(self, after: int = 0, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Every fact with seq > after, then each new one within POLL, until `stop` says so."""
        position = after
        while True:
            self.refresh()
            while position < len(self._facts):
                position += 1
                yield self._facts[position - 1]
            if stop():
                return
            time.sleep(POLL)

    def _opened(self) -> FileIO:
        try:
            return open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise LogError(f"{self.path} could not be opened ({error.strerror}).") from error

    def _read(self, file: IO[bytes]) -> int:
        file.seek(self.read_bytes)
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        facts = []
        for line in whole.splitlines():
            try:
                facts.append(parse(line))
            except ValidationError as error:
                first, line = error.errors()[0], len(self) + len(facts) + 1
                where = ".".join(str(part) for part in first["loc"])
                raise LogError(f"{self.path}: line {line} is not a fact: {where} {first['msg']}.") from error
        self._facts.extend(facts)
        self.read_bytes += len(whole)
        return len(facts)

    def _number(self, fact: Event, seq: int) -> Event:
        return from_dict(redact_tree(fact.model_dump(), self.secrets) | {"seq": seq, "at": datetime.now(UTC)})

    def _write(self, file: FileIO, facts: Sequence[Event]) -> None:
        data = b"".join(_line(fact) for fact in facts)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            if any(not isinstance(fact, Progressed) for fact in facts):  # a curve stands in its job's folder, too
                os.fdatasync(file.fileno())
        except OSError as error:
            os.ftruncate(file.fileno(), self.read_bytes)
            raise LogError(
                f"{self.path} could not be written ({error.strerror}): free some disk and resume."
            ) from error
        self.read_bytes += len(data)


def _line(fact: Event) -> bytes:
    return json.dumps(fact.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
