"""One thread a session: watches its jobs, writes down what they do, says what is wrong, and ends what must end.

It keeps nothing that the log or a job's folder does not hold, so that a new one picks up where the last one died.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import demand, disk, forecast, guards, ladder, peaks
from lab.backend import RENTED, Backend, JobSpec, JobState, Machine, Point, pace_eta, read_json
from lab.backends.folder import metrics, result
from lab.checkpoint import keep_best, whole
from lab.diagnose import diagnose
from lab.errors import LabError
from lab.findings import Finding
from lab.machine import machine_here
from lab.merge import Merges
from lab.place import larger
from lab.pulse import Pulse
from lab.rules import Life
from lab.shown import figures
from lab.tidy import finite, readable
from record.events import Ended, Event, Found, Launched, Progressed, Queued
from record.journal import Journal
from record.log import Log
from record.views import Job

TICK = 0.25  # seconds
MERGING = "its trainer has ended, and its adapter is made into a model"
UNASKED = 5.0  # seconds after which a job is judged again although nothing new came: silence says something, too
ATTEMPTS = 3  # times that a trainer which was killed from outside is started again from its checkpoint
OVERTIME = 60.0  # seconds beyond its hours after which a job here whose runner died is ended; the Hub ends its own


@dataclass
class _Watch:
    """What we have read of one job's folder. Lost with us, and made again from the folder."""

    attempt: int
    offset: int = 0
    points: list[Point] = field(default_factory=list)
    pulse: Pulse = field(default_factory=Pulse)
    judged: float = 0.0  # on the monotonic clock


