"""The REST door: what the page does, and what a program may do. Whatever it changes is a fact in a log."""

from dataclasses import fields, replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException, Query
from fastapi import Request as Http
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from agent.sessions import DEMO, Request, find, open_session, session_log
from agent.settings import Settings, SettingsError
from agent.steering import Terms, compact, decide, delete, fork, halt, rename, say, share, tune, undo
from record.log import Log, LogError
from ui.files import REPORT, reading
from ui.firstrun import first_run
from ui.live import Live
from ui.people import person_of
from ui.replays import include as include_replays
from ui.shelf import Shelf, state

APP = "ml-intern"
LARGEST = 8 * 2**20  # bytes of a report
_REQUEST = TypeAdapter(Request)


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(Form):
    text: str


class Decision(Form):
    call: str
    allow: bool
    arguments: dict[str, Any] | None = None


class Demo(Form):
    seed: int = 0


class Title(Form):
    title: str


class Point(Form):
    at: int | None = None


class Sharing(Form):
    public: bool


def is_json(http: Http) -> None:
    """A form of another site can post text, but no JSON."""
    if not http.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "Send JSON, with the header Content-Type: application/json.")


def router(settings: Settings, live: Live) -> APIRouter:
    """Every route under /api."""
    api = APIRouter(prefix="/api")
    _shelf(api, settings)
    _commands(api, settings)
    _keeping(api, settings)
    _session(api, settings, live)
    include_replays(api, settings)
    return api


def asked(body: dict[str, Any]) -> Request:
    """What a person asks for, from plain JSON. Raises SettingsError."""
    names = [field.name for field in fields(Request)]
    if strange := [name for name in body if name not in names]:
        raise SettingsError(f"There is no {strange[0]!r} in a request; it may have {', '.join(names)}.")
    try:
        return _REQUEST.validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"{first['loc'][0]} is {first['input']!r}: {first['msg'].lower()}.") from error


