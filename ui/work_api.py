"""What the work panel asks for: a session's files, and its jobs' logs and stops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import HTTPException
from fastapi.responses import Response, StreamingResponse

from lab.backends.local import LocalBackend
from record.events import Requested
from record.log import Log
from record.redact import redact, redact_tree
from record.views import Job
from ui.files import listing, open_one, reading
from ui.people import Exact, Ours, Seen, session_router
from ui.preview import IMAGE, image_type, preview, tail
from ui.shelf import OurShelf, Shelf, jobs

TAIL = 16 * 2**10  # bytes of a job's log
CHUNK = 2**18  # bytes of a download at a time
FRESH = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
NO_FILE = "No such file; people may read the report, the workspace, and what a job wrote."
NO_PICTURE = f"No picture of up to {IMAGE // 2**20} MiB has that name."

work_api = session_router()


@work_api.get("/files")
def files(log: Seen) -> dict[str, Any]:
    found, more = listing(log.path.parent)
    return {"files": found, "more": more}


@work_api.get("/preview/{path:path}")
def look(log: Seen, path: str) -> dict[str, Any]:
    with reading(log.path.parent, path, NO_FILE) as opened:
        return redact_tree(preview(opened) | {"size": opened.size}, log.secrets)


@work_api.get("/image/{path:path}")
def image(log: Seen, path: str) -> Response:
    with reading(log.path.parent, path, NO_PICTURE) as opened:
        kind = image_type(opened)
        if kind is None or opened.size > IMAGE:
            raise HTTPException(404, NO_PICTURE)
        opened.file.seek(0)
        headers = FRESH | {"content-security-policy": "default-src 'none'; sandbox"}
        return Response(opened.file.read(opened.size), media_type=kind, headers=headers)


@work_api.get("/download/{path:path}")
def download(log: Seen, path: str) -> StreamingResponse:
    """The file as it was when it was opened: what is written to it meanwhile is left out, so that the length stays true."""
    opened = open_one(log.path.parent, path)
    if opened is None:
        raise HTTPException(404, NO_FILE)
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in opened.name)
    named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(opened.name, safe='')}"  # RFC 6266
    headers = FRESH | {"content-disposition": named, "content-length": str(opened.size)}
    body = _chunks(opened.file, opened.size)
    return StreamingResponse(body, media_type="application/octet-stream", headers=headers)


def _chunks(file: BinaryIO, left: int) -> Iterator[bytes]:
    with file:
        while left > 0 and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data


@work_api.post("/jobs/{job}/stop")
def stop(settings: Ours, shelf: OurShelf, log: Exact, job: str) -> None:
    """Ask one job to save and stop; the supervisor writes down that it did."""
    found = _job(shelf, log, job)
    if not found.running:
        raise HTTPException(409, f"The job {job} has ended already.")
    folder = _folder(log.path.parent, found)
    log.append(Requested(what="stop_job", job=job, by=settings.person))  # who it was, for the record
    LocalBackend(settings.queue, settings.job_env).cancel(folder)


@work_api.get("/jobs/{job}/log")
def job_log(shelf: OurShelf, log: Seen, job: str) -> dict[str, Any]:
    """The end of what a job printed."""
    opened = open_one(log.path.parent, f"{_job(shelf, log, job).folder}/log.txt")
    if opened is None:
        return {"text": "", "size": 0}
    with opened.file:
        return {"text": redact(tail(opened, TAIL).decode(errors="replace"), log.secrets), "size": opened.size}


def _job(shelf: Shelf, log: Log, job: str) -> Job:
    found = shelf.ask(log, jobs)
    if job not in found:
        raise HTTPException(404, f"There is no job {job!r} in this session.")
    return found[job]


def _folder(session: Path, job: Job) -> Path:
    """A job's folder; one that a link leads out of the session is none of ours."""
    root = session.resolve()
    folder = (root / job.folder).resolve()
    if not folder.is_relative_to(root / "jobs"):
        raise HTTPException(404, f"The folder of {job.id} is not in its session.")
    return folder
