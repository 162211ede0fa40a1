"""The jobs of the sessions that somebody looks at, read on from where they were left: a poll costs what is new, not the whole log."""

import threading
from pathlib import Path

from fastapi import HTTPException

from agent.sessions import find, session_log
from agent.settings import Settings, SettingsError
from record.log import Log
from record.views import Job, Views

KEPT = 16  # sessions; the one that was asked for longest ago makes room


def session_folder(settings: Settings, session: str) -> Path:
    """The folder of a session by its id, or by an unambiguous beginning of it. Reads no fact. Raises HTTPException 404."""
    try:
        path = session_log(settings, session).path
        return (path if path.is_file() else find(settings, session).path).parent
    except SettingsError as error:
        raise HTTPException(404, str(error)) from error


class Folds:
    """Raises LogError for a log that cannot be read."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._known: dict[Path, tuple[Log, Views]] = {}  # every fact that a log holds is in its views
        self._lock = threading.Lock()

    def jobs(self, session: str) -> tuple[Path, dict[str, Job]]:
        """A session's folder and its jobs by their names."""
        folder = session_folder(self._settings, session)
        with self._lock:
            log, views = self._known.pop(folder, None) or (session_log(self._settings, folder.name), Views())
            seen = len(log)
            log.refresh()
            for fact in log[seen:]:
                views.add(fact)
            self._known[folder] = log, views
            while len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
            return folder, dict(views.jobs)
