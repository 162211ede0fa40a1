"""Signs of life of a job's process, as its supervisor sees them: seconds in which nothing new came."""

import time
from dataclasses import dataclass
from pathlib import Path

from lab.backend import JobState
from lab.rules import Life


@dataclass
class Pulse:
    """What was last seen of one process. Ages are counted on our own clock, which stands still while the machine sleeps."""

    beat: float | None = None  # the heartbeat's time in the file system; None before the first
    beat_seen: float = 0.0
    line_seen: float = 0.0

    def look(self, folder: Path, state: JobState, fresh: bool) -> Life:
        """Look once more. `fresh` says whether the metrics have grown since the last look."""
        now = time.monotonic()
        if state.ended:
            return Life(error=state.reason if state.state == "failed" else "")
        beat, unheard = _changed(folder / "heartbeat"), state.state != "running" or state.unseen
        if beat != self.beat or unheard:
            self.beat, self.beat_seen = beat, now
        if fresh or not self.line_seen or unheard:
            self.line_seen = now
        return Life(now - self.line_seen, now - self.beat_seen if self.beat else 0.0)


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
