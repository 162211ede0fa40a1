"""Compare several configs of one recipe in one call."""

from typing import Any

from lab.lab import EVAL_HOURS
from lab.shown import as_text
from lab.sweep import spread, sweep
from tools.base import Tool, where
from tools.train import HOURS, price, rented


class Sweep(Tool):
    name = "sweep"
    effect = "spend"

    def price(self, arguments: dict[str, Any]) -> float | None:
        jobs = len(spread(arguments["config"], arguments.get("vary"), arguments.get("configs")))
        measured = EVAL_HOURS if rented(self.lab, arguments) else 0.0  # where it trains, it is measured
        return price(self.lab, arguments, (arguments.get("hours", HOURS) + measured) * jobs)

    def note(self, arguments: dict[str, Any]) -> str:
        machine = rented(self.lab, arguments)
        return where(machine) if machine else ""

    def forward(
        self,
        config: dict,
        idea: str,
        expected_gain: float,
        vary: dict | None = None,
        configs: list[dict] | None = None,
        recipe: str = "sft",
        hours: float = HOURS,
        kill: dict | None = None,
    ) -> str:
        """Train with 2 to 16 configs and compare their dev scores: the first is tested alone, then the others run one by one. Returns when all are over; promotes nothing.

        Args:
            config: The settings that all share, as for `train`; data is one of them.
            idea: The hypothesis in one sentence: what is varied, and what it should do to the score.
            expected_gain: The change of the dev score against the best so far that you expect of the best of them, from -1 to 1.
            vary: Lists of values, e.g. {"lr": [0.001, 0.003], "seed": [0, 1]}: every combination is run. Two seeds show how much is noise.
            configs: Instead of vary: what each config changes, e.g. [{}, {"packing": true}, {"lora_rank": 16}].
            recipe: Which to run, one of those of `train`.
            hours: Stop each job after this many hours of run time; after less where its share of the time that is left is less.
            kill: When to give a job up, as for `train`; if it ends the first, the others are not started.
        """
        given = spread(config, vary, configs)
        return as_text(sweep(self.lab, recipe, given, hours, idea, self.call, expected_gain, kill))
