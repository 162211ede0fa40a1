"""What tools hold: the verbs of an experiment. What must not be skipped happens inside them.

Every verb that starts something is told the id of the call that asked for it, and may be called again with the same id
after a crash: nothing is then started twice.
"""

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lab import data, guards, peaks, script, shown
from lab.backend import Backend, Machine
from lab.backends.folder import log_tail
from lab.clock import Estimate, Room, estimate, room
from lab.demand import demand, space_of
from lab.disk import REMOVED
from lab.ending import too_early, unfinished
from lab.errors import BadInput, LabError, NotThere, Refused
from lab.findings import Finding
from lab.forecast import expectation
from lab.hub import Hub, Token
from lab.integrity import Index
from lab.judge import same, score_of, seal_of, verdict_on
from lab.machine import machine_here, this_machine
from lab.models import config_of, parameters, sizes, token_counter, where
from lab.place import Wait, choose
from lab.preflight import preflight, wrong_columns
from lab.publish import Press, What
from lab.supervisor import found, spec_of
from lab.tasks import Vault, read_rows, rows_hash, write_rows
from lab.wording import wording
from lab.workspace import Workspace
from recipes.benchmarks import Split
from recipes.catalogue import RECIPES  # what `train` may run; `evaluate` is the judge's and runs through `measure` only
from recipes.grace import LONGEST
from recipes.job import problems
from recipes.memory import Shape
from record.events import Event, Expectation, Launched, Noted
from record.journal import Journal
from record.log import Log
from record.views import Job, Views

EVAL_HOURS = 1.0
PATIENCE = 24 * 3600.0  # seconds a verb waits for its own evaluation; the job's hours end it long before


