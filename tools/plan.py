"""Say what will be done, and where it stands."""

from lab.errors import BadInput
from lab.shown import as_text
from record.events import Planned, Step
from tools.base import Tool

STATES = ("todo", "doing", "done", "dropped")


class Plan(Tool):
    name = "plan"
    effect = "read"

    def forward(self, steps: list[dict]) -> str:
        """Set the whole plan. Call it again whenever a step's state changes.

        Args:
            steps: The steps in order, each {"text": "...", "state": "todo" | "doing" | "done" | "dropped"}.
        """
        for step in steps:
            if not isinstance(step.get("text"), str) or step.get("state", "todo") not in STATES:
                raise BadInput(f"{step!r} is no step; give a text and one of the states {', '.join(STATES)}.")
        self.lab.tell(Planned(steps=tuple(Step(text=s["text"], state=s.get("state", "todo")) for s in steps)))
        return as_text({"steps": len(steps)})
