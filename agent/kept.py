"""Whether a session is kept elsewhere, in words: what the mirror of its home, in whatever process, has last told."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.settings import Settings
from lab.backend import read_json
from record.words import duration

TOKEN = "HF_TOKEN"
STATE = "mirror.json"  # in the home; agent.mirroring writes it


@dataclass(frozen=True)
class Kept:
    """`said` is a sentence for people, `where` the address of the repository; "" where none is known, and of a folder."""

    state: Literal["kept", "not kept", "off", "unknown"]
    said: str
    where: str = ""


def lacking(settings: Settings) -> str:
    """What a mirror needs and has not; "" where it can begin. A folder needs no token."""
    if not settings.mirror:
        return "the mirror is off"
    return "" if settings.shelf or TOKEN in settings.keys else f"no {TOKEN} is known; sign in, or set it"


def kept(settings: Settings, session: Path) -> Kept:
    """How it stands with a session's folder now."""
    there = f"in {settings.shelf}" if settings.shelf else "on the Hub"
    if why := lacking(settings):
        return Kept("not kept" if settings.mirror else "off", f"Not kept {there}: {why}.")
    told = read_json(settings.home / STATE)
    one, why, now = told.get("sessions", {}).get(session.name, {}), told.get("why", ""), time.time()
    hub = settings.job_env.get("HF_ENDPOINT", "https://huggingface.co")
    where = f"{hub}/datasets/{told['repo']}" if "repo" in told and not settings.shelf else ""
    if machine := one.get("foreign"):
        return Kept("not kept", f"Not kept from here: another machine ({machine}) goes on with this session.", where)
    at = one.get("kept")
    if one.get("done") is not None and one["done"] == (session / "events.jsonl").stat().st_size:
        return Kept("kept", f"Kept {there}{_but(one)}.", where)
    if why:
        last = f" What was here {duration(now - at)} ago is there." if at else ""
        again = duration(max(0.0, told["again"] - now))
        return Kept("not kept", f"Not kept {there}: {why.rstrip('.')}; next try in {again}.{last}", where)
    if at:
        return Kept("kept", f"Kept {there} {duration(now - at)} ago{_but(one)}.", where)
    return Kept("unknown", f"Whether this session is kept {there} is not known yet.", where)


def _but(one: dict[str, Any]) -> str:
    late = f"; files on their way: {one['late']}" if one["late"] else ""
    out, some = one["left_out"], ", ".join(one["some"])
    return f"{late}. Left out, too big or oddly named, {out} in all: {some}" if out else late
