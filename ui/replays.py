"""Replays: the logs of sessions that anybody may watch. Those that ship with the program, and those that are shared.

`python -m ui.replays SESSION > replays/NAME.jsonl` prints the public log of any session of this machine.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi import Request as Http
from fastapi.responses import JSONResponse, Response

from agent.sessions import NAMES, find, session_log, state_of
from agent.settings import ROOT, Settings, SettingsError, read
from record.events import Event
from record.journal import Journal
from record.log import Log
from ui.public import public
from ui.shelf import OurShelf

SHIPPED = ROOT / "replays"
# Any page may read a replay: it is public, and answers nobody differently. "no-cache" asks again each time, because
# an owner may take it back at any moment.
OPEN = {"access-control-allow-origin": "*", "cache-control": "no-cache"}
NONE = "There is no such replay: its address is wrong, or its owner does not share it."

replay_api = APIRouter(prefix="/api/replays")


@replay_api.get("")
def every(http: Http, shelf: OurShelf) -> JSONResponse:
    """Shipped ones first, then shared ones, the newest first."""
    shipped = [Log(path) for path in sorted(SHIPPED.glob("*.jsonl"))]
    return JSONResponse(shelf.every([*shipped, *shelf.logs(*_people(http))], summary), headers=OPEN)


@replay_api.get("/{name}")
def one(http: Http, shelf: OurShelf, name: str) -> Response:
    """The public log as JSON lines."""
    logs = []
    if NAMES.fullmatch(name):
        logs = [Log(SHIPPED / f"{name}.jsonl"), *(session_log(settings, name) for settings in _people(http))]
    for found in shelf.every(logs, text):
        return Response(found, media_type="application/x-ndjson", headers=OPEN)
    return JSONResponse({"error": NONE}, 404, OPEN)  # the same words for a private session as for none


def _people(http: Http) -> list[Settings]:
    """Everybody: who shares a session shares it with everybody, and `summary` and `text` show no other."""
    return http.app.state.auth.wallet.everyone()


def text(journal: Journal) -> str | None:
    """The public log as JSON lines; None when it is not shared at present."""
    if journal.log.path.parent == SHIPPED:
        return lines(journal.log)
    return lines(public_log(journal.log)) if journal.views.public else None


def summary(journal: Journal) -> dict[str, Any] | None:
    """One line of the list; None when it is not shared at present."""
    views, path = journal.views, journal.log.path
    shipped = path.parent == SHIPPED
    if not views.opened or not (shipped or views.public):
        return None
    best = views.score(views.best, "heldout") or views.score(views.best, "dev")
    ended = views.closed or views.halted
    minutes = (ended.at - views.opened.at).total_seconds() / 60 if ended else None
    return {
        "id": path.stem if shipped else path.parent.name,
        "title": views.title,
        "outcome": state_of(views),
        "minutes": None if minutes is None else round(minutes, 1),
        "best": best.value if best else None,
        "split": best.split if best else None,
        "shipped": shipped,
    }


def public_log(log: Log) -> list[Event]:
    """The public facts of a session of this machine."""
    folder, _, home, *_ = log.path.parents  # <home>/sessions/<id>
    folders = {folder: "", ROOT: "", home: "", Path.home(): "~"}
    places = {str(form): name for path, name in folders.items() for form in (path, path.resolve())}
    return public(log, places, log.secrets)


def lines(facts: Iterable[Event]) -> str:
    return "".join(fact.model_dump_json() + "\n" for fact in facts)


def main() -> int:
    try:
        log = find(read(), sys.argv[1] if len(sys.argv) == 2 else "")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(lines(public_log(log)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
