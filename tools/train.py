"""Start a training job."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.backend import Machine
from lab.errors import LabError
from lab.lab import Lab
from lab.preflight import few_hours
from lab.shown import as_text
from lab.tasks import read_rows
from tools.base import Tool, where

HOURS = 1.0  # of a job, unless its call says otherwise


class Train(Tool):
    name = "train"
    effect = "spend"

    def price(self, arguments: dict[str, Any]) -> float | None:
        return price(self.lab, arguments, arguments.get("hours", HOURS))

    def note(self, arguments: dict[str, Any]) -> str:
        machine = rented(self.lab, arguments)
        short = _short(self.lab, arguments, machine)
        return " ".join(filter(None, (where(machine) if machine else "", short)))

    def forward(
        self,
        config: dict,
        idea: str,
        expected_gain: float,
        recipe: str = "sft",
        hours: float = HOURS,
        kill: dict | None = None,
        machine: str = "auto",
    ) -> str:
        """Start a training job and return its id at once. A preflight runs first and refuses what cannot work. Use `wait` to follow it.

        Args:
            config: The recipe's settings: data (a file of the workspace), model ("base", "best" or a job), and those to change, e.g. lr, max_steps, batch_size, max_length, packing, lora_rank.
            idea: The hypothesis in one sentence: what is changed, and what it should do to the score.
            expected_gain: The change of the dev score against the best so far that you expect, from -1 to 1. Be honest: it is compared with what comes.
            recipe: Which to run, and its rows: "sft" (prompt, completion), "chat" (messages), "dpo" or "reward" (prompt, chosen, rejected), "kto" (prompt, completion, label), "prm" (prompt, steps, labels), "cpt" (text); "grpo", "rejection" and "distill" sample their own answers to the rows of prepare_data; "script" runs a Python file of the workspace, config["script"], on rows of any shape. read_skill recipes has their settings.
            hours: Stop the job after this many hours of run time.
            kill: When to give the job up, e.g. {"metric": "eval_loss", "step": 50, "above": 2.0}: it is ended when the metric's first value from that step on is above the limit or not finite.
            machine: "local", a flavour of Hugging Face Jobs such as "t4-small" or "a100-large" (these cost money, so the session needs a cap of dollars), or "auto": here, and rented only where it does not fit here, or would wait here past the session's end.
        """
        return as_text(self.lab.train(recipe, config, hours, idea, self.call, expected_gain, kill, machine))


def price(lab: Lab, arguments: dict[str, Any], hours: float) -> float | None:
    """Dollars that so many hours cost at most where a job of these arguments would run."""
    return lab.cost(hours, rented(lab, arguments))


def rented(lab: Lab, arguments: dict[str, Any]) -> Machine | None:
    """The machine that a job of these arguments would rent; None where it runs here, or cannot run: it will say why."""
    recipe = arguments.get("recipe", "sft")
    try:
        full = lab.checked(recipe, arguments["config"])
        machine = lab.place(arguments.get("machine", "auto"), recipe, full, arguments.get("hours", HOURS))
    except LabError:
        return None
    return None if machine.here else machine


def _short(lab: Lab, arguments: dict[str, Any], machine: Machine | None) -> str:
    """What a person should know where the hours of a job are too few for it; "" where they are not, or nobody knows."""
    recipe = arguments.get("recipe", "sft")
    with suppress(LabError):
        full = lab.checked(recipe, arguments["config"])
        takes = lab.estimate(recipe, full, read_rows(Path(full["data"])), machine.name if machine else None)
        found = few_hours(arguments.get("hours", HOURS), takes)
        return f"{found.what} {found.advice}" if found else ""
    return ""
