"""Whose session it is. Asked before every route under /api/sessions/{session}, the streams included.

Each route works with the settings of whoever asks (ui.auth says who), whose home is theirs alone; nobody has none.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi import Request as Http

from agent.sessions import find, session_log
from agent.settings import Settings, SettingsError
from record.events import Opened, parse
from record.log import Log, LogError

NOBODY = ""


async def settings_of(http: Http) -> Settings:
    """Those of whoever asks."""
    return http.app.state.auth.settings(http.headers.get("cookie"))


Ours = Annotated[Settings, Depends(settings_of)]


async def signed_in(settings: Ours) -> Settings:
    """The same for somebody. Raises HTTPException 401 for nobody."""
    if settings.person == NOBODY:
        raise HTTPException(401, "Sign in first.")
    return settings


Somebodys = Annotated[Settings, Depends(signed_in)]


def seen(settings: Ours, session: str) -> Log:
    """The log of a session by its id, or by an unambiguous beginning of it, for its owner. Anybody else hears what they
    would hear if there were no session: HTTPException 404. Raises LogError."""
    none = HTTPException(404, f"There is no session with the id {session!r}.")
    if settings.person == NOBODY:
        raise none
    try:
        log = session_log(settings, session)
        log = log if log.path.is_file() else find(settings, session)
        with open(log.path, "rb") as file:
            first = parse(file.readline())
    except SettingsError as error:
        raise HTTPException(404, str(error)) from error
    except (OSError, ValueError) as error:
        raise LogError(f"The log of {session} cannot be read: {error}") from error
    if not isinstance(first, Opened):  # whoever it names, who may have been another elsewhere: it lies in their home
        raise none
    return log


Seen = Annotated[Log, Depends(seen)]


async def exact(log: Seen, session: str) -> Log:
    """The same by its whole id: a beginning is enough to look, and too little to change or delete."""
    if log.path.parent.name != session:
        raise HTTPException(404, f"{session!r} is the beginning of an id; give the whole id to change a session.")
    return log


Exact = Annotated[Log, Depends(exact)]


def session_router() -> APIRouter:
    """A router for what belongs to a session: only its owner comes to its routes."""
    return APIRouter(prefix="/api/sessions/{session}", dependencies=[Depends(seen)])
