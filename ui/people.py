"""Whose session it is. Asked before every route under /api/sessions/{session}, the streams included.

Until there is a sign-in there is one person, the local one; on a public Space there is nobody, who owns nothing.
"""

from collections.abc import Callable

from fastapi import HTTPException
from fastapi import Request as Http

from agent.sessions import find, session_log
from agent.settings import Settings, SettingsError
from record.events import Opened, parse
from record.log import LogError

NOBODY = ""


def person_of(settings: Settings) -> str:
    """Who asks. "" is nobody."""
    return "local" if settings.space is None else NOBODY


def owners_only(settings: Settings) -> Callable[[Http], None]:
    """A dependency that lets only the owner pass. Anybody else hears what they would hear if there were no session."""
    owners: dict[str, str] = {}  # a session's first fact never changes

    def check(http: Http) -> None:
        session = http.path_params.get("session")
        if session is None:
            return
        none = HTTPException(404, f"There is no session with the id {session!r}.")
        person = person_of(settings)
        if person == NOBODY:
            raise none
        try:
            path = session_log(settings, session).path
            path = path if path.is_file() else find(settings, session).path
            if path.parent.name not in owners:
                with open(path, "rb") as file:
                    first = parse(file.readline())
                if not isinstance(first, Opened):
                    raise none
                owners[path.parent.name] = first.person
        except SettingsError as error:
            raise HTTPException(404, str(error)) from error
        except (OSError, ValueError) as error:
            raise LogError(f"The log of {session} cannot be read: {error}") from error
        if owners[path.parent.name] != person:
            raise none

    return check
