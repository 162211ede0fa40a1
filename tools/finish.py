"""Ask to end the session."""

from tools.base import Tool


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
