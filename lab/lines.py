"""Lists that all sessions of a person read and add to: a file in HOME, a JSON line an entry, where no trainer writes."""

import fcntl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

EntryT = TypeVar("EntryT", bound=BaseModel)


def shared(session: Path, name: str) -> Path:
    """Where the list of this name is, for the session whose folder this is."""
    return session.parent.parent / name


def read(path: Path, kind: type[EntryT]) -> list[EntryT]:
    """Every entry, oldest first; none where there is no such file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return _parsed(file.read(), kind)
    except OSError:
        return []


def _parsed(text: bytes, kind: type[EntryT]) -> list[EntryT]:
    """The entries of a list; a line that a person has left half deleted is none."""
    found = []
    for line in text.splitlines():
        with suppress(ValidationError):
            found.append(kind.model_validate_json(line))
    return found


def add(path: Path, entry: EntryT, known: Callable[[Sequence[EntryT]], bool]) -> None:
    """Append it, unless what is there says it already. Raises OSError, ValueError."""
    line = entry.model_dump_json().encode()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        if known(_parsed(text, type(entry))):
            return
        torn = b"\n" if text and not text.endswith(b"\n") else b""
        file.write(torn + line + b"\n")
