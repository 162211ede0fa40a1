"""What has failed before, kept as predicates on settings and put to every later job, also of other sessions.

    {"rule": "divergence", "session": "…", "job": "sft-2", "what": "The loss is …", "advice": "…", "same": "3f…",
     "when": [["recipe", "is", "sft"], ["base", "is", "starter"], ["lora_rank", "is", 0], ["lr", "at_least", 0.05]]}

One line a guard in HOME/guards.jsonl, where no command and no trainer can read or write. A job is warned of when all of
`when` holds for it, or when it is the `same` job but for its seed; one that ran out of memory is then refused. To
forget a guard, delete its line.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lab import lines
from lab.findings import Finding
from recipes.catalogue import RECIPES
from record.events import Ended, Found
from record.views import Job

FILE = "guards.jsonl"
FAST = ("not_finite", "divergence", "gradient_spike", "reward_collapse", "kl_blow_up")  # of a learning rate
# What a trainer is told by its model, its rows and its settings alone: the same job fails again.
FIXED = (
    "all_masked", "stop_token_not_trained", "truncated", "no_eos", "nothing_to_learn", "none_accepted",
    "cut_off_answers", "no_signal", "device_error",
)  # fmt: skip
# Settings that nothing fails by.
IDLE = (
    "data", "script", "seed", "trackio_project", "trackio_run", "log_steps", "save_steps", "eval_steps",
    "save_total_limit",
)  # fmt: skip

Value = str | bool | int | float | None


class Guard(BaseModel):
    """A line of the list. `when` is (setting, how, value)."""

    model_config = ConfigDict(frozen=True)

    rule: str
    session: str
    job: str
    what: str
    advice: str
    same: str
    when: tuple[tuple[str, Literal["is", "at_least", "at_most"], Value], ...] = ()

    def holds(self, about: Mapping[str, Any]) -> bool:
        return about["same"] == self.same or (
            bool(self.when) and all(_holds(about.get(n), h, v) for n, h, v in self.when)
        )

    def said(self, kept: Sequence["Guard"]) -> bool:
        """Whether this job has been learned from, or the same is asked already."""
        mine, asks = (self.session, self.job), (self.rule, self.when, self.same)
        return any((one.session, one.job) == mine or (one.rule, one.when, one.same) == asks for one in kept)


def _holds(seen: Any, how: str, value: Any) -> bool:
    if how == "is" or seen is None:  # None: as long as the rows are
        return seen == value
    if not isinstance(seen, int | float) or not isinstance(value, int | float):
        return False
    return seen >= value if how == "at_least" else seen <= value


def look(session: Path, about: Mapping[str, Any]) -> list[Finding]:
    """What the guards say of a job (see `about`): for each rule, the last one that holds. `session` is its folder."""
    kept = lines.read(lines.shared(session, FILE), Guard)
    held = {guard.rule: guard for guard in kept if guard.holds(about)}
    return [_finding(guard, about) for guard in held.values()]


def starved(session: Path, about: Mapping[str, Any]) -> set[str]:
    """Machines on which a job that needed no more than this one has run out of memory, whatever machine `about` names."""
    kept = [guard for guard in lines.read(lines.shared(session, FILE), Guard) if guard.rule == "out_of_memory"]
    on = [(guard, str(value)) for guard in kept for name, _, value in guard.when if name == "machine"]
    return {machine for guard, machine in on if guard.holds({**about, "machine": machine})}


def _finding(guard: Guard, about: Mapping[str, Any]) -> Finding:
    same = guard.same == about["same"]
    shared = ", ".join(f"{name} = {about.get(name)}" for name, how, _ in guard.when if how != "is")
    who = "The same job" if same or not shared else f"A job like this ({shared})"
    what = f"{who} has failed before, as {guard.job} of {guard.session}: {guard.what}"
    advice = f"{guard.advice} A person who knows better deletes the line in {FILE}."
    level = "stop" if same and guard.rule == "out_of_memory" else "warn"
    evidence = {
        "guard": guard.rule,
        "session": guard.session,
        "job": guard.job,
        "when": [list(one) for one in guard.when],
    }
    return Finding(level, f"failed_before_{guard.rule}", what, advice, evidence)


def about(recipe: str, config: Mapping[str, Any], base: str, machine: str) -> dict[str, Any]:
    """What a guard may ask of a job: its settings with all defaults, the session's model, the machine, and `same`.

    `config` holds data_sha256 and, for a script, script_sha256. Raises ValidationError for one that is no config.
    """
    settings = RECIPES[recipe].model_validate(config).model_dump(mode="json")
    settings = {name: value for name, value in settings.items() if name not in IDLE}
    if "jobs" not in Path(settings["model"]).parts:  # no job's model: a Hub id has a folder as well
        settings["model"] = base
    known = settings | {"recipe": recipe, "base": base, "machine": machine}
    return known | {"same": sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]}


def learn(session: Path, base: str, job: Job, ended: Ended, findings: Sequence[Found]) -> None:
    """Keep a guard of a job that failed by what its settings or its rows say. Safe to repeat; never raises for a disk."""
    if ended.state != "failed" or job.recipe not in RECIPES:
        return
    stop = next((found for found in findings if found.level == "stop"), None)
    crashed = ended.result.get("kind") in ("config", "crash")
    rule = stop.rule if stop else "crash" if crashed else ""
    if rule not in (*FAST, *FIXED, "out_of_memory", "crash"):
        return
    try:
        asked = about(job.recipe, job.config, base, job.machine)
        what, advice = (stop.what, stop.advice) if stop else (ended.reason, "Change what its error names.")
        guard = Guard(
            rule=rule, session=session.name, job=job.id, what=what, advice=advice, same=asked["same"],
            when=_when(rule, asked),
        )  # fmt: skip
        lines.add(lines.shared(session, FILE), guard, guard.said)
    except (OSError, ValueError) as error:  # a config that is none, a reason that no file can hold
        logging.getLogger(__name__).warning("no guard was kept of %s: %s", job.id, error)


def _when(rule: str, about: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """Beyond the same job: as much memory on this machine, or as high a learning rate, for this model and recipe."""
    asks: dict[str, str] = {"recipe": "is", "base": "is", "lora_rank": "is"}
    if rule == "out_of_memory":
        asks |= {"machine": "is", "gradient_checkpointing": "at_most"}
        asks |= dict.fromkeys(("batch_size", "sample_batch", "max_length", "max_new_tokens"), "at_least")
        if about.get("max_length", 0) is None:  # as long as the rows are: these
            asks |= {"data_sha256": "is"}
    elif rule in FAST:
        asks |= {"lr": "at_least"}
    else:
        return ()
    return tuple((name, how, about[name]) for name, how in asks.items() if name in about)
