"""Numbers and names as people read them."""

import re
from pathlib import Path


def dataset_of(task: str) -> tuple[str, str] | None:
    """The Hub dataset of a task, and its commit, "" where none was recorded; None for a task that has none."""
    kind, _, source = task.partition(":")
    if kind != "table":
        return None
    if pinned := re.fullmatch(r"([^@]+)@([0-9a-f]{40})", source):
        return pinned[1], pinned[2]
    return None if Path(source).is_absolute() or Path(source).suffix else (source, "")


def duration(seconds: float) -> str:
    """Seconds below 90, minutes below 90, hours beyond."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def task_text(task: str) -> str:
    """A task as Markdown, with the commit of its Hub dataset where it was recorded."""
    dataset, commit = dataset_of(task) or ("", "")
    return f"`table:{dataset}` at revision `{commit}`" if commit else f"`{task}`"
