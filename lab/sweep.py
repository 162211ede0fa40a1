"""One recipe with several settings: the first is tested alone, the others follow, all are measured on dev and compared.

Nothing is promoted. All of it may be called again with the same call id: each config is a job of its own, known by that
id and its place, and so is each evaluation.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from lab.clock import MARGIN, evaluation_s
from lab.contrast import against, differences, measured, noise
from lab.errors import BadInput, LabError, Refused
from lab.lab import PATIENCE, Lab
from lab.tasks import read_rows
from record.events import Noted
from record.views import Job

MOST = 16  # configs of one sweep: each costs an evaluation, and the best of many is mostly luck [H]
COLLAPSE = "reward_collapse"  # a rule: what this config's reward did says nothing of the others
TOO_LATE = "not started: it does not fit into the time that is left"

Config = dict[str, Any]


def sweep(
    lab: Lab, recipe: str, given: Sequence[Config], hours: float, idea: str, call: str, gain: float, kill: Config | None,
    base: Config | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train with each config, measure it on dev, and say what differs; returns when all is over.

    Args:
        hours: For each job at most; less where its share of what is left is less.
        gain: And `kill`: as `Lab.train` takes them, for every config.
        base: The settings of an earlier job: what differs from them is told, too.

    Raises:
        BadInput: A config that cannot be used, or that stands there twice.
        Refused: They do not all fit into the time that is left, or the first has not come to its end.
    """
    full = [lab.checked(recipe, config) for config in given]
    if twin := next((n for n, one in enumerate(full) if one in full[:n]), None):
        raise BadInput(f"Config {twin + 1} stands there twice; give it another seed, or leave it out.")
    seeded = [one | {"seed": whole["seed"]} for one, whole in zip(given, full, strict=True)]
    changes = differences([*([base] if base else []), *seeded])[-len(given) :]

    def start(place: int, most: float) -> str:
        about = ", ".join(f"{name} = {value}" for name, value in changes[place].items())
        return lab.train(recipe, given[place], most, f"{idea} ({about})", f"{call}.{place}", gain, kill)["job"]

    jobs = {place: job.id for place in range(len(full)) if (job := lab.job_of(f"{call}.{place}"))}
    if 0 not in jobs:
        allowed = shares(lab, recipe, full, hours)
        if len(allowed) < len(full):
            what = f"{len(full)} configs and their evaluations do not fit into the time that is left"
            raise Refused(f"{what}; {len(allowed)} would. Leave some out, or make them shorter.")
        jobs[0] = start(0, allowed[0])
    first = ended(lab, jobs[0])
    if first.ended and first.state != "done" and not any(found.rule == COLLAPSE for found in first.findings):
        what = f"The first config, tested alone as {first.id}, has not come to its end ({first.state}"
        raise Refused(f"{what}: {first.ended.reason}), so the others were not started.")
    rest = [place for place in range(len(full)) if place not in jobs]
    allowed = shares(lab, recipe, [full[place] for place in rest], hours, first)
    why = dict.fromkeys(rest[len(allowed) :], TOO_LATE)
    for place, most in zip(rest, allowed, strict=False):
        try:
            jobs[place] = start(place, most)
        except LabError as error:
            why[place] = f"not started: {error}"
    over = {place: ended(lab, job) for place, job in sorted(jobs.items())}
    rows: list[Config] = []
    for place, changed in enumerate(changes):
        row = measured(lab, over[place], f"{call}.{place}.dev") if place in over else {"problem": why[place]}
        rows.append({"config": changed} | row)
    seeds = noise(full, rows)
    scores = ", ".join(f"{row['job']} {row['dev']:.3f}" for row in rows if "dev" in row) or "none"
    lab.tell(Noted(topic="sweep", text=f"{idea} Dev scores of {len(rows)} configs: {scores}. {seeds}"))
    return {"configs": [row | against(lab, row, rows[0]) for row in rows], "noise": seeds}


def spread(base: Config, vary: Mapping[str, Any] | None, configs: Sequence[Config] | None) -> list[Config]:
    """Every combination of the values in `vary`, or each of `configs`, over the shared settings. Raises BadInput."""
    if bool(vary) == bool(configs):
        raise BadInput('Give either vary, e.g. {"lr": [0.001, 0.003]}, or configs, a list of changes.')
    for name, values in (vary or {}).items():
        if not isinstance(values, list) or not values:
            raise BadInput(f"vary has {values!r} for {name}; give a list of values to try.")
    grid = [dict(zip(vary, values, strict=True)) for values in product(*vary.values())] if vary else configs or []
    if not 2 <= len(grid) <= MOST:
        raise BadInput(f"There are {len(grid)} configs; a sweep compares 2 to {MOST}.")
    return [base | change for change in grid]


def shares(lab: Lab, recipe: str, configs: Sequence[Config], hours: float, first: Job | None = None) -> list[float]:
    """Hours that each of these jobs may use, for as many of them, in order, as fit with an evaluation each.

    A job needs its estimate with the MARGIN; without one what `first` took, and nothing is known before that. What no
    job needs is shared out evenly.
    """
    left = lab.room()
    if left is None or not configs:
        return [hours] * len(configs)
    files = {path: read_rows(Path(path)) for path in {config["data"] for config in configs}}
    takes = [lab.estimate(recipe, config, files[config["data"]]) for config in configs]
    known = [one.seconds if one else first.seconds if first else 0.0 for one in takes]
    needs = [min(hours * 3600, MARGIN * seconds) for seconds in known]
    dev = evaluation_s(lab.views, "dev")  # of one `left` has kept the time; the first job's own comes on top

    def free(jobs: int) -> float:
        return left.free - sum(needs[:jobs]) - dev * (jobs if first else jobs - 1)

    fit = max((jobs for jobs in range(1, len(needs) + 1) if free(jobs) > 0), default=0)
    return [min(hours, (need + free(fit) / fit) / 3600) for need in needs[:fit]]


def ended(lab: Lab, job: str) -> Job:
    """The job, once it is over; findings on the way are in the log."""
    while lab.views.jobs[job].running:
        lab.wait(job, PATIENCE)
    return lab.views.jobs[job]
