"""Look at the training data, and make a training file."""

from lab.shown import as_text
from tools.base import Tool


class AuditData(Tool):
    name = "audit_data"
    effect = "read"

    def forward(self) -> str:
        """What there is to train on: sources, row counts, lengths, duplicates, overlap with the evaluation, examples."""
        return as_text(self.lab.audit())


class PrepareData(Tool):
    name = "prepare_data"
    effect = "write"

    def forward(self, name: str, rows: int = 2500, worked: float = 0.0, source: str = "task") -> str:
        """Write a training file data/NAME.jsonl with the columns prompt and completion. Duplicates and items of the evaluation are taken out.

        Args:
            name: The file's name, without folder and ending.
            rows: How many rows.
            worked: Share of rows whose completion is a worked solution instead of the bare answer, from 0 to 1.
            source: "task" for the task's training split, "own" for the person's rows, "both" for half and half.
        """
        return as_text(self.lab.prepare(name, source, rows, worked))
