"""One shape for everything that a check has to say: preflight, live diagnosis, integrity."""

from dataclasses import dataclass, field
from typing import Any, get_args

from record.events import Level


@dataclass(frozen=True)
class Finding:
    """What a rule saw (`what`, with the value) and what to do about it (`advice`). `stop` refuses or ends a job."""

    level: Level
    rule: str
    what: str
    advice: str
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> int:
        return get_args(Level).index(self.level)