class Lab:
    """One session's experiments. Not thread-safe: one agent holds it."""

    def __init__(
        self, log: Log, folder: Path, backend: Backend, vault: Vault, env: Mapping[str, str], check: Callable[[], None],
        token: Token = None,
    ):  # fmt: skip
        """`folder` is the session's; `check` raises when the session must stop and is called wherever a verb waits.

        `token` is the person's, for reading models of the Hub; nothing that the lab starts gets it.
        """
        self.folder = folder
        self.workspace = Workspace(folder / "workspace", env)
        self._env = env
        self._token = token
        self._hub = Hub(folder.parent.parent / "models", token, env)
        self.check = check
        self._journal = Journal(log)
        self._backend = backend
        self._vault = vault

    @property
    def log(self) -> Log:
        return self._journal.log

    def reader(self) -> "Lab":
        """Another lab on the same session, for another thread."""
        return Lab(self.log, self.folder, self._backend, self._vault, self._env, self.check, self._token)

    @property
    def views(self) -> Views:
        return self._journal.views

    def tell(self, *facts: Event) -> None:
        """Append what a tool has to say itself, once: a call that a restart runs again says nothing twice."""
        replied = self.views.replied
        since = self.log[replied.seq :] if replied else []
        said = [fact.model_dump(exclude={"seq", "at"}) for fact in since]
        self._journal.append(*(fact for fact in facts if fact.model_dump(exclude={"seq", "at"}) not in said))

    def check_finished(self) -> None:
        """Raise Refused while a job runs, the best model has no held-out score, or another idea would fit (see lab.ending)."""
        if why := unfinished(self.views) or too_early(self.views, self.log, self.room()):
            raise Refused(why)

    # Data

    def audit(self) -> dict[str, Any]:
        """What there is to train on (see lab.data.audit); noted for the report."""
        result = data.audit(self.views.goal.task, self._own_rows(), self._index(), self._seed())
        result["model_parameters"] = parameters(where(self.views.goal.model))
        self.tell(Noted(topic="data", text=f"Audited {', '.join(result['sources'])} rows.", details=result))
        return result

    def prepare(self, name: str, source: str, rows: int, worked: float) -> dict[str, Any]:
        """A clean training file in the workspace (see lab.data.prepare); noted for the report."""
        path = self.workspace.path(f"data/{name}.jsonl")
        task, own, index = self.views.goal.task, self._own_rows(), self._index()
        made = data.prepare(path, task, own, source, rows, worked, index, self._seed())
        made = {"file": f"data/{name}.jsonl", **made}
        self.tell(Noted(topic="data", text=f"Prepared {made['file']}: {made['rows']} rows.", details=made))
        return made

    # Jobs

    def train(
        self, recipe: str, config: dict[str, Any], hours: float, idea: str, call: str,
        gain: float, kill: dict[str, Any] | None = None, machine: str = "auto",
    ) -> dict[str, Any]:  # fmt: skip
        """Preflight a training job and launch it; returns at once. `config["data"]` is a file of the workspace.

        Args:
            gain: The change of the dev score against the best so far that is expected of it, from -1 to 1.
            kill: {"metric", "step", "above"}: the job is ended when the metric's first value from that step on is above.
            machine: As lab.place takes it.

        Raises:
            BadInput: An unknown recipe, model, file or machine; a forecast that cannot be.
            Refused: A stop finding; it says which.
        """
        if job := self.job_of(call):
            return shown.status(job, self.folder)
        if not 0 < hours < inf:
            raise BadInput(f"{hours:g} hours is no time to train in; give more than 0.")
        name = self._next(recipe)
        full = self.checked(recipe, config)
        place = self.place(machine, recipe, full, hours, call)
        full |= {"trackio_project": self.views.opened.session, "trackio_run": name}  # type: ignore[union-attr]
        rows, source = read_rows(Path(full["data"])), script.read(full)
        left = self.room(place)
        takes, count = self.estimate(recipe, full, rows, place.name), token_counter(full["model"])
        expects = expectation(gain, kill, takes.seconds / 3600 if takes else None)
        free, space = shutil.disk_usage(self.folder).free, space_of(full, self._hub, place, peaks.look(self.folder))
        asked, kind = wording(self.views.goal.task, full["model"], self._hub), RECIPES[recipe]
        findings = preflight(rows, full, self._index(), count, free, left, takes, kind, space, hours, asked)
        models = {name: full[name] for name in ("model", "teacher") if full.get(name)}
        findings += [finding for model in set(models.values()) for finding in self._hub.look(model)]
        findings += script.look(source, self._index())
        hashes = {"data_sha256": rows_hash(rows)} | script.hashed(source)
        findings += guards.look(self.folder, guards.about(recipe, full | hashes, self.views.goal.model, place.name))
        self._refuse(findings)
        if place.here:  # a rented machine has them mounted
            full |= {name: str(self._hub.fetch(model)) for name, model in models.items()}
        folder = self.folder / "jobs" / name
        try:  # files of the workspace may change: what was checked is what is trained on
            write_rows(folder / "data.jsonl", rows)
            full |= {"data": str(folder / "data.jsonl")} | hashes | script.keep(source, folder)
        except OSError as error:
            raise LabError(f"The training rows could not be stored ({error.strerror}); free some disk.") from error
        allowed = hours if left is None else min(hours, left.free / 3600)
        return shown.status(self._launch(name, recipe, full, allowed, idea, call, place, expects), self.folder)

    def checked(self, recipe: str, config: dict[str, Any]) -> dict[str, Any]:
        """The settings that a job would be launched with, whole paths in them. Raises BadInput or NotThere."""
        if recipe not in RECIPES:
            raise BadInput(f"There is no recipe {recipe!r} to train with; use one of {', '.join(RECIPES)}.")
        given = self.workspace.path(str(config.get("data", "")))
        model = self.model_path(config.get("model", "base"))
        full = {"seed": self._seed(), **config, "model": str(model), "data": str(given)}
        return _checked(RECIPES[recipe], full | self._named(recipe, config))

    def place(
        self, asked: str, recipe: str, config: dict[str, Any], hours: float = EVAL_HOURS, call: str = ""
    ) -> Machine:
        """The machine of a job (see lab.place). Raises LabError."""
        device = config.get("device", "auto")
        here = machine_here(self._backend.price, device)
        dollars = self.views.free_dollars(datetime.now(UTC)) if device == "auto" else None

        def shape() -> Shape | None:
            return sizes(config_of(config["model"], self._hub) or {})

        needs, starved = demand(recipe, config, peaks.look(self.folder), shape), set[str]()
        if recipe in RECIPES:
            known = config | {"data_sha256": rows_hash(read_rows(Path(config["data"])))}
            starved = guards.starved(self.folder, guards.about(recipe, known, self.views.goal.model, here.name))
        wait = self._wait(recipe, config, hours, call) if asked == "auto" and dollars is not None else Wait()
        return choose(asked, needs, here, self._backend.machines, dollars, hours, wait, starved)

    def _wait(self, recipe: str, config: dict[str, Any], hours: float, call: str) -> Wait:
        """What a training job would have before it here. Raises LabError for rows that cannot be read."""
        left, said = self.views.left_s(datetime.now(UTC)), self.views.asked.get(call.partition(".")[0])
        here = said is not None and (said.dollars or 0.0) <= (self.cost(hours) or 0.0)  # as the person has allowed it
        queue = self._backend.waits(self.folder) if left is not None and recipe in RECIPES and not here else 0.0
        if not queue:
            return Wait(queue)
        takes = self.estimate(recipe, config, read_rows(Path(config["data"])))
        return Wait(queue, takes.seconds if takes else None, left)

    def room(self, machine: Machine | None = None) -> Room | None:
        """The time that one more training job may use now, on this machine unless it is another; None without a cap."""
        price = machine.price if machine else self._backend.price(this_machine())
        return room(self.views, datetime.now(UTC), price, machine is not None and not machine.here)

    def cost(self, hours: float, machine: Machine | None = None) -> float | None:
        """Dollars that training for so long costs at most; no more time is given than is left. None where nobody knows the price."""
        left = self.room(machine)
        most = hours if left is None else min(hours, max(0.0, left.free) / 3600)
        price = machine.price if machine else self._backend.price(this_machine())
        return price and price * most

    def estimate(
        self, recipe: str, config: dict[str, Any], rows: list[dict], machine: str | None = None
    ) -> Estimate | None:
        """How long a training job will take, by this session's jobs of the same recipe on such a machine; None where nobody knows."""
        if not rows or recipe == "script" or wrong_columns(rows, config, RECIPES[recipe]):
            return None
        count = token_counter(config["model"])
        defaults = RECIPES[recipe].full({})
        if recipe != "sft":  # tokens a step depend on what is sampled or compared: rows and lengths must do
            rows, count = rows * config.get("generations", defaults.get("generations", 1)), None
        machine = machine or this_machine(config.get("device", "auto"))
        return estimate(config, defaults, rows, count, (job for job in self._jobs_of(recipe) if job.machine == machine))

    def wait(self, job: str, seconds: float) -> dict[str, Any]:
        """Wait until a job ends, a new warning is found on it, or `seconds` are over; then say how it stands."""
        before = _serious(self._job(job))
        self._journal.wait(
            lambda views: not views.jobs[job].running or _serious(views.jobs[job]) > before, seconds, self.check
        )
        return shown.status(self._job(job), self.folder)

    def cancel(self, job: str) -> dict[str, Any]:
        """Save and stop a job, and wait until it has."""
        if self._job(job).running:
            self._backend.cancel(self.folder / self._job(job).folder)
            self._journal.wait(lambda views: not views.jobs[job].running, LONGEST + 15, self.check)
        return shown.status(self._job(job), self.folder)

    def cancel_all(self) -> None:
        """Ask every running job to save and stop; does not wait."""
        for job in self.views.running:
            self._backend.cancel(self.folder / job.folder)

    def log_tail(self, job: str, chars: int = 4000) -> str:
        return log_tail(self.folder / self._job(job).folder, chars)

    # Judging

    def measure(self, model: str, split: Split, call: str) -> dict[str, Any]:
        """A sealed evaluation of "base", "best" or a job's model on "dev" or "heldout"; waits for it.

        The same model, judge and items are measured once: asking again returns the score there is. Items of the
        held-out split are never shown; of the dev split a few failures are.

        Raises:
            BadInput: An unknown model or split.
            LabError: The evaluation failed, or its seal does not hold.
        """
        if split not in ("dev", "heldout"):
            raise BadInput(f"There is no split {split!r}; measure on dev while you choose, on heldout at the end.")
        name = self.views.best if model == "best" else model
        if split == "heldout" and name not in ("base", self.views.best):
            raise Refused(
                f"{name} is not the best model; held-out items choose nothing: promote it by its dev score first."
            )
        path, task = self.model_path(name), self.views.goal.task
        items = self._vault.items(task, split)
        seal = seal_of(task, items, path)
        known = self.views.score(name, split)
        if known and same(known.seal, seal):
            return shown.measured(known, self.folder)
        job = self.job_of(call)
        if job is None:
            self._refuse(self._hub.look(path))
            config = {"model": str(path), "benchmark": task, "items": str(items), "split": split, "seed": 0}
            place, hours = self.judge(name)
            if hours <= 0:
                raise Refused(f"{place.name} would have to measure it, and no dollars are left to pay for that.")
            if place.here:
                config["model"] = str(self._hub.fetch(path))
            job = self._launch(self._next("evaluate"), "evaluate", config, hours, f"{name} on {split}", call, place)
        self._journal.wait(lambda views: not views.jobs[job.id].running, PATIENCE, self.check)
        if not any(score.job == job.id for score in self.views.scores):  # a restart may have come after it
            self._journal.append(score_of(self._job(job.id), self.folder, name, self.views.goal.metric, seal))
        score = next(score for score in self.views.scores if score.job == job.id)
        return shown.measured(score, self.folder)

    def judge(self, model: str) -> tuple[Machine, float]:
        """Where a model would be measured, and for how many hours at most. Raises LabError."""
        place = self.place("auto", "evaluate", {"model": str(self.model_path(model))})
        left = None if place.here else self.room(place)
        return place, EVAL_HOURS if left is None else min(EVAL_HOURS, (left.left - left.taken) / 3600)

    def promote(self, model: str, idea: str) -> dict[str, Any]:
        """Keep a candidate as the new best if it beats the best on the same dev items, else discard it; and say why.

        Raises:
            NotThere: The candidate or the best has no sealed dev score yet.
        """
        past = next((p for p in self.views.promotions if p.model == model), None)
        if past is None:
            self._journal.append(verdict_on(self._job(model), idea, self.views, self.folder))
            past = self.views.promotions[-1]
        return shown.judged(past, self.views.best)

    def publish(self, what: What, model: str = "best", to: str = "", public: bool = False) -> dict[str, Any]:
        """Put a model, its rows or the report on the Hub (see lab.publish.Press)."""
        return Press(self._journal, self.folder, self._vault, self._hub, self.model_path).publish(
            what, model, to, public
        )

    def model_path(self, name: str) -> Path | str:
        """Where a model is: "base", "best", or the job that trained it. A Hub id stays one. Raises NotThere."""
        name = self.views.best if name == "best" else name
        if name == "base":
            return where(self.views.goal.model)
        job = self._job(name)
        path = self.folder / job.folder / "model"
        if any(fact.rule == REMOVED for fact in job.findings):
            raise NotThere(
                f"The model of {name} was discarded, and removed to make room; train it again, or use another."
            )
        if job.running or not (path / "config.json").exists():
            raise NotThere(f"{name} has no model yet (it is {job.state}); wait for it, or use another.")
        return path

    def _launch(
        self, name: str, recipe: str, config: dict[str, Any], hours: float, idea: str, call: str, place: Machine,
        expects: Expectation | None = None,
    ) -> Job:  # fmt: skip
        """Log first, then start: after a crash between the two, the supervisor starts what the log says."""
        fact = Launched(
            job=name, recipe=recipe, config=config, machine=place.name, hours=hours, idea=idea,
            call=call, expects=expects, folder=f"jobs/{name}", price=place.price,
            revisions={} if place.here else self._hub.revisions(config),
        )  # fmt: skip
        self._journal.append(fact)
        job = self._job(name)
        self._backend.launch(spec_of(job, self.folder))
        return job

    def _refuse(self, findings: list[Finding]) -> None:
        """Write findings down. Raises Refused for the first that is a stop."""
        self._journal.append(*(found(finding) for finding in findings))
        if stop := next((finding for finding in findings if finding.level == "stop"), None):
            raise Refused(f"{stop.what} {stop.advice}")

    def _named(self, recipe: str, config: dict[str, Any]) -> dict[str, Any]:
        """The session's task as a recipe's benchmark, the folder of a job's model as its teacher, the workspace's script."""
        fields = RECIPES[recipe].model_fields
        named = {"benchmark": self.views.goal.task} if "benchmark" in fields else {}
        if "script" in fields and "script" in config:
            named["script"] = str(self.workspace.path(str(config["script"])))
        return named | ({"teacher": str(self.model_path(config["teacher"]))} if config.get("teacher") else {})

    def _job(self, name: str) -> Job:
        job = self.views.jobs.get(name)
        if job is None:
            raise NotThere(f"There is no job {name!r}; there are: {', '.join(self.views.jobs) or 'none'}.")
        return job

    def job_of(self, call: str) -> Job | None:
        """The job that a call has launched."""
        return next((job for job in self.views.jobs.values() if call and job.call == call), None)

    def _jobs_of(self, recipe: str) -> list[Job]:
        return [job for job in self.views.jobs.values() if job.recipe == recipe]

    def _next(self, recipe: str) -> str:
        """The name of a recipe's next job."""
        return f"{recipe}-{len(self._jobs_of(recipe)) + 1}"

    def _index(self) -> Index:
        return self._vault.index(self.views.goal.task)

    def _own_rows(self) -> Path | None:
        opened = self.views.opened
        return Path(opened.data) if opened and opened.data else None

    def _seed(self) -> int:
        return self.views.opened.seed if self.views.opened else 0


def _serious(job: Job) -> int:
    """How many findings on a job are more than information."""
    return sum(found.level != "info" for found in job.findings)


def _checked(recipe: type[BaseModel], config: dict[str, Any]) -> dict[str, Any]:
    """A recipe's settings in their own types. Raises BadInput, naming what is wrong."""
    try:
        return recipe.model_validate(config).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise BadInput(f"The config cannot be used ({problems(error)}); change it and call train again.") from error
