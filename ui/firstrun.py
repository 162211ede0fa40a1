"""What a newcomer has to know before the first session: what is there, what is missing, and the one thing to do about it."""

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Literal

from agent.kept import lacking
from agent.providers import KEYS, BrainError, check_driver
from agent.sessions import MIN_FREE
from agent.settings import Settings
from lab.confine import landlock
from lab.errors import LabError
from lab.hub import client, in_words
from lab.machine import this_machine
from ui.oauth import SCOPES

ROOMY = 10 * 2**30  # bytes: a few checkpoints of a model of 500M parameters


@dataclass(frozen=True)
class Check:
    """One line: `what` is the fact, `fix` what a person can do about it; "" where there is nothing to do."""

    name: str
    state: Literal["ok", "warn", "bad", "unknown"]
    what: str
    fix: str = ""


def first_run(settings: Settings) -> list[Check]:
    """Every check, in the order in which a person meets them. Asks the Hub only when there is a token."""
    return [_brain(settings), _hub(settings), _hardware(), _disk(settings), _storage(settings), _guard(settings)]


def _brain(settings: Settings) -> Check:
    if settings.driver != "autopilot":
        try:
            check_driver(settings.driver, settings.keys, settings.api_base)
        except BrainError as error:
            return Check("model", "bad", str(error), "Set the key and start again.")
        return Check("model", "ok", f"{settings.driver} drives new sessions.")
    if settings.api_base or any(name in settings.keys for name in KEYS.values()):
        return Check("model", "ok", "Autopilot drives new sessions; a key for a model is there, name it as the driver.")
    what = "No key for a language model: Autopilot, a fixed policy, drives sessions."
    return Check("model", "warn", what, "Set ANTHROPIC_API_KEY, or ML_INTERN_API_BASE for a server of your own.")


def _sign_in(settings: Settings) -> Check:
    if time.time() >= settings.until:
        return Check("Hub sign-in", "bad", "Your sign-in has ended: sessions wait.", "Sign in again.")
    missing = [scope for scope in SCOPES if scope not in (settings.scopes or ())]
    if missing:
        what = f"Your sign-in as {settings.person} does not allow: {', '.join(missing)}."
        return Check("Hub sign-in", "warn", what, "Sign in again, on a Space that asks for it in its README.")
    ends = datetime.fromtimestamp(settings.until, UTC)
    what = f"Signed in as {settings.person} until {ends:%d %b %H:%M} UTC; it allows {', '.join(SCOPES)}."
    return Check("Hub sign-in", "ok", what)


def _hub(settings: Settings) -> Check:
    if settings.until < inf:
        return _sign_in(settings)
    token = settings.keys.get("HF_TOKEN")
    if token is None:
        return Check("Hub token", "warn", "No HF_TOKEN: public models only, nothing is published.", "Set HF_TOKEN.")
    try:
        with in_words("the name of who has this token"):
            who = client(token, settings.job_env).whoami()
    except LabError as error:
        said = getattr(error.__cause__, "response", None)
        if said is not None and said.status_code == 401:
            return Check("Hub token", "bad", "The Hub refuses HF_TOKEN.", "Make a new token and set HF_TOKEN.")
        return Check("Hub token", "unknown", "The Hub does not say whose HF_TOKEN is, so it is not checked.")
    role = ((who.get("auth") or {}).get("accessToken") or {}).get("role", "unknown")
    return Check("Hub token", "ok", f"HF_TOKEN is {who.get('name', 'somebody')}'s; its scope: {role}.")


def _hardware() -> Check:
    machine = this_machine()
    if "CPU" not in machine:
        return Check("hardware", "ok", f"Jobs run on {machine}.")
    return Check("hardware", "warn", f"Jobs run on {machine}: fine for models of a few million parameters.")


def _disk(settings: Settings) -> Check:
    home = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(home).free
    what = f"{free / 2**30:.1f} GiB are free."
    if free < MIN_FREE:
        return Check("disk", "bad", what, "Free at least 512 MiB: no session can be opened.")
    return Check("disk", "ok" if free >= ROOMY else "warn", what, "" if free >= ROOMY else "Free some for checkpoints.")


def _storage(settings: Settings) -> Check:
    if settings.space is None:
        return Check("storage", "ok", "Sessions stay on this machine.")
    if settings.home.is_relative_to("/data"):
        return Check("storage", "ok", "Sessions stay on the Space's volume.")
    if not lacking(settings):
        where = settings.shelf or "your repository on the Hub"
        return Check("storage", "ok", f"A restart wipes the disk; sessions are kept in {where}.")
    what = "A restart wipes the disk, and sessions are not kept on the Hub."
    return Check("storage", "warn", what, "Sign in, or set HF_TOKEN; ML_INTERN_MIRROR must not be off.")


def _guard(settings: Settings) -> Check:
    abi = landlock()
    if abi >= 6:
        return Check("confinement", "ok", settings.guard)
    return Check(
        "confinement", "warn", settings.guard, "Use Linux 6.12 or newer with Landlock, or a machine with nothing else."
    )
