"""The REST door: what the page does, and what a program may do. Whatever it changes is a fact in a log."""

from dataclasses import replace
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi import Request as Http
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict
from pydantic.dataclasses import dataclass
from starlette.exceptions import HTTPException as StarletteHTTPException

from agent.kept import Kept, kept
from agent.sessions import DEMO, Request, Summary, open_session, summary_of
from agent.settings import SettingsError
from agent.steering import Terms, compact, decide, delete, fork, halt, rename, say, share, tune, undo
from record.log import LogError
from ui.files import REPORT, reading
from ui.firstrun import Check, first_run
from ui.people import Exact, Ours, Seen, Somebodys, session_router
from ui.shelf import OurShelf, state
from ui.signin import LOGIN

APP = "ml-intern"
LARGEST = 8 * 2**20  # bytes of a report
NO_REPORT = "There is no report yet: it is written when the session ends."
STRICT = ConfigDict(extra="forbid")

api = APIRouter(prefix="/api")
session_api = session_router()


class Form(BaseModel):
    model_config = STRICT


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


@dataclass(frozen=True, config=STRICT)
class Wish(Request):
    """What a person asks for, from JSON."""


@api.get("/health")
def health(http: Http, settings: Ours) -> dict[str, Any]:
    """Who asks ("" is nobody), how one signs in here, and until when (unix seconds) the person's sessions may work."""
    way = http.app.state.auth.way
    here = {"app": APP, "read_only": settings.person == "", "driver": settings.driver}
    here |= {"person": settings.person, "way": way, "space": settings.space}
    here["until"] = settings.until if settings.person and settings.until < inf else None
    return here | {"sign_in": f"{settings.oauth.site}{LOGIN}" if settings.oauth and way == "oauth" else None}


@api.get("/check")
def check(settings: Ours) -> list[Check]:
    """What is there for a first session and what is missing."""
    return first_run(settings) if settings.person else []


@api.get("/sessions")
def sessions(settings: Ours, shelf: OurShelf) -> list[Summary]:
    """The sessions of whoever asks, newest first."""
    mine = shelf.every(shelf.logs(settings), summary_of) if settings.person else []
    return [one for one in mine if one.opened]


@api.post("/sessions", status_code=201)
def open_one(settings: Somebodys, wish: Wish) -> dict[str, str]:
    """Open a session."""
    return {"session": open_session(settings, replace(wish, person=settings.person))}


@api.post("/demo", status_code=201)
def demo(settings: Somebodys, form: Demo) -> dict[str, str]:
    """Start the demo."""
    return {"session": open_session(settings, replace(DEMO, seed=form.seed, person=settings.person))}


@session_api.post("/say")
def say_it(settings: Ours, log: Exact, form: Message) -> None:
    """A message to the agent, read at its next step."""
    say(log, form.text, by=settings.person)


@session_api.post("/stop")
def stop(settings: Ours, log: Exact) -> None:
    """Stop a session; its jobs save and end."""
    halt(log, by=settings.person)


@session_api.post("/decide")
def decide_it(settings: Ours, log: Exact, form: Decision) -> None:
    """Answer a question of the gate; `arguments` replace those of the call."""
    decide(log, form.call, form.allow, form.arguments, by=settings.person)


@session_api.post("/tune")
def tune_it(settings: Ours, log: Exact, terms: Terms) -> None:
    """Change caps, approval mode, driver or effort; what is left out stays."""
    tune(settings, log, terms, by=settings.person)


@session_api.post("/compact")
def compact_it(settings: Ours, log: Exact) -> None:
    """Shorten the model's memory at its next step; the transcript stays whole."""
    compact(log, by=settings.person)


@session_api.post("/undo")
def undo_it(settings: Ours, log: Exact) -> None:
    """Take the last turn back: the model forgets it; what jobs did stays."""
    undo(log, by=settings.person)


@session_api.post("/rename")
def rename_it(settings: Ours, log: Exact, form: Title) -> None:
    rename(log, form.title, by=settings.person)


@session_api.post("/share")
def share_it(settings: Ours, log: Exact, form: Sharing) -> None:
    """Let anybody watch the session as a replay, or nobody any more."""
    share(log, form.public, by=settings.person)


@session_api.post("/fork", status_code=201)
def fork_it(settings: Ours, log: Exact, form: Point) -> dict[str, str]:
    """Copy the session into a new one, which stands still until somebody speaks to it.

    With `at`, the seq of a fact, its driver knows nothing that was said after it.
    """
    return {"session": fork(settings, log, by=settings.person, at=form.at)}


@session_api.delete("")
def delete_it(settings: Ours, log: Exact) -> None:
    """Remove a session that is over, with all its files."""
    delete(settings, log)


@session_api.get("")
def one(log: Seen, shelf: OurShelf) -> dict[str, Any]:
    """Where a session stands."""
    return shelf.ask(log, state)


@session_api.get("/kept")
def kept_there(settings: Ours, log: Seen) -> Kept:
    """Whether the session is kept on the Hub, or in a folder."""
    return kept(settings, log.path.parent)


@session_api.get("/events")
def events(
    http: Http, log: Seen, after: Annotated[int, Query(ge=0)] = 0, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """The facts after `after`, and then each new one, as server-sent events."""
    auth, cookies = http.app.state.auth, http.headers.get("cookie")
    who = auth.person(cookies)
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    # no-transform and X-Accel-Buffering keep proxies from holding facts back
    headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
    facts = http.app.state.live.stream(log, start, lambda: auth.person(cookies) == who)
    return StreamingResponse(facts, media_type="text/event-stream", headers=headers)


@session_api.get("/report")
def report(log: Seen) -> Response:
    """The report in Markdown."""
    with reading(log.path.parent, REPORT, NO_REPORT) as opened:
        text = opened.file.read(LARGEST)
    return Response(text, media_type="text/markdown; charset=utf-8", headers={"cache-control": "no-store"})


@session_api.get("/log")
def whole_log(log: Seen) -> Response:
    """Every fact so far, as JSON lines."""
    name = f'attachment; filename="{log.path.parent.name}.jsonl"'
    headers = {"content-disposition": name, "cache-control": "no-store"}
    return Response(log.path.read_bytes(), media_type="application/x-ndjson", headers=headers)


def refusal(_: Http, error: Exception) -> JSONResponse:
    """Any refusal, ours or the framework's, as {"error": sentence}."""
    match error:
        case StarletteHTTPException(status_code=status, detail=said):
            return JSONResponse({"error": str(said)}, status)
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
            value = "" if first["type"] in ("missing", "json_invalid") else f"; seen: {str(first['input'])[:40]!r}"
            return JSONResponse({"error": f"{where}: {first['msg'].lower()}{value}."}, 422)
        case LogError():
            return JSONResponse({"error": str(error)}, 500)
        case _:
            return JSONResponse({"error": str(error)}, 422)


REFUSALS = (StarletteHTTPException, RequestValidationError, LogError, SettingsError)
