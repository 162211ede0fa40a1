"""Replays: the logs of sessions that anybody may watch. Those that ship with the program, and those that are shared.

`python -m ui.replays SESSION > replays/NAME.jsonl` prints the public log of any session of this machine.
"""

import sys
import threading
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from agent.sessions import NAMES, find, session_log, state_of
from agent.settings import ROOT, Settings, SettingsError, read
from record.events import Event
from record.journal import Journal
from record.log import Log, LogError
from record.views import Views
from ui.public import public

SHIPPED = ROOT / "replays"
# Any page may read a replay: it is public, and answers nobody differently. "no-cache" asks again each time, because
# an owner may take it back at any moment.
OPEN = {"access-control-allow-origin": "*", "cache-control": "no-cache"}
NONE = "There is no such replay: its address is wrong, or its owner does not share it."


class Replays:
    """Reads each log once, and then only what was added. Thread-safe."""

    def __init__(self, settings: Settings, shipped: Path = SHIPPED):
        self._settings = settings
        self._shipped = shipped
        self._mutex = threading.Lock()
        self._journals: dict[Path, Journal] = {}
        self._texts: dict[Path, tuple[int, str]] = {}  # how many facts the text was made of, and the text

    def summaries(self) -> list[dict[str, Any]]:
        """One plain dictionary a replay: shipped ones first, then shared ones, the newest first."""
        with self._mutex:
            shipped = sorted(self._shipped.glob("*.jsonl"))
            sessions = sorted(self._settings.sessions.glob("*/events.jsonl"), reverse=True)
            found = [(path.stem, path) for path in shipped] + [(path.parent.name, path) for path in sessions]
            pairs = [(name, path, self._views(path)) for name, path in found if NAMES.fullmatch(name)]
            return [_summary(name, path, views, path in shipped) for name, path, views in pairs if views]

    def text(self, name: str) -> str | None:
        """The public log as JSON lines; None when there is none, or when it is not shared at present."""
        if not NAMES.fullmatch(name):
            return None
        with self._mutex:
            for path in (self._shipped / f"{name}.jsonl", self._settings.sessions / name / "events.jsonl"):
                if self._views(path):
                    return self._text(path)
        return None

    def _views(self, path: Path) -> Views | None:
        """The fold of a log that anybody may see. Of one that is deleted nothing is kept."""
        if not path.is_file():
            self._journals.pop(path, None)
            self._texts.pop(path, None)
            return None
        try:
            journal = self._journals.get(path) or Journal(self._log(path))
            views = journal.views
        except (LogError, SettingsError, OSError):
            return None
        if views.opened:
            self._journals[path] = journal
        return views if views.opened and (views.public or path.parent == self._shipped) else None

    def _log(self, path: Path) -> Log:
        return Log(path) if path.parent == self._shipped else session_log(self._settings, path.parent.name)

    def _text(self, path: Path) -> str:
        log = self._journals[path].log
        count, text = self._texts.get(path, (-1, ""))
        if count != len(log):
            facts = list(log) if path.parent == self._shipped else public_log(self._settings, log)
            count, text = len(log), lines(facts)
            self._texts[path] = (count, text)
        return text


def public_log(settings: Settings, log: Log) -> list[Event]:
    """The public facts of a session of this machine."""
    folders = {log.path.parent: "", ROOT: "", settings.home: "", Path.home(): "~"}
    places = {str(form): name for path, name in folders.items() for form in (path, path.resolve())}
    return public(list(log), places, tuple(settings.keys.values()))


def lines(facts: list[Event]) -> str:
    return "".join(fact.model_dump_json() + "\n" for fact in facts)


def include(api: APIRouter, settings: Settings) -> None:
    """The routes of replays. They need no sign-in and change nothing."""
    replays = Replays(settings)

    @api.get("/replays")
    def every() -> JSONResponse:
        return JSONResponse(replays.summaries(), headers=OPEN)

    @api.get("/replays/{name}")
    def one(name: str) -> Response:
        text = replays.text(name)
        if text is None:  # the same words for a private session as for none
            return JSONResponse({"error": NONE}, 404, OPEN)
        return Response(text, media_type="application/x-ndjson", headers=OPEN)


def _summary(name: str, path: Path, views: Views, shipped: bool) -> dict[str, Any]:
    assert views.opened
    best = views.score(views.best, "heldout") or views.score(views.best, "dev")
    ended = views.closed or views.halted
    minutes = (ended.at - views.opened.at).total_seconds() / 60 if ended else None
    return {
        "id": name,
        "title": views.title,
        "outcome": state_of(views),
        "minutes": None if minutes is None else round(minutes, 1),
        "best": best.value if best else None,
        "split": best.split if best else None,
        "shipped": shipped,
    }


def main() -> int:
    settings = read()
    try:
        log = find(settings, sys.argv[1] if len(sys.argv) == 2 else "")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(lines(public_log(settings, log)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
