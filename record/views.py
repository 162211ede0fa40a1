"""Questions to a session, answered by folding its facts. Pure: no clock, no file. One pass; a new fact costs O(1)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never

from record import events as e

MAIN = "main"  # who of the driver's facts; a scout's carry its name


@dataclass
class Job:
    """What is known of one job."""

    id: str
    recipe: str
    config: dict[str, Any]
    machine: str
    hours: float
    idea: str
    folder: str
    call: str
    attempt: int = 1
    expects: e.Expectation | None = None
    price: float | None = 0.0  # dollars an hour; None is unknown
    revisions: dict[str, str] = field(default_factory=dict)  # of the Hub's models that are mounted for it
    place: int | None = None  # in the queue; None before anybody knows
    held: str = ""  # why it waits at place 0
    starts: datetime | None = None  # while it waits, where that is known
    began: datetime | None = None  # when this attempt got the machine
    step: int = 0
    steps: int | None = None
    values: dict[str, float | str] = field(default_factory=dict)  # the latest of each metric
    names: set[str] = field(default_factory=set)  # metrics that the latest step has brought so far
    eta_s: float | None = None
    ended: e.Ended | None = None
    findings: list[e.Found] = field(default_factory=list)
    seconds_before: float = 0.0  # run time of earlier attempts

    @property
    def running(self) -> bool:
        return self.ended is None

    @property
    def state(self) -> str:
        """How it ended; "running" before that, in the queue, too."""
        return self.ended.state if self.ended else "running"

    def has(self, step: int, names: Iterable[str]) -> bool:
        """Whether these metrics of this step are logged; a step may bring its loss first and its eval_loss later."""
        return step < self.step or (step == self.step and self.names.issuperset(names))

    @property
    def seconds(self) -> float:
        """Run time of all ended attempts."""
        return self.seconds_before + (self.ended.seconds if self.ended else 0.0)

    def ran_s(self, now: datetime) -> float:
        """Run time of the attempt under way, up to `now`; waiting in the queue does not count."""
        return (now - self.began).total_seconds() if self.began and self.running else 0.0

    def may_run_s(self, now: datetime) -> float:
        """Run time that it may still use."""
        return max(0.0, self.hours * 3600 - self.ran_s(now))

    def dollars(self, seconds: float) -> float:
        """What so much run time costs; 0 where nobody knows the price."""
        return (self.price or 0.0) * seconds / 3600


@dataclass
class Spent:
    """What a session has used. `unpriced` counts model calls whose price nobody knows."""

    dollars: float = 0.0
    tokens: int = 0
    job_seconds: float = 0.0  # of ended attempts
    replies: int = 0
    unpriced: int = 0
    unpriced_tokens: int = 0
    largest_tokens: int = 0  # of one call
    largest_dollars: float = 0.0


class Views:
    """The fold. `add` each fact in order; read the attributes. Build a new one from the log at any time."""

    def __init__(self, facts: Iterable[e.Event] = ()):
        self.opened: e.Opened | None = None
        self.closed: e.Closed | None = None
        self.halted: e.Halted | None = None
        self.jobs: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self.scores: list[e.Scored] = []
        self.promotions: list[e.Promoted] = []
        self.best: str = "base"
        self.plan: tuple[e.Step, ...] = ()
        self.spent = Spent()
        self.replies: dict[str, e.Replied] = {}  # the last one of each who
        self.counts: dict[str, int] = {}  # replies of each who
        self.compactions: dict[str, e.Compacted] = {}  # the last one of each who
        self.wants_compaction = 0  # seq of a person's last wish for one
        self.started: set[str] = set()  # calls
        self.finished: dict[str, e.Finished] = {}
        self.asked: dict[str, e.Asked] = {}
        self.decided: dict[str, e.Decided] = {}
        self.notes: list[e.Noted] = []
        self.findings: list[e.Found] = []
        self.idle_replies = 0  # answers in a row without a call
        self.said_at = 0  # seq of the last message of the person
        self._read = 0  # seq up to which the driver has read
        self._overheard = False  # whether there were words that it had not read when it closed
        self.turns: list[int] = []  # seq of each message that the brain still knows of
        self._worked_s = 0.0  # seconds of wall clock before `_works_since`
        self._works_since: datetime | None = None  # None while it stands still
        self.title = ""
        self.public = False  # whether anybody may watch it as a replay
        self.budget = e.Budget()
        self.approval: e.Approval = "auto"
        self.driver = ""
        self.drivers: list[str] = []  # that drove it, in order; one may come twice
        self.effort: e.Effort | None = None  # None is the provider's own
        for fact in facts:
            self.add(fact)

    @property
    def goal(self) -> e.Goal:
        assert self.opened, "a session's first fact is Opened"
        return self.opened.goal

    @property
    def running(self) -> list[Job]:
        return list(self._running.values())

    @property
    def waiting(self) -> list[e.Asked]:
        """Questions of the gate that nobody has decided yet."""
        return [a for call, a in self.asked.items() if call not in self.decided and call not in self.finished]

    @property
    def replied(self) -> e.Replied | None:
        """The driver's last reply."""
        return self.replies.get(MAIN)

    def open_calls(self, who: str = MAIN) -> list[e.Call]:
        """Calls of somebody's last reply that have no answer yet: what a restart has to finish."""
        replied = self.replies.get(who)
        return [call for call in replied.calls if call.id not in self.finished] if replied else []

    @property
    def unread(self) -> bool:
        """Whether the person said something that the driver has not read."""
        return self.said_at > self._read

    @property
    def active(self) -> bool:
        """Whether the session has work to do: it is open, or the person spoke since it ended.

        Words that come while a session ends are not lost: those that a stop overtook, and those that the driver had
        not read when it was done.
        """
        if self.opened is None:
            return False
        ended, halted = self.closed, self.halted.seq if self.halted else 0
        if ended is None:
            return halted == 0 or self.said_at > halted
        if ended.outcome == "stopped" and halted:
            return self.said_at > halted
        if ended.outcome in ("done", "needs_person") and ended.seq > halted and self._overheard:
            return True
        return self.said_at > max(ended.seq, halted)

    @property
    def ended(self) -> bool:
        """Whether the session is closed, and nobody spoke or stopped it since."""
        halted = self.halted.seq if self.halted else 0
        return self.closed is not None and self.closed.seq > halted and not self.active

    @property
    def settled(self) -> bool:
        """Whether nobody has anything left to do: it has ended, and no job runs."""
        return self.ended and not self.running

    def score(self, model: str, split: str) -> e.Scored | None:
        """The latest sealed score of a model on a split."""
        return next((s for s in reversed(self.scores) if s.model == model and s.split == split), None)

    def elapsed_s(self, now: datetime) -> float:
        """Wall clock of the session in seconds. It stands still between an ending and the person's next message."""
        return self._worked_s + ((now - self._works_since).total_seconds() if self._works_since else 0.0)

    def job_seconds(self, now: datetime) -> float:
        """Run time of jobs, the running ones up to `now`; waiting in the queue does not count."""
        return self.spent.job_seconds + sum(job.ran_s(now) for job in self._running.values())

    def committed_s(self, now: datetime) -> float:
        """Run time that running and queued jobs may still use: their hours, less what they ran up to `now`."""
        return sum(job.may_run_s(now) for job in self._running.values())

    def dollars(self, now: datetime) -> float:
        """What model calls and jobs have cost, the running ones up to `now`; what has no known price is not in it."""
        return self.spent.dollars + sum(job.dollars(job.ran_s(now)) for job in self._running.values())

    def committed_dollars(self, now: datetime) -> float:
        """What running and queued jobs may still cost: their hours, less what they ran up to `now`."""
        return sum(job.dollars(job.may_run_s(now)) for job in self._running.values())

    def free_dollars(self, now: datetime) -> float | None:
        """Dollars that are neither spent nor spoken for; None without a cap."""
        cap = self.budget.dollars
        return None if cap is None else cap - self.dollars(now) - self.committed_dollars(now)

    def left_s(self, now: datetime) -> float | None:
        """Seconds until the wall clock or the jobs' clock is used up; None where there is no cap."""
        caps = []
        if self.budget.hours is not None:
            caps.append(self.budget.hours * 3600 - self.elapsed_s(now))
        if self.budget.job_hours is not None:
            caps.append(self.budget.job_hours * 3600 - self.job_seconds(now))
        return min(caps) if caps else None

    def over(self, now: datetime) -> str | None:
        """Which cap is used up, in words; None while there is room."""
        budget, left = self.budget, self.left_s(now)
        if left is not None and left <= 0:
            which = "wall clock" if budget.hours is not None and self.elapsed_s(now) >= budget.hours * 3600 else "job"
            cap = budget.hours if which == "wall clock" else budget.job_hours
            return f"the {which} budget of {cap:g} h is used up"
        if budget.dollars is not None and (spent := self.dollars(now)) >= budget.dollars:
            return f"${spent:.2f} of ${budget.dollars:.2f} are spent"
        if budget.tokens is not None and self.spent.tokens >= budget.tokens:
            return f"{self.spent.tokens:,} of {budget.tokens:,} tokens are used"
        return None

    def add(self, fact: e.Event) -> None:
        """Take one more fact in. Facts come in order of seq."""
        match fact:
            case e.Opened():
                self.opened, self.title = fact, fact.goal.text
                self.budget, self.approval, self.driver = fact.budget, fact.approval, fact.driver
                self.drivers.append(fact.driver)
                self._works_since = fact.at
            case e.Said():
                self.said_at = fact.seq
                self.turns.append(fact.seq)
                self._works_since = self._works_since or fact.at
                self.idle_replies = 0
            case e.Replied():
                self._replied(fact)
            case e.Started():
                self.started.add(fact.call)
            case e.Finished():
                self.finished[fact.call] = fact
            case e.Asked():
                self.asked[fact.call] = fact
            case e.Decided():
                self.decided[fact.call] = fact
            case e.Launched() | e.Queued() | e.Progressed() | e.Ended():
                self._job(fact)
            case e.Found():
                self.findings.append(fact)
                if fact.job in self.jobs:
                    self.jobs[fact.job].findings.append(fact)
            case e.Scored():
                self.scores.append(fact)
            case e.Promoted():
                self.promotions.append(fact)
                self.best = fact.model if fact.verdict == "keep" else self.best
            case e.Noted():
                self.notes.append(fact)
            case e.Planned():
                self.plan = fact.steps
            case e.Halted():
                self.halted = fact
                self._rest(fact)
            case e.Closed():
                self.closed, self._overheard = fact, self.unread
                if not self.active:
                    self._rest(fact)
            case e.Renamed() | e.Shared() | e.Tuned() | e.Requested() | e.Undone():
                self._steered(fact)
            case e.Compacted():
                self.compactions[fact.who] = fact
                self._paid(fact)
            case e.Published():
                pass  # the doors read it
            case _:
                assert_never(fact)

    def _steered(self, fact: e.Renamed | e.Shared | e.Tuned | e.Requested | e.Undone) -> None:
        """What a person did to the session itself."""
        match fact:
            case e.Renamed():
                self.title = fact.title
            case e.Shared():
                self.public = fact.public
            case e.Tuned():
                self.budget, self.approval = fact.budget or self.budget, fact.approval or self.approval
                self.driver = fact.driver or self.driver
                if fact.effort:
                    self.effort = None if fact.effort == "default" else fact.effort
                if fact.driver:
                    self.drivers.append(fact.driver)
            case e.Requested():
                self.wants_compaction = fact.seq if fact.what == "compact" else self.wants_compaction
            case e.Undone():
                self.idle_replies = 0
                self.turns = [seq for seq in self.turns if seq <= fact.upto]

    def _rest(self, fact: e.Halted | e.Closed) -> None:
        self._worked_s, self._works_since = self.elapsed_s(fact.at), None

    def _replied(self, fact: e.Replied) -> None:
        self._paid(fact)
        self.spent.replies += 1
        self.replies[fact.who] = fact
        self.counts[fact.who] = self.counts.get(fact.who, 0) + 1
        if fact.who == MAIN:
            self.idle_replies = 0 if fact.calls else self.idle_replies + 1
            self._read, self._overheard = fact.seq if fact.upto is None else fact.upto, False

    def _paid(self, fact: e.Replied | e.Compacted) -> None:
        spent, tokens = self.spent, (fact.tokens_in or 0) + (fact.tokens_out or 0)
        spent.tokens += tokens
        spent.dollars += fact.dollars or 0.0
        spent.unpriced += fact.dollars is None
        spent.unpriced_tokens += tokens if fact.dollars is None else 0
        spent.largest_tokens = max(spent.largest_tokens, tokens)
        spent.largest_dollars = max(spent.largest_dollars, fact.dollars or 0.0)

    def _job(self, fact: e.Launched | e.Queued | e.Progressed | e.Ended) -> None:
        if isinstance(fact, e.Launched):
            before = self.jobs.get(fact.job)
            job = Job(
                fact.job, fact.recipe, fact.config, fact.machine, fact.hours, fact.idea, fact.folder, fact.call,
                expects=fact.expects, price=fact.price, revisions=fact.revisions,
            )  # fmt: skip
            if before:
                job.attempt, job.seconds_before, job.findings = fact.attempt, before.seconds, before.findings
                job.step, job.steps, job.values, job.names = before.step, before.steps, before.values, before.names
            self.jobs[fact.job] = self._running[fact.job] = job
            return
        job = self.jobs[fact.job]
        if isinstance(fact, e.Ended):
            job.ended, job.eta_s = fact, None
            self._running.pop(fact.job, None)
            self.spent.job_seconds += fact.seconds
            self.spent.dollars += fact.dollars or 0.0
        elif isinstance(fact, e.Queued):
            job.place, job.held = fact.place, fact.reason
            job.began = None if fact.place or fact.reason else fact.at
            job.starts = None if fact.eta_s is None else fact.at + timedelta(seconds=fact.eta_s)
        else:
            job.names = set(fact.values) | (job.names if fact.step == job.step else set())
            job.step, job.steps, job.eta_s = fact.step, fact.steps or job.steps, fact.eta_s
            job.values = job.values | fact.values
