"""The file `pulled` of a session's folder: the owner.json that we wrote or took over and, if its log was over when it was
fetched, how many bytes it had, and out of which repository."""

import os
from contextlib import suppress
from pathlib import Path

PULLED = "pulled"


def mark(session: Path, owner: str, over: int | None = None, repo: str = "") -> None:
    """Write it, whole or not at all. Raises OSError."""
    draft = session / f"{PULLED}.tmp"
    draft.write_text(owner if over is None else f"{owner} {over} {repo}")
    os.replace(draft, session / PULLED)


def marked(session: Path, repo: str = "") -> tuple[str, int | None]:
    """Who owns it, by the name of its owner.json, and the bytes of the log that `repo` has whole; nothing where none is known."""
    with suppress(OSError, ValueError):
        owner, *over = (session / PULLED).read_text().split()
        return owner, int(over[0]) if over[1:] == [repo] else None
    return "", None
