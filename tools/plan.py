"""Say what will be done and where it stands, remark on it, and ask to end."""

from lab.errors import BadInput
from lab.shown import as_text
from record.events import Noted, Planned, Step
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


class Note(Tool):
    name = "note"
    effect = "read"

    def forward(self, topic: str, text: str) -> str:
        """Note something that the person should find in the report: a decision and its reason, a limit, a surprise.

        Args:
            topic: One or two words.
            text: The remark.
        """
        self.lab.tell(Noted(topic=topic, text=text))
        return as_text({"noted": topic})


class FinalAnswer(Tool):
    """smolagents ends its loop on the tool of this name."""

    name = "final_answer"
    effect = "read"

    def forward(self, answer: str) -> str:
        """End the session with a summary for the person. Refused while a job runs or the best model has no held-out score.

        Args:
            answer: What was reached, what was tried, what is left to do. Only measured numbers.
        """
        self.lab.check_finished()
        return answer
