"""Follow jobs and stop them."""

from lab.shown import as_text
from tools.base import Tool


class Wait(Tool):
    name = "wait"
    effect = "read"

    def forward(self, job: str, seconds: float = 1800.0) -> str:
        """Wait until a job ends or something new is wrong with it, and say how it stands: step, metrics, findings with advice.

        Args:
            job: The job's id.
            seconds: Come back after this many seconds anyway.
        """
        return as_text(self.lab.wait(job, seconds))


class Cancel(Tool):
    name = "cancel"
    effect = "write"

    def forward(self, job: str) -> str:
        """Stop a job; it saves a checkpoint first.

        Args:
            job: The job's id.
        """
        return as_text(self.lab.cancel(job))


class JobLog(Tool):
    name = "job_log"
    effect = "read"

    def forward(self, job: str, characters: int = 4000) -> str:
        """The last lines that a job's trainer printed.

        Args:
            job: The job's id.
            characters: How much of the end to show.
        """
        return self.lab.log_tail(job, characters)
