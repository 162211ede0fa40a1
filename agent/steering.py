"""What a person does to a session that is there, from any door: each is one fact, or one folder more or less."""

import fcntl
import json
import math
import secrets
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from agent.providers import check_driver
from agent.sessions import check_caps
from agent.settings import Settings, SettingsError
from record import events
from record.events import Approval, Budget, Effort
from record.journal import Journal
from record.log import Log
from record.mark import PULLED
from record.mirror import bury
from record.views import MAIN, Views

LONGEST_TITLE = 200  # characters
NOT_COPIED = ("owner.lock", ".launch", "typing.json", "notified", PULLED)  # of one owner, and of one moment


class Terms(BaseModel):
    """What a person may change of a session. What is left out stays as it is; a cap of None is no cap."""

    model_config = ConfigDict(extra="forbid")
    budget: dict[str, float | None] | None = None
    approval: Approval | None = None
    driver: str | None = None
    effort: Effort | None = None


def say(log: Log, text: str, by: str = "local") -> None:
    """A person's message. Raises SettingsError when it is empty."""
    if not text.strip():
        raise SettingsError("The message is empty; write what you want.")
    log.append(events.Said(text=text.strip(), by=by))


def decide(log: Log, call: str, allow: bool, arguments: dict | None = None, by: str = "local") -> None:
    """A person's answer to a question of the gate. Raises SettingsError when nothing waits under that call."""
    if call not in {asked.call for asked in _views(log).waiting}:
        raise SettingsError(f"Nothing waits for a decision under {call!r}; it may have been decided already.")
    log.append(events.Decided(call=call, allow=allow, arguments=arguments, by=by))


def halt(log: Log, by: str = "local", reason: str = "") -> None:
    """Stop a session. Stopping a stopped one changes nothing."""
    if _views(log).active:
        log.append(events.Halted(by=by, reason=reason))


def rename(log: Log, title: str, by: str = "local") -> None:
    """Give a session another title. Raises SettingsError for an empty one."""
    title = " ".join(title.split())
    if not 0 < len(title) <= LONGEST_TITLE:
        raise SettingsError(f"The title has {len(title)} characters; give 1 to {LONGEST_TITLE}.")
    log.append(events.Renamed(title=title, by=by))


def share(log: Log, public: bool, by: str = "local") -> None:
    """Let anybody watch a session as a replay, or nobody any more."""
    if _views(log).public != public:
        log.append(events.Shared(public=public, by=by))


def tune(settings: Settings, log: Log, terms: Terms, by: str = "local") -> None:
    """Change the caps, the approval mode, the driver or its effort. Read at the agent's next step.

    Raises:
        SettingsError: A cap or a driver that cannot be.
    """
    views = _views(log)
    strange = set(terms.budget or {}) - set(Budget.model_fields)
    if strange:
        raise SettingsError(f"There is no cap {strange.pop()!r}; there are {', '.join(Budget.model_fields)}.")
    whole = {name: math.floor(cap) for name in ("tokens", "calls") if (cap := (terms.budget or {}).get(name))}
    caps = views.budget.model_dump() | (terms.budget or {}) | whole
    check_caps(caps)
    driver = (terms.driver or "").strip() or None
    if driver:
        check_driver(driver, settings.keys, settings.api_base)
    budget = Budget.model_validate(caps)
    fact = events.Tuned(
        budget=None if budget == views.budget else budget,
        approval=None if terms.approval == views.approval else terms.approval,
        driver=None if driver == views.driver else driver,
        effort=None if terms.effort == (views.effort or "default") else terms.effort,
        by=by,
    )
    if any((fact.budget, fact.approval, fact.driver, fact.effort)):
        log.append(fact)


def compact(log: Log, by: str = "local") -> None:
    """Have the brain's memory shortened at its next step. Raises SettingsError where there is none to shorten."""
    views = _views(log)
    if views.driver == "autopilot":
        raise SettingsError("Autopilot is a fixed policy and keeps no memory to compact; change the model first.")
    if views.replied is None:
        raise SettingsError("There is nothing to compact yet: the model has not answered once.")
    done = views.compactions[MAIN].seq if MAIN in views.compactions else 0
    if views.wants_compaction <= done:  # asked for already otherwise
        log.append(events.Requested(what="compact", by=by))


def undo(log: Log, by: str = "local") -> None:
    """Make the brain forget the person's last message and all that followed. Raises SettingsError when it cannot be."""
    views = _views(log)
    if not views.settled:
        raise SettingsError("The session is at work; stop it first, then take the turn back.")
    if not views.turns:
        raise SettingsError("There is no turn to take back: what is left is the request that opened the session.")
    log.append(events.Undone(upto=views.turns[-1] - 1, by=by))


def fork(settings: Settings, log: Log, by: str = "local", at: int | None = None) -> str:
    """Copy a session, its files and its models into a new one that stands still, and return the new id.

    Jobs that run stay with the old session; in the new one they count as cancelled. With `at`, the seq of a fact, the
    new session's driver knows nothing that was said after it; what jobs did stays done. Raises SettingsError, LogError.
    """
    views = _views(log)
    if at is not None and not 1 <= at <= len(log):
        raise SettingsError(f"There is no fact {at} in this session; give a number from 1 to {len(log)}.")
    old, new = log.path.parent, f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    draft, folder = settings.sessions / f".{new}", settings.sessions / new
    first, *rest = log.path.read_bytes()[: log.read_bytes].splitlines(keepends=True)
    opened = json.loads(first) | {"session": new}
    over = {old / job.folder for job in views.jobs.values() if not job.running}  # the files of others move meanwhile
    why = "it stayed with the session that this one was forked from"
    ends = [
        events.Ended(job=job.id, state="cancelled", seconds=0, dollars=0.0, reason=why, attempt=job.attempt)
        for job in views.running
    ]
    private = [events.Shared(public=False, by=by)] if views.public else []
    title = events.Renamed(title=f"{views.title[: LONGEST_TITLE - 7]} (fork)", by=by)

    def kept_back(folder: str, names: list[str]) -> list[str]:
        jobs = Path(folder) == old / "jobs"
        return [name for name in names if name in NOT_COPIED or (jobs and Path(folder) / name not in over)]

    try:
        shutil.copytree(old, draft, symlinks=True, ignore=kept_back, copy_function=_copy)
        (draft / "events.jsonl").write_bytes(json.dumps(opened, ensure_ascii=False).encode() + b"\n" + b"".join(rest))
        copy = Log(draft / "events.jsonl", log.secrets)
        back = [] if at is None else [events.Undone(upto=at, by=by)]
        copy.append(*ends, *private, title, *back, events.Halted(by=by, reason=f"forked from {old.name}"))
        draft.rename(folder)  # only now can a worker or a viewer see it
    except (OSError, shutil.Error) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise SettingsError(f"The session could not be copied; free some disk ({str(error)[:200]}).") from error
    return new


def _copy(source: str, target: str) -> None:
    """Copy a file; one that is gone meanwhile belonged to somebody at work."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def delete(settings: Settings, log: Log) -> None:
    """Remove a session with its files, models and log for good. Raises SettingsError while anything of it works."""
    if not _views(log).settled:
        raise SettingsError("The session is at work; stop it first, then delete it.")
    folder = log.path.parent
    with open(folder / "owner.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError("The session is at work; stop it first, then delete it.") from None
        gone = settings.sessions / f".{folder.name}"  # in one move: nobody sees half a session
        if settings.mirror:
            bury(folder)
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _views(log: Log) -> Views:
    return Journal(log).views