class Supervisor:
    """Watches every unfinished job of one session's log."""

    def __init__(
        self, log: Log, folder: Path, backend: Backend, env: Mapping[str, str], quota: int | None = None
    ):  # fmt: skip
        """`env` is all that a trainer may see of ours; `quota` bytes that the session's folder may take (see lab.disk)."""
        self._journal = Journal(log)
        self._merges = Merges(folder, env)
        self._quota = quota
        self._tidied = (0, 0)  # jobs ended, and verdicts, when we last made room
        self._folder = folder
        self._backend = backend
        self._watches: dict[str, _Watch] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Watch from now on. Jobs that the log says are running are adopted, and started if they never were."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; the jobs go on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            self._guarded(self.tick)

    def tick(self) -> None:
        """Look at every running job once."""
        for job in self._journal.views.running:
            self._guarded(self._watch, job)
        self._guarded(self._tidy)

    def _tidy(self) -> None:
        """Make room whenever a job has ended or was judged. It is said first: a model that is said to be gone is not used."""
        views = self._journal.views
        now = (sum(not job.running for job in views.jobs.values()), len(views.promotions))
        if now == self._tidied:
            return
        self._tidied = now
        disk.tidy(views, self._folder)
        for finding in disk.excess(views, self._folder, self._quota):
            job = finding.evidence.get("model")
            self._journal.append(found(finding, job))
            if job:
                disk.forget(self._folder / views.jobs[job].folder)

    def _guarded(self, work: Callable[..., Any], *given: Any) -> Any:
        """What the work returns; None where it failed."""
        try:
            return work(*given)
        except Exception:  # a boundary: what cannot be looked at must not leave the other jobs unwatched
            logging.getLogger(__name__).exception("the supervisor failed")
            self._stop.wait(2)

    def _watch(self, job: Job) -> None:
        watch = self._watches.get(job.id)
        if watch is None or watch.attempt != job.attempt:
            try:
                self._backend.launch(spec_of(job, self._folder))  # nothing happens to one that runs or has ended
            except LabError as error:  # the log says that it runs, so it is tried again
                logging.getLogger(__name__).warning("%s", error)
                return
            watch = self._watches[job.id] = _Watch(job.attempt)
        self._look(job, watch)

    def _look(self, job: Job, watch: _Watch) -> None:
        spec = spec_of(job, self._folder)
        state = self._backend.state(spec.folder)  # before the metrics: what it wrote before it ended is then read
        if state.ended and self._merges.pending(job, spec.folder):
            if job.held != MERGING:  # it waits: neither its hours nor its dollars go on
                self._journal.append(Queued(job=job.id, place=0, reason=MERGING))
            return
        points, watch.offset = metrics(spec.folder, watch.offset)
        if points:  # a resume goes back to its checkpoint: what came after it is not part of this curve
            watch.points = [p for p in watch.points if p.step <= points[0].step] + points
        facts: list[Event] = _moved(job, state)
        new_points = [p for p in points if not job.has(p.step, p.values)]
        measured = figures(spec.folder) if new_points and not job.step else {}
        facts += [_progressed(job, p, watch, {} if i else measured) for i, p in enumerate(new_points)]
        over = state.ended and not _killed(job, state)
        late = state.seconds > job.hours * 3600  # it saves: no line comes, and none is missed
        life = watch.pulse.look(spec.folder, state, bool(points) or late)
        due = time.monotonic() - watch.judged > UNASKED
        new = self._findings(job, watch, spec, life, over) if points or state.ended or job.step == 0 or due else []
        facts += new
        if state.ended and not self._merges.pending(job, spec.folder):  # which a finding of just now may have begun
            facts += [found(finding, job.id) for finding in self._merges.failed(job, spec.folder)]
            ended, *again = self._ending(job, [*job.findings, *new], state, spec)
            guards.learn(self._folder, self._journal.views.goal.model, job, ended, [*job.findings, *new])
            facts += [ended, *again]
            del self._watches[job.id]
        elif state.seconds > job.hours * 3600 + OVERTIME and not job.machine.startswith(RENTED):
            self._backend.cancel(spec.folder)
        if facts:
            self._journal.append(*facts)
        if ended := next((fact for fact in facts if isinstance(fact, Ended)), None):
            self._guarded(self._learn, job, ended, [*job.findings, *new])  # the Hub may be asked, and the end is kept
        if not state.ended and any(f.level == "stop" for f in [*job.findings, *new]):  # also one of before a restart
            self._backend.cancel(spec.folder)

    def _findings(self, job: Job, watch: _Watch, spec: JobSpec, life: Life, over: bool) -> list[Found]:
        """What the rules and the job's own kill criterion say that they have not said of it before.

        Before the first stop finding is said, and so before the trainer is asked to save, its best checkpoint is kept.
        """
        watch.judged = time.monotonic()
        if job.recipe == "evaluate":
            return []
        known = {(found.rule, found.level) for found in job.findings}
        probe = read_json(spec.folder / "preflight.json")
        # that is its trainer's to write: a job of which no rule can say anything ends all the same
        said = self._guarded(diagnose, watch.points, spec, probe, life) or []
        said += forecast.judge(watch.points, job.expects, over)
        new = [self._with_settings(f, job) for f in said if (f.rule, f.level) not in known]
        stop = next((f for f in new if f.level == "stop"), None)
        if stop and not any(level == "stop" for _, level in known):
            kept = keep_best(spec.folder, watch.points)
            new[new.index(stop)] = stop if kept is None else _with_kept(stop, kept, job)
        return [found(finding, job.id) for finding in new]

    def _with_settings(self, finding: Finding, job: Job) -> Finding:
        """With what to change after a job ran out of memory, or to try after its reward fell; any other as it is."""
        if finding.rule == "out_of_memory":
            changes, advice = lighter(job)
            tries: dict[str, Any] = {"settings": changes}
            if not changes:
                machine, where = self._guarded(self._larger, job) or (None, "Which machine has more is not known now.")
                about = machine and {"name": machine.name, "bytes": machine.bytes, "price": machine.price}
                advice, tries = f"{advice} {where}", tries | {"machine": about}
            return replace(finding, advice=advice, evidence=finding.evidence | tries)
        return with_offer(finding, job) if finding.rule == "reward_collapse" else finding

    def _larger(self, job: Job) -> tuple[Machine | None, str]:
        """The next machine for a job that ran out of memory. The price list of those that can be rented is asked for."""
        now, takes = datetime.now(UTC), job.expects.hours if job.expects else None
        everywhere = job.config.get("device", "auto") == "auto"  # a job for the CPU is never sent off
        dollars = self._journal.views.free_dollars(now) if everywhere else None
        if dollars is not None:  # what it would still have cost is free
            dollars += job.dollars(job.may_run_s(now))
        needs = demand.demand(job.recipe, job.config, peaks.look(self._folder))
        return larger(job.machine, needs, self._here(job), self._backend.machines, dollars, takes or job.hours)

    def _here(self, job: Job) -> Machine:
        return machine_here(self._backend.price, job.config.get("device", "auto"))

    def _learn(self, job: Job, ended: Ended, findings: list[Found]) -> None:
        """Keep how much memory it has taken, where its machine is known."""
        with suppress(LabError):
            rented = job.machine.startswith(RENTED)
            machine = self._backend.machines().get(job.machine) if rented else self._here(job)
            if machine:
                demand.learn(self._folder, job, machine, ended.result, findings)

    def _ending(
        self, job: Job, findings: list[Found], state: JobState, spec: JobSpec
    ) -> tuple[Ended, *tuple[Event, ...]]:
        """Ended; and when a signal from outside killed the trainer, the finding and the next attempt with it.

        A stop finding makes the job a failed one, also when it is found only after the last step.
        """
        stopped = next((f for f in findings if f.level == "stop"), None)
        outcome = "failed" if stopped and state.state in ("cancelled", "done") else state.state
        assert outcome not in ("queued", "running")
        ended = Ended(
            job=job.id,
            state=outcome,
            seconds=round(state.seconds, 2),
            dollars=None if job.price is None else round(job.dollars(state.seconds), 4),
            reason=stopped.what if stopped else state.reason,
            result=readable(result(spec.folder)),
            attempt=job.attempt,
        )
        if stopped or not _killed(job, state):
            return (ended,)
        saved = max(whole(spec.folder), default=None)
        elsewhere = job.machine.startswith(RENTED) or job.recipe == "rejection"  # in the bucket; in samples.jsonl
        start = "what it has kept, if anything" if elsewhere else "the beginning: it had no checkpoint yet"
        start = start if saved is None else f"its last checkpoint, of step {saved}"
        finding = Finding(
            "warn",
            "trainer_killed",
            f"The trainer was killed by signal {state.signal} at step {job.step}.",
            f"It starts again from {start}. If it repeats, memory may be short. {lighter(job)[1]}",
            {"signal": state.signal, "step": job.step, "attempt": job.attempt},
        )
        again = Launched(
            job=job.id, recipe=job.recipe, config=job.config, machine=job.machine, hours=job.hours, idea=job.idea,
            call=job.call, attempt=job.attempt + 1, expects=job.expects, folder=job.folder, price=job.price,
            revisions=job.revisions,
        )  # fmt: skip
        return ended, found(finding, job.id), again


