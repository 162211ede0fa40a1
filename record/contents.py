"""What of a session's folder goes into its mirror: found by names and sizes alone, without opening a file.

    events.jsonl, jobs/*/metrics.jsonl, log.txt   in segments of SEGMENT bytes: what grows is not sent again and again
    report.md, workspace/                         all but what can be made again (NEVER)
    jobs/<job>/*, jobs/.<job>.*                   of jobs that the log knows; no locks and no signs of life
    jobs/<job>/model, checkpoints/checkpoint-N    weights that a resume needs, each folder whole or not at all

Links, sockets and pipes never go, nor files over LARGEST, nor paths over LONGEST. A trainer may write in its folder: no link there is followed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1, sha256
from io import BytesIO
from pathlib import Path, PurePosixPath

from record.views import Views

SEGMENT = 2**18  # bytes: what is sent again each time something is added to a file that grows
LARGEST = 5 * 10**9  # bytes: the most that one upload of the Hub takes
LONGEST = 500  # characters of a path
LOG = "events.jsonl"
GROWING = ("metrics.jsonl", "log.txt")  # of a job
COMPLETE = "complete"  # a trainer writes it last into a checkpoint (recipes.training)
NEVER = (".git", ".cache", ".home", ".venv", "__pycache__", "node_modules", ".tmp")  # the Hub takes no .git, .cache
NOT_OF_JOBS = ("heartbeat", "place.json", "hardware.jsonl")  # what the last says stands in the log, too
FOLDERS = tuple(PurePosixPath(name).stem for name in GROWING)  # of segments: no file of a job can go by these names


@dataclass(frozen=True)
class Piece:
    """A file of the mirror, and where its bytes are."""

    path: str  # relative to the session
    file: Path
    size: int
    stamp: tuple[int, ...]  # device, inode and mtime (ns); no mtime where a file that grows has passed this segment
    start: int | None = None  # of a segment: its first byte in the file
    whole: str = ""  # the folder, if it goes as a whole or not at all


def contents(session: Path, views: Views, log_bytes: int) -> tuple[list[Piece], list[str]]:
    """The pieces of a session, the log first, and the names of what is left out although it should go.

    `views` is the fold of the first `log_bytes` of the log: what happened since waits for the next look, so that the log
    never speaks of files that are not there. Costs one listing of the folder.
    """
    found: list[Piece] = []
    odd: list[str] = []
    weights = _weights(session, views)
    for path, file, about in _files(session, views, weights):
        of_job = len(path.parts) == 3 and path.parts[0] == "jobs"
        grows = of_job and path.name in GROWING
        size = log_bytes if str(path) == LOG else about.st_size
        named = str(path).isprintable() and "\\" not in str(path) and len(str(path)) <= LONGEST
        if about.st_size > LARGEST or not named or (of_job and path.name in FOLDERS):
            odd.append(str(path))
        elif str(path) == LOG or grows:
            found += _segments(path, file, size, about)
        else:
            whole = next((folder for folder in weights if path.is_relative_to(folder)), "")
            found.append(Piece(str(path), file, size, _stamp(about), whole=str(whole)))
    return sorted(found, key=lambda piece: not piece.path.startswith("events/")), odd


def within(pieces: list[Piece], most: int) -> tuple[list[Piece], list[str]]:
    """The pieces that fit into `most` bytes, and the names of what is left out: the biggest first, the log never."""
    sizes: dict[str, int] = {}
    for piece in pieces:
        if not piece.path.startswith("events/"):
            unit = piece.whole or piece.path
            sizes[unit] = sizes.get(unit, 0) + piece.size
    over, out = sum(piece.size for piece in pieces) - most, set()
    for unit in sorted(sizes, key=lambda name: -sizes[name]):
        if over <= 0:
            break
        over -= sizes[unit]
        out.add(unit)
    return [piece for piece in pieces if (piece.whole or piece.path) not in out], sorted(out)


def read(piece: Piece) -> bytes:
    """The bytes of a piece; of a file that does not grow, all that is there now. Raises OSError for what is not there any more."""
    with os.fdopen(os.open(piece.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{piece.file} is no file.")
        if piece.start is None:
            return file.read(LARGEST)
        file.seek(piece.start)
        data = file.read(piece.size)
    if len(data) < piece.size:
        raise OSError(f"{piece.file} has become shorter.")
    return data


def oids(source: bytes | Path) -> frozenset[str]:
    """What the Hub may call these bytes: git's name for them, or for an LFS file the sha256. Raises OSError."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    git, lfs = sha1(b"blob %d\0" % size), sha256()
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        while chunk := file.read(2**20):
            git.update(chunk)
            lfs.update(chunk)
    return frozenset((git.hexdigest(), lfs.hexdigest()))


