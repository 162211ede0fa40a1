"""Jobs with different settings side by side: what differs, the dev score of each, and how much of it is noise."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lab.errors import LabError
from lab.grade import paired
from lab.lab import RECIPES, Lab
from lab.tasks import read_rows
from record.views import Job

SHOWN = ("loss", "eval_loss", "eval_accuracy")  # of a job's result
UNKNOWN = "How much the seed alone changes is unknown: no config stands twice with different seeds."


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each config the settings in which not all are equal; one that it leaves out is its "default"."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    unequal = [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]
    return [{name: config.get(name, "default") for name in unequal} for config in configs]


def measured(lab: Lab, job: Job, call: str) -> dict[str, Any]:
    """How a job that is over went, with its dev score and interval where it has a model that writes; waits for them."""
    row: dict[str, Any] = {"job": job.id, "state": job.state, "seconds": round(job.seconds, 1)}
    result = job.ended.result if job.ended else {}
    row |= {name: result[name] for name in SHOWN if result.get(name) is not None}
    row |= {"findings": [f.rule for f in job.findings if f.level != "info"]} if job.findings else {}
    if job.state != "done":
        return row | {"problem": job.ended.reason if job.ended else ""}
    if RECIPES[job.recipe].TASK != "CAUSAL_LM":
        return row
    try:
        score = lab.measure(job.id, "dev", call)
    except LabError as error:
        return row | {"problem": str(error)}
    return row | {"dev": score["value"], "low": score["low"], "high": score["high"], "n": score["n"]}


def against(lab: Lab, row: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The paired difference of two rows' dev scores, with its interval; {} where there is none."""
    if row is first or "dev" not in row or "dev" not in first:
        return {}
    scores = [lab.views.score(one["job"], "dev") for one in (row, first)]
    new, old = ([float(item["correct"]) for item in read_rows(lab.folder / score.items)] for score in scores if score)
    return {"against_first": {name: round(value, 4) for name, value in paired(new, old).numbers.items()}}


def noise(configs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """By how much the seed alone moves the score, in words; `configs` are the whole settings of the rows."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for config, row in zip(configs, rows, strict=True):
        if "dev" in row:
            groups.setdefault(json.dumps({**config, "seed": 0}, sort_keys=True, default=str), []).append(row)
    again = [group for group in groups.values() if len(group) > 1]
    if not again:
        return UNKNOWN
    widest = max(max(row["dev"] for row in group) - min(row["dev"] for row in group) for group in again)
    who = "; ".join(", ".join(row["job"] for row in group) for group in again)
    return f"The seed alone changes the dev score by up to {widest:.3f} ({who}): a difference below that says nothing."
