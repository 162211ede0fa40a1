"""Measure a model."""

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
