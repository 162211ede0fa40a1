"""What training jobs have taken at their peak, beside the estimate: later estimates of their kind are corrected by it.

    {"session": "…", "job": "sft-1", "kind": "SFT on cpu, Shape(kind='llama', …)", "estimated": 1591738368, "measured": 685768704}

One line a job in HOME/peaks.jsonl. To forget one, delete its line.
"""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from lab import lines

FILE = "peaks.jsonl"
# Of a correction [H]. Half: rows of unlike length are trained in several passes, and the next job's may be all alike.
# Twice: a trainer wrote the measured, and what it says must not lock up every later job of its kind.
LEAST, MOST = 0.5, 2.0


class Peak(BaseModel):
    """A line of the list, in bytes on each accelerator. `estimated` is not corrected."""

    model_config = ConfigDict(frozen=True)

    session: str
    job: str
    kind: str  # see lab.demand.Space
    estimated: int = Field(gt=0, lt=2**60)
    measured: int = Field(gt=0, lt=2**60)

    @property
    def factor(self) -> float:
        return min(MOST, max(LEAST, self.measured / self.estimated))


def nearest(peaks: Iterable[Peak], kind: str, estimated: int) -> Peak | None:
    """The one of this kind whose estimate was most like this one, the last of equals; None without any."""
    alike = [peak for peak in peaks if peak.kind == kind]
    ratios = [max(one.estimated, estimated) / min(one.estimated, estimated) for one in alike]
    return min(zip(ratios[::-1], alike[::-1], strict=True), key=lambda one: one[0], default=(0, None))[1]


def look(session: Path) -> list[Peak]:
    """Every peak that is known to the session whose folder this is, oldest first."""
    return lines.read(lines.shared(session, FILE), Peak)


def keep(session: Path, new: Peak) -> None:
    """Add a job's, once. Raises OSError."""
    known = (new.session, new.job)
    lines.add(lines.shared(session, FILE), new, lambda kept: any((one.session, one.job) == known for one in kept))
