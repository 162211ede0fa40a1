"""Compare several configs of one recipe in one call."""

from typing import Any

from lab.errors import BadInput
from lab.lab import EVAL_HOURS
from lab.offer import accept
from lab.shown import as_text
from lab.sweep import spread, sweep
from tools.base import Tool, where
from tools.train import HOURS, price, rented

NEEDS = "A sweep needs config, idea and expected_gain, or else the job of an offer."


class Sweep(Tool):
    name = "sweep"
    effect = "spend"

    def price(self, arguments: dict[str, Any]) -> float | None:
        arguments, jobs = self._settings(arguments)
        measured = EVAL_HOURS if rented(self.lab, arguments) else 0.0  # where it trains, it is measured
        return price(self.lab, arguments, (arguments.get("hours", HOURS) + measured) * jobs)

    def note(self, arguments: dict[str, Any]) -> str:
        machine = rented(self.lab, self._settings(arguments)[0])
        return where(machine) if machine else ""

    def _settings(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """What all its jobs share, as `train` takes it, and how many they are; an offer's rows must be there to say it."""
        if not arguments.get("offered"):
            jobs = len(spread(arguments.get("config") or {}, arguments.get("vary"), arguments.get("configs")))
            return {"config": {}} | {name: value for name, value in arguments.items() if value is not None}, jobs
        offer = accept(self.lab, arguments["offered"])
        return {"recipe": offer.recipe, "config": offer.base, "hours": offer.hours}, len(offer.configs)

    def forward(
        self,
        config: dict | None = None,
        idea: str = "",
        expected_gain: float | None = None,
        vary: dict | None = None,
        configs: list[dict] | None = None,
        recipe: str = "sft",
        hours: float = HOURS,
        kill: dict | None = None,
        offered: str = "",
    ) -> str:
        """Train with 2 to 16 configs and compare their dev scores: the first is tested alone, then the others run one by one. Returns when all are over; promotes nothing. Give config, idea, expected_gain, and vary or configs; or offered alone.

        Args:
            config: The settings that all share, as for `train`; data is one of them.
            idea: The hypothesis in one sentence: what is varied, and what it should do to the score.
            expected_gain: The change of the dev score against the best so far that you expect of the best of them, from -1 to 1.
            vary: Lists of values, e.g. {"lr": [0.001, 0.003], "seed": [0, 1]}: every combination is run. Two seeds show how much is noise.
            configs: Instead of vary: what each config changes, e.g. [{}, {"packing": true}, {"lora_rank": 16}].
            recipe: Which to run, one of those of `train`.
            hours: Stop each job after this many hours of run time; after less where its share of the time that is left is less.
            kill: When to give a job up, as for `train`; if it ends the first, the others are not started.
            offered: Instead of all others: the job on which a finding has offered changes to try. Its own settings are run with each of them.
        """
        if offered:
            if config or vary or configs:
                raise BadInput(f"The offer of {offered} says all settings; leave config, vary and configs out.")
            its = accept(self.lab, offered)
            table = sweep(
                self.lab, its.recipe, its.configs, its.hours, its.idea, self.call, its.gain, its.kill, its.base
            )
            return as_text(table)
        if not config or not idea or expected_gain is None:
            raise BadInput(NEEDS)
        given = spread(config, vary, configs)
        return as_text(sweep(self.lab, recipe, given, hours, idea, self.call, expected_gain, kill))
