"""Measure a model, and decide on a candidate."""

from typing import Literal

from lab.shown import as_text
from tools.base import Tool


class Evaluate(Tool):
    name = "evaluate"
    effect = "write"  # it takes the machine for a while

    def forward(self, model: str, split: Literal["dev", "heldout"] = "dev") -> str:
        """Measure a model by the sealed judge and wait for the score with its 95 % interval. Choose by dev; measure heldout for the base and for the final model only.

        Args:
            model: "base", "best", or the id of the job that trained it.
            split: "dev" or "heldout".
        """
        return as_text(self.lab.measure(model, split, self.call))


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
