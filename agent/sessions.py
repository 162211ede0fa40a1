"""The folders of sessions: open one, list them, find one. What the two doors share; it thinks nothing."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.providers import check_driver
from agent.settings import Settings, SettingsError
from lab.errors import LabError
from lab.hub import Hub
from lab.models import STARTER, check_model
from lab.tasks import check_task, check_training_rows
from lab.tidy import given_path
from record.events import Approval, Budget, Goal, Opened
from record.journal import Journal
from record.log import Log, LogError
from record.views import Views

NAMES = re.compile(r"[a-z0-9][a-z0-9-]{3,60}")  # of sessions' folders; others that lie there are not ours
HUB_ID = re.compile(r"(?!.*\.\.)[\w-][\w.-]*/[\w.-]+(@[\w.-]+(/[\w.-]+)*)?")  # and a dataset's revision
# Of each cap; more is a slip of the hand.
MOST = {"hours": 10_000, "job_hours": 100_000, "dollars": 1_000_000, "tokens": 10**12, "calls": 10**6}
MIN_FREE = 512 * 2**20  # bytes: two checkpoints of a small model and its logs


@dataclass(frozen=True)
class Request:
    """What a person asks for, before it is checked."""

    text: str = ""
    task: str | None = None
    model: str = "starter"
    target: float | None = None
    metric: str | None = None
    hours: float | None = 1.0
    job_hours: float | None = None
    dollars: float | None = None
    tokens: int | None = None
    calls: int | None = None  # of the driver's model
    driver: str | None = None
    seed: int = 0
    approval: Approval = "auto"
    data: str | None = None
    person: str = "local"


@dataclass(frozen=True)
class Summary:
    """One line of the list of sessions."""

    id: str
    title: str
    state: str
    opened: datetime | None
    driver: str
    best: float | None
    facts: int = 0


DEMO = Request(
    text="Make the starter model solve arithmetic chains: at least 90 % of the held-out items right.",
    task="chains",
    target=0.9,
    hours=0.25,
    driver="autopilot",
)


def open_session(settings: Settings, request: Request) -> str:
    """Check a request, make the session's folder, append Opened, and return the session's id.

    Raises:
        SettingsError: One sentence on what to change in the request.
    """
    opened = _checked(settings, request)
    folder = settings.sessions / opened.session
    try:
        (folder / "workspace").mkdir(parents=True)
        (folder / "jobs").mkdir()
        session_log(settings, opened.session).append(opened)
    except (OSError, LogError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SettingsError(f"The session could not be stored in {settings.sessions}: {error}") from error
    return opened.session


def session_log(settings: Settings, session: str) -> Log:
    """The log of a session. Raises SettingsError for an id that is not one."""
    if not NAMES.fullmatch(session):
        raise SettingsError(f"{session!r} is not the id of a session; see `python -m agent list`.")
    return Log(settings.sessions / session / "events.jsonl", secrets=settings.secrets)


def folders(settings: Settings) -> list[Path]:
    """The folder of every session, in no order."""
    return [path.parent for path in settings.sessions.glob("*/events.jsonl") if NAMES.fullmatch(path.parent.name)]


def find(settings: Settings, session: str) -> Log:
    """The log of a session that exists. An unambiguous beginning of its id is enough.

    Raises:
        SettingsError: There is none, or there are several.
    """
    ids = [path.name for path in folders(settings)]
    matches = [session] if session in ids else [i for i in ids if session and i.startswith(session)]
    if len(matches) != 1:
        what = "no session" if not matches else f"{len(matches)} sessions"
        raise SettingsError(f"There is {what} with the id {session!r}; see `python -m agent list`.")
    log = session_log(settings, matches[0])
    log.refresh()
    if not len(log):
        raise SettingsError(f"The session {matches[0]} holds nothing: it was cut off while it was opened.")
    return log


def summaries(settings: Settings) -> list[Summary]:
    """Every session, newest first."""
    found = []
    for path in folders(settings):
        try:
            found.append(summary_of(Journal(session_log(settings, path.name))))
        except LogError as error:
            found.append(Summary(path.name, f"unreadable: {error}", "failed", datetime.now(UTC), "", None))
    return sorted((s for s in found if s.opened), key=lambda s: s.opened or datetime.min, reverse=True)


def summary_of(journal: Journal) -> Summary:
    """One line on one session. Raises LogError."""
    views, session = journal.views, journal.log.path.parent.name
    best = views.score(views.best, "heldout")
    title = views.title or session
    opened = views.opened.at if views.opened else None
    value = best.value if best else None
    return Summary(session, title, state_of(views), opened, views.driver, value, len(journal.log))


def state_of(views: Views) -> str:
    """The state of a session in one word or two, for people."""
    if views.active:
        return "waiting for you" if views.waiting else "working"
    return views.closed.outcome if views.closed else "stopped"


def check_caps(caps: Mapping[str, float | None]) -> None:
    """Raise SettingsError for a cap that is none."""
    for name, value in caps.items():
        if value is not None and not 0 < value <= MOST[name]:
            what = f"The budget of {name} is {str(value)[:40]}"
            raise SettingsError(f"{what}; give more than 0 and at most {MOST[name]:,}, or leave it out for no cap.")


def _check_paths(settings: Settings, request: Request) -> None:
    """Raise SettingsError for a path on a Space: what lies there belongs to the server, or to somebody else."""
    table = (request.task or "").partition("table:")[2]
    for name in (request.data, request.model, table) if settings.space else ():
        if name and name != "starter" and (name == request.data or not HUB_ID.fullmatch(name) or Path(name).exists()):
            what = f"{name[:80]!r} would be a file of this Space's machine"
            raise SettingsError(f"{what}; give an id of the Hub like org/name, or run ML Intern on your own machine.")


def not_theirs(settings: Settings, views: Views) -> str:
    """Why a session of a person's repository may not be laid down on a Space: what file it names that is not theirs; "" otherwise.

    A path of another machine, where nothing lies on this one, leads nowhere.
    """
    if not settings.space or not views.opened:
        return ""
    goal, caches = views.goal, ("models", "huggingface", "vault")
    own = (STARTER, *(Path(os.path.realpath(settings.home / name)) for name in caches))
    people, sessions = (Path(os.path.realpath(path)) for path in (settings.home.parent, settings.sessions))
    try:
        _check_paths(settings, Request(task=goal.task, model=goal.model, data=views.opened.data))
        for text in _texts([goal.task, *(job.config for job in views.jobs.values())]):
            path = Path(os.path.realpath(os.path.expanduser(text)))
            theirs = path.is_relative_to(sessions) and path.relative_to(sessions).parts[1:2] == ("jobs",)
            theirs = theirs or any(path.is_relative_to(place) for place in own)
            if not theirs and (path.is_relative_to(people) or os.path.lexists(path)):
                return f"a job of it names {text[:80]!r}, which is no file of its own"
    except (SettingsError, ValueError) as error:
        return str(error)
    return ""


def _texts(value: Any) -> Iterator[str]:
    """Every text in it that may be a path; of "table:file" the file, too."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield from (text for text in {value, value.partition(":")[2]} if text)


