"""What the logs of sessions say, for the page and for programs. Each is read once, and then only what was added; never written."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from fastapi import Request as Http

from agent.sessions import folders, session_log, summary_of
from agent.settings import Settings
from record.journal import Journal
from record.log import Log, LogError
from record.views import Job

T = TypeVar("T")


class Shelf:
    """The fold of every log that somebody asked about. Thread-safe."""

    def __init__(self):
        self._known: dict[Path, tuple[Journal, dict[Callable, tuple[int, Any]]]] = {}
        self._mutex = threading.Lock()

    @staticmethod
    def logs(*people: Settings) -> list[Log]:
        """The logs of all sessions of these people, newest first."""
        named = [(path.name, settings) for settings in people for path in folders(settings)]
        return [session_log(settings, name) for name, settings in sorted(named, key=lambda one: one[0], reverse=True)]

    def ask(self, log: Log, question: Callable[[Journal], T]) -> T:
        """What a log answers; worked out again only when it has grown. Of one that is deleted nothing is kept.

        Raises:
            LogError: It is gone, or cannot be read.
        """
        with self._mutex:
            if not log.path.is_file():
                self._known.pop(log.path, None)
                raise LogError(f"{log.path} is gone: its session was deleted.")
            journal, answers = self._known.setdefault(log.path, (Journal(log), {}))
            journal.log.refresh()
            count = len(journal.log)
            if question not in answers or answers[question][0] != count:
                answers[question] = count, question(journal)
            return answers[question][1]

    def every(self, logs: Iterable[Log], question: Callable[[Journal], T | None]) -> list[T]:
        """The answers of those that can be read and have one."""
        found = []
        for log in logs:
            with suppress(LogError, OSError):
                found.append(self.ask(log, question))
        return [answer for answer in found if answer is not None]


async def shelf_of(http: Http) -> Shelf:
    return http.app.state.shelf


OurShelf = Annotated[Shelf, Depends(shelf_of)]


def jobs(journal: Journal) -> dict[str, Job]:
    """The jobs of a session by their names."""
    return dict(journal.views.jobs)


def state(journal: Journal) -> dict[str, Any]:
    """Where a session stands: values, models and dataclasses that become JSON as they are."""
    views = journal.views
    return asdict(summary_of(journal)) | {
        "goal": views.opened and views.opened.goal,
        "budget": views.budget,
        "approval": views.approval,
        "driver": views.driver,
        "effort": views.effort,
        "public": views.public,
        "closed": views.closed,
        "active": views.active,
        "best_model": views.best,
        "plan": views.plan,
        "jobs": [asdict(job) for job in views.jobs.values()],
        "scores": list(views.scores),
        "promotions": list(views.promotions),
        "waiting": views.waiting,
        "spent": asdict(views.spent),
    }
