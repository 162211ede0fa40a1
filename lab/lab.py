"""What tools hold: the verbs of an experiment. What must not be skipped happens inside them.

Every verb that starts something is told the id of the call that asked for it, and may be called again with the same id
after a crash: nothing is then started twice.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lab import data, forecast
from lab.backend import Backend, read_json
from lab.clock import Count, Estimate, Room, estimate, room
from lab.ending import too_early
from lab.errors import BadInput, LabError, NotThere, Refused
from lab.grade import paired, verdict, wilson
from lab.machine import this_machine
from lab.models import parameters, token_counter, where
from lab.preflight import preflight, wrong_columns
from lab.supervisor import found, spec_of
from lab.tasks import Vault, read_rows, write_rows
from lab.workspace import Workspace
from recipes.benchmarks import Split
from recipes.catalogue import RECIPES  # what `train` may run; `evaluate` is the judge's and runs through `measure` only
from recipes.job import problems
from recipes.seal import file_hash, judge_hash, model_hash
from record.events import Event, Expectation, Launched, Noted, Promoted, Scored, Seal
from record.journal import Journal
from record.log import Log
from record.views import Job, Views

EVAL_HOURS = 1.0
PATIENCE = 24 * 3600.0  # seconds a verb waits for its own evaluation; the job's hours end it long before


class Lab:
    """One session's experiments. Not thread-safe: one agent holds it."""

    def __init__(
        self, log: Log, folder: Path, backend: Backend, vault: Vault, env: Mapping[str, str], check: Callable[[], None]
    ):
        """`folder` is the session's; `check` raises when the session must stop and is called wherever a verb waits."""
        self.folder = folder
        self.workspace = Workspace(folder / "workspace", env)
        self._env = env
        self.check = check
        self._journal = Journal(log)
        self._backend = backend
        self._vault = vault

    @property
    def log(self) -> Log:
        return self._journal.log

    def reader(self) -> "Lab":
        """Another lab on the same session, for another thread."""
        return Lab(self.log, self.folder, self._backend, self._vault, self._env, self.check)

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
        views = self.views
        if views.running:
            raise Refused(f"The job {views.running[0].id} still runs; wait for it or cancel it first.")
        measured = [job for job in views.jobs.values() if job.recipe == "evaluate" and job.ended]
        broken = measured and measured[-1].ended and measured[-1].ended.state != "done"  # nothing more can be measured
        if views.score(views.best, "heldout") is None and not broken:
            raise Refused(f"The best model ({views.best}) has no held-out score yet; evaluate it on heldout first.")
        if why := too_early(views, self.log, datetime.now(UTC)):
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
        gain: float, kill: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Preflight a training job and launch it; returns at once. `config["data"]` is a file of the workspace.

        Args:
            gain: The change of the dev score against the best so far that is expected of it, from -1 to 1.
            kill: {"metric", "step", "above"}: the job is ended when the metric's first value from that step on is above.

        Raises:
            BadInput: An unknown recipe, model or file; a forecast that cannot be.
            Refused: A stop finding; it says which.
        """
        if job := self._job_of(call):
            return self._status(job)
        if recipe not in RECIPES:
            raise BadInput(f"There is no recipe {recipe!r} to train with; use one of {', '.join(RECIPES)}.")
        if not hours > 0:
            raise BadInput(f"{hours:g} hours is no time to train in; give more than 0.")
        name = f"{recipe}-{sum(1 for job in self.views.jobs.values() if job.recipe == recipe) + 1}"
        given = self.workspace.path(str(config.get("data", "")))
        model = self.model_path(config.get("model", "base"))
        full = {"seed": self._seed(), **config, "model": str(model), "data": str(given)}
        full |= {"trackio_project": self.views.opened.session, "trackio_run": name}  # type: ignore[union-attr]
        full = _checked(RECIPES[recipe], full | self._named(recipe, config))
        rows = read_rows(given)
        left = room(self.views, datetime.now(UTC))
        count = token_counter(full["model"])
        takes = self._estimate(recipe, full, rows, count)
        expects = forecast.expectation(gain, kill, takes.seconds / 3600 if takes else None)
        self._preflight(recipe, rows, full, count, left, takes)
        # the file in the workspace may change: what was checked is what is trained on
        data = self.folder / "jobs" / name / "data.jsonl"
        try:
            write_rows(data, rows)
        except OSError as error:
            raise LabError(f"The training rows could not be stored ({error.strerror}); free some disk.") from error
        full |= {"data": str(data), "data_sha256": file_hash(data)}
        allowed = hours if left is None else min(hours, left.free / 3600)
        return self._status(self._launch(name, recipe, full, allowed, idea, call, expects))

    def wait(self, job: str, seconds: float) -> dict[str, Any]:
        """Wait until a job ends, a new warning is found on it, or `seconds` are over; then say how it stands."""
        before = len(self._serious(self._job(job)))
        self._journal.wait(
            lambda views: not views.jobs[job].running or len(self._serious(views.jobs[job])) > before,
            seconds,
            self.check,
        )
        return self._status(self._job(job))

    def cancel(self, job: str) -> dict[str, Any]:
        """Save and stop a job, and wait until it has."""
        if self._job(job).running:
            self._backend.cancel(spec_of(self._job(job), self.folder).folder)
            self._journal.wait(lambda views: not views.jobs[job].running, 30, self.check)
        return self._status(self._job(job))

    def cancel_all(self) -> None:
        """Ask every running job to save and stop; does not wait."""
        for job in self.views.running:
            self._backend.cancel(spec_of(job, self.folder).folder)

    def log_tail(self, job: str, chars: int = 4000) -> str:
        return self._backend.log_tail(spec_of(self._job(job), self.folder).folder, chars)

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
        seal = Seal(judge=judge_hash(task), split=file_hash(items), model=_model_hash(path))
        known = self.views.score(name, split)
        if known and _same(known.seal, seal):
            return self._shown(known)
        job = self._job_of(call)
        if job is None:
            number = sum(1 for j in self.views.jobs.values() if j.recipe == "evaluate") + 1
            config = {"model": str(path), "benchmark": task, "items": str(items), "split": split, "seed": 0}
            job = self._launch(f"evaluate-{number}", "evaluate", config, EVAL_HOURS, f"{name} on {split}", call)
        self._journal.wait(lambda views: not views.jobs[job.id].running, PATIENCE, self.check)
        return self._shown(self._score(self._job(job.id), name, split, seal))

    def promote(self, model: str, idea: str) -> dict[str, Any]:
        """Keep a candidate as the new best if it beats the best on the same dev items, else discard it; and say why.

        Raises:
            NotThere: The candidate or the best has no sealed dev score yet.
        """
        past = next((p for p in self.views.promotions if p.model == model), None)
        if past:
            return self._judged(past)
        job, best = self._job(model), self.views.best
        words: dict[str, Any] = {"idea": idea or job.idea, "expected": job.expects.delta if job.expects else None}
        if job.ended and job.ended.state != "done" and self.views.score(model, "dev") is None:
            ended = job.ended
            own = ended.state in ("cancelled", "timeout")  # somebody wanted it so: it did not break
            reason = f"{ended.state} before it was done, and not measured" if own else ended.reason
            fact = Promoted(model=model, verdict="discard" if own else "crash", against=best, reason=reason, **words)
            return self._judged(self._append(fact))
        candidate, champion = (self._correct(name) for name in (model, best))
        seals = [score.seal for name in (model, best) if (score := self.views.score(name, "dev"))]
        if len({(seal.judge, seal.split) for seal in seals}) > 1:
            raise Refused(
                f"{model} and {best} were measured by another judge or on other items; measure {best} on dev again."
            )
        compared = paired(candidate, champion)
        kept, reason = verdict(compared)
        fact = Promoted(
            model=model, verdict=kept, against=best, reason=reason,
            delta=compared.delta, low=compared.low, high=compared.high, p=compared.p, **words,
        )  # fmt: skip
        return self._judged(self._append(fact))

    def model_path(self, name: str) -> Path | str:
        """Where a model is: "base", "best", or the job that trained it. A Hub id stays one. Raises NotThere."""
        name = self.views.best if name == "best" else name
        if name == "base":
            return where(self.views.goal.model)
        job = self._job(name)
        path = self.folder / job.folder / "model"
        if job.running or not (path / "config.json").exists():
            raise NotThere(
                f"{name} has no model yet (it is {self._status(job)['state']}); wait for it, or use another."
            )
        return path

    def _append(self, fact: Promoted) -> Promoted:
        self._journal.append(fact)
        return self.views.promotions[-1]

    def _launch(
        self, name: str, recipe: str, config: dict[str, Any], hours: float, idea: str, call: str,
        expects: Expectation | None = None,
    ) -> Job:  # fmt: skip
        """Log first, then start: after a crash between the two, the supervisor starts what the log says."""
        fact = Launched(
            job=name, recipe=recipe, config=config, machine=this_machine(), hours=hours, idea=idea,
            call=call, expects=expects, folder=f"jobs/{name}",
        )  # fmt: skip
        self._journal.append(fact)
        job = self._job(name)
        self._backend.launch(spec_of(job, self.folder))
        return job

    def _named(self, recipe: str, config: dict[str, Any]) -> dict[str, Any]:
        """The session's task as a recipe's benchmark, and the folder of a job's model as its teacher."""
        named = {"benchmark": self.views.goal.task} if "benchmark" in RECIPES[recipe].model_fields else {}
        return named | ({"teacher": str(self.model_path(config["teacher"]))} if config.get("teacher") else {})

    def _preflight(
        self, recipe: str, rows: list[dict], config: dict[str, Any],
        count: Count | None, left: Room | None, takes: Estimate | None,
    ) -> None:  # fmt: skip
        free = shutil.disk_usage(self.folder).free
        findings = preflight(rows, config, self._index(), count, free, left, takes, RECIPES[recipe])
        facts: list[Event] = [found(finding) for finding in findings]
        if facts:
            self._journal.append(*facts)
        if stop := next((f for f in findings if f.level == "stop"), None):
            raise Refused(f"{stop.what} {stop.advice}")

    def _estimate(self, recipe: str, config: dict[str, Any], rows: list[dict], count: Count | None) -> Estimate | None:
        """How long a training job will take, by this session's jobs of the same recipe."""
        defaults = {name: field.default for name, field in RECIPES[recipe].model_fields.items()}
        past = [job for job in self.views.jobs.values() if job.recipe == recipe]
        if not rows or wrong_columns(rows, config, RECIPES[recipe]):
            return None
        if recipe != "sft":  # tokens a step depend on what is sampled or compared: rows and lengths must do
            rows, count = rows * config.get("generations", defaults.get("generations", 1)), None
        return estimate(config, defaults, rows, count, past)

    def _score(self, job: Job, model: str, split: Split, seal: Seal) -> Scored:
        """The score of a finished evaluation, if its seal holds; appended once."""
        if done := next((s for s in self.views.scores if s.job == job.id), None):
            return done
        folder = self.folder / job.folder
        result = read_json(folder / "result.json")
        if not job.ended or job.ended.state != "done" or not result.get("ok"):
            raise LabError(f"The evaluation {job.id} failed: {job.ended.reason if job.ended else 'it did not end'}.")
        sealed = Seal(**result["seal"])
        if not _same(sealed, seal) or file_hash(folder / "items.jsonl") != result["items_sha256"]:
            raise Refused(
                f"The seal of {job.id} does not hold: judge, items or model changed meanwhile. Measure again."
            )
        rows = read_rows(folder / "items.jsonl")
        asked = [item["id"] for item in read_rows(self._vault.items(self.views.goal.task, split))]
        if [row["id"] for row in rows] != asked:
            raise Refused(f"The items of {job.id} are not those of the {split} split. Measure again.")
        n, correct = len(rows), sum(float(row["correct"]) for row in rows)
        interval = wilson(correct, n)
        fact = Scored(
            model=model, benchmark=self.views.goal.task, split=split, metric=self.views.goal.metric,  # type: ignore[arg-type]
            value=correct / n, low=interval.low, high=interval.high, n=n, items=f"{job.folder}/items.jsonl",
            seal=sealed, job=job.id, finished_share=result.get("finished_share"),
        )  # fmt: skip
        self._journal.append(fact)
        return self.views.scores[-1]

    def _shown(self, score: Scored) -> dict[str, Any]:
        """A score as the brain sees it; failures only of the dev split."""
        shown = score.model_dump(include={"model", "split", "metric", "value", "low", "high", "n", "finished_share"})
        if score.split == "dev":
            wrong = [row for row in read_rows(self.folder / score.items) if not row["correct"]]
            shown["failures"] = [{k: row[k] for k in ("question", "output", "answer")} for row in wrong[:4]]
        return shown

    def _judged(self, fact: Promoted) -> dict[str, Any]:
        keys = {"model", "verdict", "against", "reason", "delta", "low", "high", "p"}
        judged = fact.model_dump(include=keys) | {"best": self.views.best}
        said = forecast.hindsight(fact.expected, fact.delta)
        return judged | ({"forecast": said} if said else {})

    def _correct(self, model: str) -> list[float]:
        """Per-item correctness of a model on dev, in the items' order."""
        score = self.views.score(model, "dev")
        if score is None:
            raise NotThere(f"{model} has no dev score yet; measure it on dev first.")
        return [float(row["correct"]) for row in read_rows(self.folder / score.items)]

    def _status(self, job: Job) -> dict[str, Any]:
        """How a job stands, as the brain sees it."""
        state = job.ended.state if job.ended else "running"
        status: dict[str, Any] = {"job": job.id, "state": state, "step": job.step, "steps": job.steps}
        status |= {"metrics": job.values, "eta_s": job.eta_s, "attempt": job.attempt}
        if job.ended:
            status |= {"seconds": job.seconds, "reason": job.ended.reason}
            status |= {"result": {k: v for k, v in job.ended.result.items() if k not in ("seal", "ok", "error")}}
        status["findings"] = [
            {"rule": f.rule, "level": f.level, "what": f.what, "advice": f.advice} for f in job.findings
        ]
        return status

    def _job(self, name: str) -> Job:
        job = self.views.jobs.get(name)
        if job is None:
            raise NotThere(f"There is no job {name!r}; there are: {', '.join(self.views.jobs) or 'none'}.")
        return job

    def _job_of(self, call: str) -> Job | None:
        return next((job for job in self.views.jobs.values() if call and job.call == call), None)

    def _serious(self, job: Job) -> list:
        return [f for f in job.findings if f.level != "info"]

    def _index(self):
        return self._vault.index(self.views.goal.task)

    def _own_rows(self) -> Path | None:
        opened = self.views.opened
        return Path(opened.data) if opened and opened.data else None

    def _seed(self) -> int:
        return self.views.opened.seed if self.views.opened else 0


def _model_hash(path: Path | str) -> str:
    """The hash of a model on this disk; "" for a Hub id, whose files only the judge has."""
    return model_hash(path) if isinstance(path, Path) else ""


def _same(sealed: Seal, expected: Seal) -> bool:
    """Whether a seal is the expected one; an expected model of "" is whatever the judge loaded."""
    return sealed == expected or (not expected.model and sealed == expected.model_copy(update={"model": sealed.model}))


def _checked(recipe: type[BaseModel], config: dict[str, Any]) -> dict[str, Any]:
    """A recipe's settings in their own types. Raises BadInput, naming what is wrong."""
    try:
        return recipe.model_validate(config).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise BadInput(f"The config cannot be used ({problems(error)}); change it and call train again.") from error


def as_text(value: Any) -> str:
    """A verb's result as compact JSON: what the brain reads."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