def _shelf(api: APIRouter, settings: Settings) -> None:
    shelf = Shelf(settings)

    @api.get("/health")
    def health() -> dict[str, Any]:
        return {"app": APP, "read_only": settings.space is not None, "driver": settings.driver}

    @api.get("/check")
    def check() -> list[dict[str, Any]]:
        """What is there for a first session and what is missing."""
        return [] if settings.space else first_run(settings)

    @api.get("/sessions")
    def sessions() -> list[dict[str, Any]]:
        """The sessions of whoever asks, newest first."""
        return shelf.summaries(person_of(settings))

    @api.post("/sessions", dependencies=[Depends(is_json)], status_code=201)
    def open_one(body: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
        """Open a session; the body has the fields of agent.Request: text, task, model, target, hours …"""
        return {"session": open_session(settings, replace(asked(body), person=person_of(settings)))}

    @api.post("/demo", dependencies=[Depends(is_json)], status_code=201)
    def demo(form: Demo) -> dict[str, str]:
        """Start the demo."""
        return {"session": open_session(settings, replace(DEMO, seed=form.seed, person=person_of(settings)))}


def _commands(api: APIRouter, settings: Settings) -> None:
    @api.post("/sessions/{session}/say", dependencies=[Depends(is_json)])
    def say_it(session: str, form: Message) -> dict[str, bool]:
        """A message to the agent, read at its next step."""
        say(exact(settings, session), form.text)
        return {"ok": True}

    @api.post("/sessions/{session}/stop", dependencies=[Depends(is_json)])
    def stop(session: str) -> dict[str, bool]:
        """Stop a session; its jobs save and end."""
        halt(exact(settings, session))
        return {"ok": True}

    @api.post("/sessions/{session}/decide", dependencies=[Depends(is_json)])
    def decide_it(session: str, form: Decision) -> dict[str, bool]:
        """Answer a question of the gate; `arguments` replace those of the call."""
        decide(exact(settings, session), form.call, form.allow, form.arguments)
        return {"ok": True}

    @api.post("/sessions/{session}/tune", dependencies=[Depends(is_json)])
    def tune_it(session: str, terms: Terms) -> dict[str, bool]:
        """Change caps, approval mode, driver or effort; what is left out stays."""
        tune(settings, exact(settings, session), terms)
        return {"ok": True}

    @api.post("/sessions/{session}/compact", dependencies=[Depends(is_json)])
    def compact_it(session: str) -> dict[str, bool]:
        """Shorten the model's memory at its next step; the transcript stays whole."""
        compact(exact(settings, session))
        return {"ok": True}

    @api.post("/sessions/{session}/undo", dependencies=[Depends(is_json)])
    def undo_it(session: str) -> dict[str, bool]:
        """Take the last turn back: the model forgets it; what jobs did stays."""
        undo(exact(settings, session))
        return {"ok": True}


def _keeping(api: APIRouter, settings: Settings) -> None:
    @api.post("/sessions/{session}/rename", dependencies=[Depends(is_json)])
    def rename_it(session: str, form: Title) -> dict[str, bool]:
        rename(exact(settings, session), form.title)
        return {"ok": True}

    @api.post("/sessions/{session}/share", dependencies=[Depends(is_json)])
    def share_it(session: str, form: Sharing) -> dict[str, bool]:
        """Let anybody watch the session as a replay, or nobody any more."""
        share(exact(settings, session), form.public)
        return {"ok": True}

    @api.post("/sessions/{session}/fork", dependencies=[Depends(is_json)], status_code=201)
    def fork_it(session: str, form: Point) -> dict[str, str]:
        """Copy the session into a new one, which stands still until somebody speaks to it.

        With `at`, the seq of a fact, its driver knows nothing that was said after it.
        """
        return {"session": fork(settings, exact(settings, session), at=form.at)}

    @api.delete("/sessions/{session}", dependencies=[Depends(is_json)])
    def delete_it(session: str) -> dict[str, bool]:
        """Remove a session that is over, with all its files."""
        delete(settings, exact(settings, session))
        return {"ok": True}


def _session(api: APIRouter, settings: Settings, live: Live) -> None:
    @api.get("/sessions/{session}")
    def one(session: str) -> dict[str, Any]:
        """Where a session stands."""
        _log(settings, session)
        return state(settings, session)

    @api.get("/sessions/{session}/events")
    def events(
        session: str,
        after: Annotated[int, Query(ge=0)] = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """The facts after `after`, and then each new one, as server-sent events."""
        log = _log(settings, session)
        start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
        stream = live.stream(log.path.parent.name, log, start)
        # no-transform and X-Accel-Buffering keep proxies from holding facts back
        headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    @api.get("/sessions/{session}/report")
    def report(session: str) -> Response:
        """The report in Markdown."""
        with reading(_log(settings, session).path.parent, REPORT) as opened:
            if opened is None:
                raise HTTPException(404, "There is no report yet: it is written when the session ends.")
            text = opened.file.read(LARGEST)
        return Response(text, media_type="text/markdown; charset=utf-8", headers={"cache-control": "no-store"})

    @api.get("/sessions/{session}/log")
    def log(session: str) -> Response:
        """Every fact so far, as JSON lines."""
        path = _log(settings, session).path
        headers = {
            "content-disposition": f'attachment; filename="{path.parent.name}.jsonl"',
            "cache-control": "no-store",
        }
        return Response(path.read_bytes(), media_type="application/x-ndjson", headers=headers)


def _log(settings: Settings, session: str) -> Log:
    """The log of a session by its id, or by an unambiguous beginning of it."""
    try:
        log = session_log(settings, session)
        return log if log.path.is_file() else find(settings, session)
    except SettingsError as error:
        raise HTTPException(404, str(error)) from error


def exact(settings: Settings, session: str) -> Log:
    """The log of a session by its whole id: a beginning is enough to look, and too little to change or delete."""
    log = _log(settings, session)
    if log.path.parent.name != session:
        raise HTTPException(404, f"{session!r} is the beginning of an id; give the whole id to change a session.")
    return log


def refuse_in_one_sentence(app: FastAPI) -> None:
    """Any refusal, ours or the framework's, as {"error": sentence}."""

    @app.exception_handler(SettingsError)
    def cannot(_: Http, error: SettingsError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(LogError)
    def broken(_: Http, error: LogError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 500)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Http, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        return JSONResponse({"error": f"{where}: {first['msg'].lower()}."}, 422)

    @app.exception_handler(StarletteHTTPException)
    def refused(_: Http, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)
