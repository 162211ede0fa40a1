"""One recipe with several settings: the first is tested, the others follow, all are measured on dev and compared.

Nothing is promoted. All of it may be called again with the same call id: each config is a job of its own, known by that
id and its place, and so is each evaluation.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from lab.clock import MARGIN, evaluation_s, room
from lab.errors import BadInput, LabError, Refused
from lab.grade import paired
from lab.lab import PATIENCE, RECIPES, Lab
from lab.tasks import read_rows
from record.events import Noted, Scored
from record.views import Job
from record.words import duration

MOST = 16  # configs of one sweep; the best of more is mostly luck [H]
UNKNOWN = (
    "Noise between seeds is unknown: no config stands twice with different seeds. The intervals hold only that of items."
)

Config = dict[str, Any]


def sweep(
    lab: Lab, recipe: str, config: Config, vary: Mapping[str, Sequence[Any]] | None, configs: Sequence[Config] | None,
    hours: float, idea: str, call: str, gain: float, kill: Config | None,
) -> dict[str, Any]:  # fmt: skip
    """Train each config, measure it on dev, and say what differs; returns when all are over.

    Args:
        vary: Values to try of each setting; all combinations are run.
        configs: Instead of it: the changes of each config to the shared one.
        hours: For each job; less where its share of what is left is less.

    Raises:
        BadInput: Configs that cannot be used, one that stands twice, or too few or many of them.
        Refused: They do not fit into the time that is left, or the first did not come to its end.
    """
    given = spread(config, vary, configs)
    full = [lab.checked(recipe, one) for one in given]
    if twins := [n for n, one in enumerate(full, start=1) if one in full[: n - 1]]:
        raise BadInput(f"Config {twins[0]} stands there twice; give it another seed, or leave it out.")
    changes = differences(given)
    jobs: dict[int, str | None] = {n: lab.job_of(f"{call}.{n}") for n in range(len(full))}
    why: dict[int, str] = {}  # a config has no job

    def start(n: int, allowed: float) -> str:
        about = f"{idea} ({', '.join(f'{name} = {value}' for name, value in changes[n].items())})"
        return lab.train(recipe, given[n], allowed, about, f"{call}.{n}", gain, kill)["job"]

    if jobs[0] is None:
        allowed = shares(lab, recipe, full, hours)
        if len(allowed) < len(full):
            what = f"{len(full)} configs and their evaluations do not fit into the time that is left"
            raise Refused(f"{what}; {len(allowed)} of them would. Leave some out, or make them shorter.")
        jobs[0] = start(0, allowed[0])
    first = ended(lab, jobs[0])
    if first.state != "done":
        why_not = f"The first config, {first.id}, was tested alone and did not come to its end ({first.state}"
        raise Refused(f"{why_not}: {first.ended.reason if first.ended else ''}); the others were not started.")
    rest = [n for n, job in jobs.items() if job is None]
    allowed = shares(lab, recipe, [full[n] for n in rest], hours, first)
    for n, most in zip(rest, allowed, strict=False):
        try:
            jobs[n] = start(n, most)
        except LabError as error:
            why[n] = str(error)
    why |= dict.fromkeys(rest[len(allowed) :], "not started: it does not fit into the time that is left")
    over = {n: ended(lab, job) for n, job in jobs.items() if job}
    rows = []
    ...
