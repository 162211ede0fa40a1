"""Decide on a candidate."""

from lab.shown import as_text
from tools.base import Tool


class Promote(Tool):
    name = "promote"
    effect = "write"

    def forward(self, model: str, idea: str = "") -> str:
        """Compare a trained model with the best one on the same dev items and keep it only if it is really better. Its dev score must be there.

        Args:
            model: The id of the job that trained it.
            idea: What it tried, in a few words; the job's own when left out.
        """
        return as_text(self.lab.promote(model, idea))