def joined(folder: Path) -> None:
    """Make files of the segments in a pulled session's folder. Raises OSError."""
    grown = [place for name in FOLDERS for place in folder.glob(f"jobs/*/{name}/")]
    for place in (folder / "events", *grown):
        parts = sorted(place.iterdir())
        with open(place.with_suffix(parts[0].suffix), "wb") as file:
            for part in parts:
                file.write(part.read_bytes())
                part.unlink()
        place.rmdir()


def _segments(path: PurePosixPath, file: Path, size: int, about: os.stat_result) -> Iterator[Piece]:
    for start in range(0, size, SEGMENT):
        full = start + SEGMENT <= size
        name = f"{path.with_suffix('')}/{start // SEGMENT + 1:06d}{path.suffix}"
        stamp = _stamp(about)[:2] if full else _stamp(about)
        yield Piece(name, file, SEGMENT if full else size - start, stamp, start)


def _weights(session: Path, views: Views) -> list[PurePosixPath]:
    """The folders of weights that somebody may still need: the best, and while the session works what runs, is read or waits for its verdict."""
    found = [PurePosixPath(views.jobs[views.best].folder, "model")] if views.best in views.jobs else []
    judged = {promoted.model for promoted in views.promotions}
    read_by = {str(value) for job in views.running for value in job.config.values()}
    for job in [] if views.settled else views.jobs.values():
        model = PurePosixPath(job.folder, "model")
        if not job.running and (job.id not in judged or str(session / model) in read_by):
            found.append(model)
        elif job.running:
            whole = (place.parent.name for place in (session / job.folder).glob(f"checkpoints/checkpoint-*/{COMPLETE}"))
            steps = [int(name[11:]) for name in whole if name[11:].isdecimal()]
            found += [PurePosixPath(job.folder, "checkpoints", f"checkpoint-{max(steps)}")] if steps else []
            found += [PurePosixPath(job.folder, "adapter"), model]  # kept of one that was stopped (lab.checkpoint)
    return list(dict.fromkeys(found))


def _files(
    session: Path, views: Views, weights: list[PurePosixPath]
) -> Iterator[tuple[PurePosixPath, Path, os.stat_result]]:
    """Every regular file that goes, with its path in the session. What vanishes meanwhile is not there."""
    folders = [PurePosixPath()]
    while folders:
        at = folders.pop()
        with suppress(OSError):
            for name in sorted(os.listdir(session / at)):
                path, file = at / name, session / at / name
                if name in NEVER or name.endswith(".tmp"):
                    continue
                with suppress(OSError):
                    about = file.lstat()
                    if stat.S_ISDIR(about.st_mode) and _enters(path, views, weights):
                        folders.append(path)
                    elif stat.S_ISREG(about.st_mode) and _goes(path, views):
                        yield path, file, about


def _enters(path: PurePosixPath, views: Views, weights: list[PurePosixPath]) -> bool:
    parts = path.parts
    if parts[0] == "workspace" or len(parts) == 1:
        return parts[0] in ("workspace", "jobs")
    if len(parts) == 2:
        return parts[1] in views.jobs
    return any(path.is_relative_to(kept) or kept.is_relative_to(path) for kept in weights)


def _goes(path: PurePosixPath, views: Views) -> bool:
    parts, name = path.parts, path.name
    if parts[0] == "workspace":
        return True
    if len(parts) == 1:
        return name in (LOG, "report.md", "notified")
    if len(parts) == 2:  # .JOB.run.json, .JOB.hf-job.json, .JOB.cancel: what the lab trusts of a job
        return name[:1] == "." and name[1:].split(".")[0] in views.jobs and not name.endswith(".launch")
    if len(parts) == 3:
        return name not in NOT_OF_JOBS and not name.startswith(".")
    return True


def _stamp(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_mtime_ns
