"""The list of sessions and what one of them looks like, for the page and for programs. Reads; never writes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.sessions import Summary, find, session_log, summary_of
from agent.settings import Settings, SettingsError
from record.log import Log, LogError
from record.views import Job, Views


class Shelf:
    """Every session's summary, read again only where the log has grown."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._known: dict[str, tuple[int, Log, Summary]] = {}

    def summaries(self, person: str) -> list[dict[str, Any]]:
        """One plain dictionary a session of this person, newest first."""
        found = [self._summary(path) for path in self._settings.sessions.glob("*/events.jsonl")]
        newest_first = sorted(
            (s for s in found if s and s.opened and s.person == person), key=lambda s: s.id, reverse=True
        )
        return [asdict(summary) for summary in newest_first]

    def _summary(self, path: Path) -> Summary | None:
        session = path.parent.name
        try:
            size = path.stat().st_size
            known = self._known.get(session)
            if known and known[0] == size:
                return known[2]
            log = known[1] if known else session_log(self._settings, session)
            log.refresh()
            summary = summary_of(session, log)
        except (LogError, SettingsError, OSError):
            return None
        self._known[session] = (size, log, summary)
        return summary


def state(settings: Settings, session: str) -> dict[str, Any]:
    """Where a session stands, as plain values. Raises SettingsError, LogError."""
    log = find(settings, session)
    views = Views(log)
    opened = views.opened
    return asdict(summary_of(log.path.parent.name, log)) | {
        "goal": opened.goal.model_dump() if opened else None,
        "budget": views.budget.model_dump(),
        "approval": views.approval,
        "driver": views.driver,
        "effort": views.effort,
        "public": views.public,
        "closed": views.closed.model_dump(mode="json") if views.closed else None,
        "active": views.active,
        "best_model": views.best,
        "plan": [step.model_dump() for step in views.plan],
        "jobs": [_job(job) for job in views.jobs.values()],
        "scores": [score.model_dump(mode="json") for score in views.scores],
        "promotions": [verdict.model_dump(mode="json") for verdict in views.promotions],
        "waiting": [asked.model_dump(mode="json") for asked in views.waiting],
        "spent": asdict(views.spent),
    }


def _job(job: Job) -> dict[str, Any]:
    return asdict(job) | {
        "ended": job.ended.model_dump(mode="json") if job.ended else None,
        "findings": [finding.model_dump(mode="json") for finding in job.findings],
    }