def with_offer(finding: Finding, job: Job) -> Finding:
    """With the runs that would say why its reward fell, and the call that starts them."""
    if not (runs := ladder.ablation(job.recipe, job.config)):
        return finding
    said = " or ".join(", ".join(f"{name} = {value:g}" for name, value in one.items()) for one in runs)
    advice = f'{finding.advice} Offered, one change in each run: {said}. sweep(offered="{job.id}") starts them.'
    return replace(finding, advice=advice, evidence=finding.evidence | {ladder.OFFER: runs})


def lighter(job: Job) -> tuple[dict[str, Any], str]:
    """The ladder's next rung; rejection says how many answers it has `sampled` when it begins to train."""
    return ladder.next_rung(job.recipe, job.config, "sampled" not in job.values)


def _with_kept(finding: Finding, step: int, job: Job) -> Finding:
    advice = f"{finding.advice} Its best checkpoint, of step {step}, is kept as the model of {job.id}: evaluate it."
    return replace(finding, advice=advice, evidence=finding.evidence | {"kept_step": step})


def found(finding: Finding, job: str | None = None) -> Found:
    """A finding as a fact."""
    evidence: dict[str, Any] = readable(finding.evidence)
    return Found(
        rule=finding.rule, level=finding.level, what=finding.what, advice=finding.advice, evidence=evidence, job=job
    )


def _killed(job: Job, state: JobState) -> bool:
    """Whether a signal from outside ended the trainer, and it may be started again."""
    return state.state == "failed" and state.signal is not None and job.attempt < ATTEMPTS


def _moved(job: Job, state: JobState) -> list[Event]:
    """Queued, when the job's place in the queue, or what it waits for there, is another than the log says."""
    if state.ended or (state.state == "queued" and not state.place and not state.reason):  # nobody has looked yet
        return []
    waits = state.state == "queued"
    now = (
        Queued(job=job.id, place=state.place, reason=state.reason, eta_s=state.eta_s)
        if waits
        else Queued(job=job.id, place=0)
    )
    same = (now.place, now.reason) == (job.place, job.held) and not _off(job.starts, now)
    return [] if same else [now]


def _off(starts: datetime | None, now: Queued) -> bool:
    """Whether the start that was said of a job is by more than a minute, and a quarter of the wait, wrong."""
    if starts is None or now.eta_s is None:
        return (starts is None) != (now.eta_s is None)
    return abs((now.at - starts).total_seconds() + now.eta_s) > max(60.0, now.eta_s / 4)


def spec_of(job: Job, folder: Path) -> JobSpec:
    """The spec that a job of the log was launched with."""
    takes = job.expects.hours if job.expects else None
    takes_s = None if takes is None else 3600 * takes
    return JobSpec(
        job.id, job.recipe, job.config, folder / job.folder, job.machine, job.hours, job.attempt, takes_s, job.revisions
    )


def _progressed(job: Job, point: Point, watch: _Watch, measured: dict[str, float]) -> Progressed:
    values = {name: finite(value) for name, value in point.values.items()}
    return Progressed(
        job=job.id, step=point.step, steps=point.steps, values=values, eta_s=pace_eta(point, watch.points),
        measured=measured,
    )  # fmt: skip
