"""Run a command in the workspace."""

from pathlib import Path

from lab.errors import BadInput
from lab.models import where
from lab.shown import as_text
from tools.base import Tool

LONGEST = 3600.0  # seconds; longer work belongs in a job, which is watched and survives


class Shell(Tool):
    name = "shell"
    effect = "write"
    repeatable = False

    def forward(self, command: str, seconds: float = 120.0) -> str:
        """Run a bash command in the workspace and wait for it. Its environment holds no keys. Long training belongs in `train`.

        Args:
            command: The command line.
            seconds: End it after this many seconds, at most 3600.
        """
        if not seconds > 0:
            raise BadInput(f"{seconds:g} seconds is no time to run in; give more than 0, at most {LONGEST:g}.")
        opened = self.lab.views.opened
        given = [where(self.lab.views.goal.model), Path(opened.data) if opened and opened.data else None]
        reads = [path for path in given if isinstance(path, Path)]
        ran = self.lab.workspace.run(command, min(seconds, LONGEST), self.lab.check, reads)
        ending = ran.ended_by or f"exit code {ran.code}"
        return as_text({"ended": ending, "seconds": round(ran.seconds, 2), "output": ran.text})
