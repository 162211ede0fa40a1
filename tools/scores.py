"""Measure a model, and decide on a candidate."""

from typing import Any, Literal

from lab.backend import Machine
from lab.errors import LabError
from lab.shown import as_text
from tools.base import Tool, where


class Evaluate(Tool):
    name = "evaluate"
    effect = "write"  # it takes the machine for a while

    def price(self, arguments: dict[str, Any]) -> float | None:
        machine, hours = self._rented(arguments)
        return machine.price and machine.price * max(0.0, hours) if machine else 0.0

    def note(self, arguments: dict[str, Any]) -> str:
        machine, _ = self._rented(arguments)
        return where(machine) if machine else ""

    def _rented(self, arguments: dict[str, Any]) -> tuple[Machine | None, float]:
        """The machine that a measurement would rent, and its hours at most; None where it needs none."""
        model, split = arguments["model"], arguments.get("split", "dev")
        if self.lab.views.score(self.lab.views.best if model == "best" else model, split):
            return None, 0.0
        try:
            machine, hours = self.lab.judge(model)
        except LabError:  # the call itself will say it
            return None, 0.0
        return (None if machine.here else machine), hours

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
