"""The files of a session that a person may read: which they are, a list of them, and a safe way to open one."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import HTTPException

LISTED = 2000  # files; a list that nobody can read helps nobody, and each costs a stat
REPORT, ITEMS = "report.md", "items.jsonl"
OF_A_JOB = ("config.json", "result.json", "metrics.jsonl", "log.txt", "preflight.json", ITEMS)
NOT_LISTED = (".git", "__pycache__", "node_modules", ".venv", ".cache")  # folders of the workspace: tools' own


@dataclass(frozen=True)
class Opened:
    """A file that is open, and its size when it was opened. It may grow; it is the same file whatever its name leads to."""

    file: BinaryIO
    size: int
    name: str


def allowed(inside: tuple[str, ...]) -> bool:
    """Whether a person may read the file with these parts of a path below the session's folder."""
    if inside == (REPORT,) or (len(inside) > 1 and inside[0] == "workspace"):
        return True
    if len(inside) < 3 or inside[0] != "jobs":
        return False
    return (len(inside) == 3 and inside[2] in OF_A_JOB) or (len(inside) > 3 and inside[2] == "model")


def listing(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Readable files with their size and unix time of change, and how many more there are than fit the list. Links are
    left out: what they lead to is listed, or not ours."""
    root = folder.resolve()
    found: list[dict[str, Any]] = []
    more = 0
    for path in _walk(root):
        inside = path.relative_to(root).parts
        if not allowed(inside) or not _is_text("/".join(inside)):
            continue
        if len(found) >= LISTED:
            more += 1
            continue
        with suppress(OSError):  # gone since
            about = path.lstat()
            found.append({"path": "/".join(inside), "size": about.st_size, "changed": about.st_mtime})
    return found, more


@contextmanager
def reading(folder: Path, wanted: str, otherwise: str) -> Iterator[Opened]:
    """`open_one`, closed at the end. Raises HTTPException 404 with the sentence `otherwise` when there is none."""
    opened = open_one(folder, wanted)
    if opened is None:
        raise HTTPException(404, otherwise)
    with opened.file:
        yield opened


def open_one(folder: Path, wanted: str) -> Opened | None:
    """A readable file of a session, open for reading; None when there is none of that name.

    The path is resolved and judged first, and then opened part by part without following a link, so that neither `..`,
    nor a link, nor one that is put there in between, leads out of the session's folder.
    """
    root = folder.resolve()
    try:
        inside = (root / wanted).resolve(strict=True).relative_to(root).parts
    except (OSError, ValueError, RuntimeError):
        return None
    if not allowed(inside):
        return None
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in inside[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        # a pipe would keep us waiting for its writer, hence O_NONBLOCK
        at = os.open(inside[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    except OSError:
        return None
    finally:
        os.close(here)
    about = os.fstat(at)
    if not stat.S_ISREG(about.st_mode):
        os.close(at)
        return None
    return Opened(os.fdopen(at, "rb"), about.st_size, inside[-1])


def _walk(root: Path) -> Iterator[Path]:
    """Regular files that may be readable, in the order of their names; the folders of a session that hold others are not entered."""
    if (root / REPORT).is_file():
        yield root / REPORT
    for top in (root / "jobs", root / "workspace"):
        if top.is_symlink():
            continue
        for here, folders, names in os.walk(top, followlinks=False):
            folders[:] = sorted(name for name in folders if name not in NOT_LISTED)
            for name in sorted(names):
                path = Path(here) / name
                with suppress(OSError):
                    if stat.S_ISREG(path.lstat().st_mode):
                        yield path


def _is_text(name: str) -> bool:
    """Whether a name can be put into JSON: some file systems allow any bytes."""
    return name.encode(errors="ignore").decode() == name
