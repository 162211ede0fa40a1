"""What the work panel asks for: a session's files, and its jobs' logs and stops."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import Response, StreamingResponse

from agent.settings import Settings
from lab.backends.local import LocalBackend
from record.events import Requested
from record.redact import redact, redact_tree
from record.views import Job
from ui.api import exact, is_json
from ui.files import Opened, listing, open_one, reading
from ui.folds import Folds, session_folder
from ui.preview import IMAGE, image_type, preview, tail

TAIL = 16 * 2**10  # bytes of a job's log
CHUNK = 2**18  # bytes of a download at a time
FRESH = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
NO_FILE = "No such file; people may read the report, the workspace, and what a job wrote."


def work_router(settings: Settings) -> APIRouter:
    """Routes under /api/sessions/{session}."""
    api = APIRouter(prefix="/api/sessions/{session}")
    _files(api, settings)
    _jobs(api, settings)
    return api


def _files(api: APIRouter, settings: Settings) -> None:
    secrets = tuple(settings.keys.values())

    @api.get("/files")
    def files(session: str) -> dict[str, Any]:
        found, more = listing(session_folder(settings, session))
        return {"files": [asdict(entry) for entry in found], "more": more}

    @api.get("/preview/{path:path}")
    def look(session: str, path: str) -> dict[str, Any]:
        with reading(session_folder(settings, session), path) as opened:
            if opened is None:
                raise HTTPException(404, NO_FILE)
            return redact_tree(preview(opened) | {"size": opened.size}, secrets)

    @api.get("/image/{path:path}")
    def image(session: str, path: str) -> Response:
        with reading(session_folder(settings, session), path) as opened:
            kind = image_type(opened) if opened and opened.size <= IMAGE else None
            if opened is None or kind is None:
                raise HTTPException(404, f"No picture of up to {IMAGE // 2**20} MiB has that name.")
            opened.file.seek(0)
            headers = FRESH | {"content-security-policy": "default-src 'none'; sandbox"}
            return Response(opened.file.read(opened.size), media_type=kind, headers=headers)

    @api.get("/download/{path:path}")
    def download(session: str, path: str) -> StreamingResponse:
        opened = open_one(session_folder(settings, session), path)
        if opened is None:
            raise HTTPException(404, NO_FILE)
        return _attachment(opened)


def _jobs(api: APIRouter, settings: Settings) -> None:
    backend = LocalBackend(settings.home / "queue", settings.job_env)
    secrets = tuple(settings.keys.values())
    folds = Folds(settings)

    @api.post("/jobs/{job}/stop", dependencies=[Depends(is_json)])
    def stop(session: str, job: str) -> dict[str, bool]:
        """Ask one job to save and stop; the supervisor writes down that it did."""
        log = exact(settings, session)
        folder, found = _job(folds, session, job)
        if not found.running:
            raise HTTPException(409, f"The job {job} has ended already.")
        log.append(Requested(what="stop_job", job=job))  # who it was, for the record
        backend.cancel(_of(folder, found))
        return {"ok": True}

    @api.get("/jobs/{job}/log")
    def log(session: str, job: str) -> dict[str, Any]:
        """The end of what a job printed."""
        folder, found = _job(folds, session, job)
        with reading(folder, f"{found.folder}/log.txt") as opened:
            if opened is None:
                return {"text": "", "size": 0}
            return {"text": redact(tail(opened, TAIL).decode(errors="replace"), secrets), "size": opened.size}


def _attachment(opened: Opened) -> StreamingResponse:
    """The file as it was when it was opened: what is written to it meanwhile is left out, so that the length stays true."""
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


def _job(folds: Folds, session: str, job: str) -> tuple[Path, Job]:
    folder, jobs = folds.jobs(session)
    if job not in jobs:
        raise HTTPException(404, f"There is no job {job!r} in this session.")
    return folder, jobs[job]


def _of(session: Path, job: Job) -> Path:
    """A job's folder; one that a link leads out of the session is none of ours."""
    root = session.resolve()
    folder = (root / job.folder).resolve()
    if not folder.is_relative_to(root / "jobs"):
        raise HTTPException(404, f"The folder of {job.id} is not in its session.")
    return folder
