"""What a finding has offered to try, taken up by the name of its job: that job again, with one change in each run."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab.backend import own_file
from lab.errors import LabError, NotThere, Refused
from lab.lab import Lab
from lab.ladder import OFFER
from record.views import Job

# What a job was given as a file, and its name in the workspace, where it takes nothing's place before a person agrees.
FILES = {"data": "offered/{}.jsonl", "script": "offered/{}.py"}
SET_BY_LAB = ("trackio_project", "trackio_run", "data_sha256", "script_sha256")  # anew for each launch


@dataclass(frozen=True)
class Offer:
    """The arguments of a sweep."""

    recipe: str
    base: dict[str, Any]  # the job's settings
    configs: list[dict[str, Any]]  # the same, with one change each
    hours: float  # of each
    idea: str
    gain: float
    kill: dict[str, Any] | None


def accept(lab: Lab, name: str) -> Offer:
    """The offer of a job: its own recipe, settings, rows, hours and forecast, with each change that was offered.

    The rows that it was launched with become a file of the workspace again, as `train` wants them. Safe to repeat.

    Raises:
        NotThere: There is no such job.
        Refused: Nothing was offered on it, or its rows are no longer those that it was launched with.
    """
    job = lab.views.jobs.get(name)
    if job is None:
        raise NotThere(f"There is no job {name!r}; there are: {', '.join(lab.views.jobs) or 'none'}.")
    found = next((one for one in reversed(job.findings) if one.evidence.get(OFFER)), None)
    if found is None:
        raise Refused(f"Nothing was offered on {name}; give config, and vary or configs, instead.")
    base = {setting: value for setting, value in job.config.items() if setting not in SET_BY_LAB}
    base |= {setting: _named(lab, base[setting]) for setting in ("model", "teacher") if base.get(setting)}
    base |= {setting: _given(lab, job, setting) for setting in FILES if setting in base}
    said = job.expects
    kill = said and said.kill_metric and {"metric": said.kill_metric, "step": said.kill_step, "above": said.kill_above}
    idea = f"{found.rule.replace('_', ' ').capitalize()} in {name}: does one change prevent it?"
    configs, gain = [base | change for change in found.evidence[OFFER]], said.delta if said else 0.0
    return Offer(job.recipe, base, configs, job.hours, idea, gain, kill or None)


def _named(lab: Lab, model: str) -> str:
    """What `train` calls the model of a job's config: a folder on the machine that it ran on, or a Hub id."""
    if model == str(lab.model_path("base")):
        return "base"
    *_, folder, name, end = ("", "", *Path(model).parts)
    return name if (folder, end) == ("jobs", "model") and name in lab.views.jobs else "base"


def _given(lab: Lab, job: Job, setting: str) -> str:
    """A file that the job was launched with, put back into the workspace; its folder is its trainer's to write."""
    path = lab.folder / job.folder / Path(job.config[setting]).name
    try:
        with own_file(path, os.O_RDONLY) as file:
            content = file.read()
    except OSError as error:
        raise LabError(f"The {setting} of {job.id} cannot be read ({error.strerror or error}).") from error
    if sha256(content).hexdigest() != job.config.get(f"{setting}_sha256"):
        raise Refused(f"The {setting} of {job.id} is not what it was launched with; prepare it again, and use configs.")
    name = FILES[setting].format(job.id)
    lab.workspace.write(name, content.decode())
    return name
