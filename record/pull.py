"""Fetch sessions out of a mirror (record.mirror) onto a machine that does not have them."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

from record.contents import LOG, joined, oids
from record.events import Opened
from record.journal import Journal
from record.log import Log, LogError
from record.mark import mark
from record.mirror import DELETED, OWNER
from record.remote import Trouble, by_session
from record.shelf import Place
from record.views import Views

Files = dict[str, tuple[int, str]]  # path: size, name
SPARE = 2**30  # bytes of disk that a fetch leaves free
Refusal = Callable[[Views], str]  # why a session may not be here; "" where it may
PATHS = ("events.jsonl", "jobs/*/config.json", "jobs/*/job.json")  # that name places of the machine they come from


@dataclass
class Pulled:
    """What became of it."""

    fetched: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)  # session: why it was not fetched
    leased: bool = False  # one of them works elsewhere, as far as is known


def pull(
    remote: Place, sessions: Path, machine: str, wanted: str = "", dead: float = 600.0, refusal: Refusal = lambda _: "",
    rounds: int = 20,
) -> Pulled:  # fmt: skip
    """Fetch sessions that are in a mirror and not here, the newest first; `wanted` is an id, or the beginning of one.

    One that works elsewhere is left: its owner has renewed its lease within `dead` seconds. One whose owner is gone is
    ours from then on, which is committed before it can be seen here. One whose log is not in order, or that is refused, is
    left: whoever may write in the repository can have made it. Raises Trouble or OSError, but for trouble with one session
    only after the others have been tried; what was fetched by then stays.
    """
    pulled, failed, again = Pulled(), None, False
    sessions.mkdir(parents=True, exist_ok=True)
    if (head := remote.head()) is None:
        return pulled
    new: dict[Path, Files] = {}
    for name, files in sorted(by_session(remote.files(head)).items(), reverse=True):
        here = (sessions / name).exists() or (sessions / DELETED / name).exists()
        if not here and name.startswith(wanted) and f"sessions/{name}/events/000001.jsonl" in files:
            digest = sha1(repr(sorted(files.items())).encode()).hexdigest()  # what was cut off goes on, if unchanged
            new[remote.scratch / f"pull-{digest[:16]}" / "sessions" / name] = files
    for other in {*remote.scratch.glob("pull-*")}.difference(draft.parents[1] for draft in new):
        shutil.rmtree(other, ignore_errors=True)
    for draft, files in new.items():
        try:
            _fetch(remote, head, files, draft, sessions / draft.name, machine, dead, refusal)
            pulled.fetched.append(draft.name)
        except Trouble as trouble:
            if trouble.person or trouble.wait_s:
                raise
            remote.head()  # raises, where it is not this session's trouble
            failed, again = trouble, again or trouble.spoilt
            continue
        except _Leased as leased:
            pulled.left[draft.name], pulled.leased = str(leased), True
        except (LogError, ValueError, TypeError) as error:  # also JSON that is none
            pulled.left[draft.name] = str(error).replace(f"{draft / LOG}: ", "its log, ")[:300].rstrip(".")
        shutil.rmtree(draft.parents[1], ignore_errors=True)
    if again and rounds:  # a snapshot that is spoilt has one before it
        rest = pull(remote, sessions, machine, wanted, dead, refusal, rounds - 1)
        return Pulled([*pulled.fetched, *rest.fetched], rest.left, rest.leased)
    if failed:
        raise failed
    return pulled


class _Leased(Exception):
    """It works elsewhere."""


def _fetch(
    remote: Place, head: str, files: Files, draft: Path, session: Path, machine: str, dead: float, refusal: Refusal
) -> None:  # fmt: skip
    """One session, by way of a folder of ours. Raises Trouble, _Leased, and what `pulled.left` is for."""
    path = f"sessions/{session.name}/{OWNER}"
    owner = remote.read(head, path) if path in files else {}
    working = not owner.get("settled") and owner.get("machine") != machine
    if working and (quiet := time.time() - owner.get("at", 0.0)) < dead:
        raise _Leased(f"it works on another machine ({owner.get('machine')}), which was heard of {quiet:.0f} s ago")
    size, free = sum(size for size, _ in files.values()), shutil.disk_usage(session.parent).free
    if size + SPARE > free:
        raise LogError(f"it has {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of disk are free")
    remote.fetch(head, files, draft.parents[1])
    owned = files[path][1] if path in files else ""
    try:
        _finish(draft, session, owner)
        _check(draft, refusal)
        data = json.dumps(owner | {"machine": machine, "at": time.time()}, indent=1).encode()
        _claim(remote, head, files, {path: data} if working else {}, session.name, machine)
        owned = min(oids(data), key=len) if working else owned
        over = (draft / LOG).stat().st_size if owner.get("settled") else None  # nothing to send until it grows
        mark(draft, owned, over, remote.repo)
        draft.rename(session)  # only now can a worker or a viewer see it
    except OSError as error:
        raise Trouble(f"{session.name} could not be laid down in {session.parent}: {error}") from error


def _claim(remote: Place, head: str, files: Files, add: dict[str, Any], name: str, machine: str) -> None:
    """Commit whose it is now, if it is still what was fetched at `head`; others may commit what is theirs meanwhile."""
    while True:
        now = remote.head()
        if now is None or (now != head and by_session(remote.files(now)).get(name) != files):
            raise Trouble(f"{name} has changed while it was fetched")
        if not add:
            return
        try:
            remote.commit(now, f"{machine} goes on with {name}", add, [])
            return
        except Trouble:
            if remote.head() == now:
                raise


def _finish(draft: Path, session: Path, owner: dict[str, Any]) -> None:
    """Make a session's folder of what was fetched, as it was when its owner was last heard of."""
    joined(draft)
    (draft / OWNER).unlink(missing_ok=True)
    for folder in ("workspace", "jobs"):
        (draft / folder).mkdir(exist_ok=True)
    home, at = f"{owner.get('home', session.parents[1])}/", owner.get("at", time.time())
    if home != f"{session.parents[1]}/":
        for place in (place for pattern in PATHS for place in draft.glob(pattern)):
            place.write_bytes(place.read_bytes().replace(f'"{home}'.encode(), f'"{session.parents[1]}/'.encode()))
    for run in draft.glob("jobs/.*.run.json"):  # no process here is a job's of another machine
        told = json.loads(run.read_bytes())
        run.write_text(json.dumps({name: float(told[name]) for name in ("started", "seconds") if name in told}))
    for about in draft.glob("jobs/*/job.json"):
        if not about.parent.with_name(f".{about.parent.name}.run.json").exists():  # it never ran: it is begun anew
            about.unlink()
    for root, _, names in os.walk(draft):
        for name in names:
            os.utime(os.path.join(root, name), (at, at))  # a job's last sign of life, and so its run time


def _check(draft: Path, refusal: Refusal) -> None:
    """Raise LogError for a log that is not this session's, or that leads out of its folder."""
    log = Log(draft / LOG)
    views = Journal(log).views
    if [(i, fact.session) for i, fact in enumerate(log) if isinstance(fact, Opened)] != [(0, draft.name)]:
        raise LogError("its log is not that of one session of this name")
    for score in views.scores:
        if score.job not in views.jobs or score.items != f"jobs/{score.job}/items.jsonl":
            raise LogError(f"a score of its log has its items in {score.items[:80]!r}")
    if why := refusal(views):
        raise LogError(why)