def _checked(settings: Settings, request: Request) -> Opened:
    """The request as the fact that opens a session."""
    if not request.task and request.target is not None:
        what = f"A target of {request.target:g} means nothing without something to measure"
        raise SettingsError(f"{what}; add --task, e.g. --task chains, which is scored by accuracy.")
    if not request.task:
        raise SettingsError("No task was given; add --task, e.g. --task chains, so that there is something to measure.")
    metric = request.metric or "accuracy"
    if metric != "accuracy":
        raise SettingsError(f"The metric {metric!r} is unknown; {request.task} is scored by accuracy.")
    if request.target is not None and not 0 < request.target <= 1:
        raise SettingsError(f"The target is {request.target:g}; give an accuracy above 0 and up to 1, e.g. 0.9.")
    check_caps({name: getattr(request, name) for name in MOST})
    driver = request.driver or settings.driver
    _check_paths(settings, request)
    try:
        check_driver(driver, settings.keys, settings.api_base)
        task = check_task(request.task)
        model = check_model(
            request.model, Hub(settings.home / "models", settings.keys.get("HF_TOKEN"), settings.job_env)
        )
        data = check_training_rows(given_path(request.data)) if request.data else None
    except LabError as error:
        raise SettingsError(str(error)) from error
    if not 0 <= request.seed < 2**31:
        raise SettingsError(f"The seed is {request.seed}; give a whole number from 0 to {2**31 - 1}.")
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{settings.home} cannot be made ({error.strerror}); set ML_INTERN_HOME.") from error
    free = shutil.disk_usage(settings.home).free
    if free < MIN_FREE:
        raise SettingsError(f"Only {free / 2**20:.0f} MiB are free under {settings.home}; free at least 512 MiB.")
    now = datetime.now(UTC)
    text = request.text.strip() or f"Make {request.model} better at {request.task}."
    return Opened(
        session=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        goal=Goal(text=text, task=task, model=model, target=request.target, metric=metric),
        budget=Budget(**{name: getattr(request, name) for name in Budget.model_fields}),
        driver=driver,
        seed=request.seed,
        person=request.person,
        approval=request.approval,
        data=str(data) if data else None,
    )
