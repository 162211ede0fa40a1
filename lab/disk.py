"""What a session may keep on the disk: of an ended job only what somebody may still ask for, and under a quota.

Over the quota the oldest models that were discarded go, with their checkpoints: never the best, and none that a running
job reads or an open call names. Scores, items, results, metrics and logs always stay.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lab.checkpoint import ADAPTER, spare
from lab.findings import Finding
from lab.reach import scratch
from record.views import Job, Views

REMOVED, FULL = "model_removed", "disk_quota"  # rules
SHARE = 0.5  # of what a session has or could have; with several sessions some always stays free


def tidy(views: Views, session: Path) -> None:
    """Take away scratch files of ended jobs, and checkpoints of judged ones beyond the best and the last."""
    judged = {promoted.model for promoted in views.promotions}
    for job in views.jobs.values():
        folder = session / job.folder
        if job.running:
            continue
        for left in (scratch(folder), *(folder / name for name in (".home", ".kept.tmp", ".model.tmp"))):
            remove(left)
        if any(found.rule == REMOVED for found in job.findings):  # and we died before it was done
            forget(folder)
        for checkpoint in spare(folder) if job.id in judged else []:
            remove(checkpoint)


def excess(views: Views, session: Path, quota: int | None) -> Iterator[Finding]:
    """What is over the quota (bytes; None: SHARE): a finding for each model to remove, by its `evidence["model"]`.

    Look at the next one when it is removed. The last finding says so where nothing more can go, once after each verdict.
    """
    over = _over(session, quota)
    for promoted in views.promotions:
        job = views.jobs.get(promoted.model)
        if over > 0 and job and promoted.verdict != "keep" and job.id != views.best and not _used(job, views, session):
            if not any((session / job.folder / name).exists() for name in ("model", "checkpoints")):
                continue
            what = f"The model of {job.id} ({promoted.verdict}) was removed: the session was {_mib(over)} over its disk quota."
            yield Finding("info", REMOVED, what, "Train it again if you need it.", {"model": job.id})
            over = _over(session, quota)
    judged = views.promotions[-1].seq if views.promotions else 0
    if over > 0 and not any(found.rule == FULL and found.seq > judged for found in views.findings):
        what = f"The session's folder is {_mib(over)} over its disk quota, and no discarded model is left to remove."
        advice = "Judge models that you do not need with promote, delete large files of the workspace, or raise ML_INTERN_DISK."
        yield Finding("warn", FULL, what, advice, {"bytes": over})


def forget(folder: Path) -> None:
    """Take a job's weights away."""
    for name in ("model", "checkpoints", ADAPTER):
        remove(folder / name)


def size(folder: Path) -> int:
    """Bytes on the disk of all that lies in a folder; a file with several names counts once."""
    files: dict[tuple[int, int], int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                about = os.lstat(os.path.join(root, name))
            except FileNotFoundError:
                continue
            files[about.st_dev, about.st_ino] = about.st_blocks * 512
    return sum(files.values())


def remove(path: Path) -> None:
    """Delete a folder; of a link only the link. What cannot be deleted stays."""
    if path.is_symlink():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _over(session: Path, quota: int | None) -> int:
    used = size(session)
    return used - (int(SHARE * (used + shutil.disk_usage(session).free)) if quota is None else quota)


def _used(job: Job, views: Views, session: Path) -> bool:
    """Whether a running job reads its model, or a call that is not answered yet names it: a sweep, a second stage."""
    model = str(session / job.folder / "model")
    open_calls = json.dumps([call.arguments for who in views.replies for call in views.open_calls(who)])
    return job.running or job.id in open_calls or any(model in one.config.values() for one in views.running)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
