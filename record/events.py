"""Every kind of fact that a session can hold. Frozen; fields are only ever added, so that an old log reads for ever."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator

Level = Literal["info", "warn", "stop"]
Approval = Literal["always", "ask", "auto"]  # before every change, before spending, or within the caps without asking
Effort = Literal["default", "low", "medium", "high"]  # how long a brain thinks before it answers; its own by default
JobOutcome = Literal["done", "failed", "cancelled", "timeout"]
Outcome = Literal["done", "needs_person", "out_of_budget", "provider_failed", "stopped", "failed"]


class Part(BaseModel):
    """A value inside a fact."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Part):
    """What a session may use. None is no cap; nothing here may be 0."""

    hours: float | None = None  # wall clock, while the session works
    job_hours: float | None = None  # summed run time of jobs
    dollars: float | None = None
    tokens: int | None = None  # in + out
    calls: int | None = None  # of the driver's model; a session without its own cap has a default one


class Goal(Part):
    """What the person asked for, in the words and in the terms that the lab needs."""

    text: str
    task: str  # a benchmark's name, e.g. "chains", "gym:spell_backward", "table:/data/questions.csv", "table:org/name@commit"
    model: str  # a folder or a Hub id
    target: float | None = None  # the metric's value to reach on held-out items, in [0, 1]
    metric: str = "accuracy"


class Call(Part):
    """One tool call, as the brain wrote it."""

    id: str
    name: str
    arguments: dict[str, Any]


class Step(Part):
    """One line of the plan."""

    text: str
    state: Literal["todo", "doing", "done", "dropped"] = "todo"


class Expectation(Part):
    """What a training job is expected to do, said before it runs: the forecast is scored, the kill criterion is run."""

    delta: float  # of the dev score against the best one, in [-1, 1]
    hours: float | None = None
    kill_metric: str | None = None  # e.g. "eval_loss": the job is ended when at `kill_step` it is above `kill_above`
    kill_step: int | None = None
    kill_above: float | None = None


class Seal(Part):
    """Hashes (sha256, hex) that tie a score to its judge's source, its items and the model's files."""

    judge: str
    split: str
    model: str


class Fact(BaseModel):
    """What every fact carries. `seq` (from 1, no gaps) and `at` are set by the log when it is appended."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seq: int = 0
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    who: str = "main"  # or a scout's name


class Opened(Fact):
    kind: Literal["opened"] = "opened"
    session: str
    goal: Goal
    budget: Budget
    driver: str  # "autopilot" or a model id
    seed: int = 0
    person: str = "local"
    approval: Approval = "auto"
    data: str | None = None  # the person's own training rows (JSONL), when given


class Said(Fact):
    """A person's message. It is read at the agent's next step."""

    kind: Literal["said"] = "said"
    text: str
    by: str = "local"


class Replied(Fact):
    """One answer of the brain: text, thought and calls. Unknown counts are None, never 0."""

    kind: Literal["replied"] = "replied"
    text: str = ""
    thought: str = ""
    calls: tuple[Call, ...] = ()
    model: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    dollars: float | None = None
    seconds: float = 0.0
    cached: int | None = None  # of tokens_in: read from the provider's prompt cache
    finish: str = ""  # why the provider ended the answer: "stop", "tool_calls", "length", "content_filter"
    upto: int | None = None  # the seq of the last fact that the request knew of
    blocks: tuple[dict[str, Any], ...] = ()  # thinking as the provider sent it, signed: it goes back to it


class Started(Fact):
    kind: Literal["started"] = "started"
    call: str
    name: str
    arguments: dict[str, Any]


class Finished(Fact):
    """The one answer that every call gets, whatever happened to it."""

    kind: Literal["finished"] = "finished"
    call: str
    name: str
    ok: bool
    output: str
    seconds: float


class Asked(Fact):
    """The gate wants a person's decision before it lets a call run."""

    kind: Literal["asked"] = "asked"
    call: str
    name: str
    arguments: dict[str, Any]
    reason: str
    dollars: float | None = None


class Decided(Fact):
    kind: Literal["decided"] = "decided"
    call: str
    allow: bool
    arguments: dict[str, Any] | None = None  # the person's edit, when there is one
    by: str = "local"


class Launched(Fact):
    """A job was handed to a backend. A resume of the same job is the same `job` with the next `attempt`."""

    kind: Literal["launched"] = "launched"
    job: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    recipe: str
    config: dict[str, Any]
    machine: str
    hours: float
    price: float | None = 0.0  # dollars an hour of the machine; None is unknown
    idea: str = ""  # the hypothesis that this job tests, when it tests one
    call: str = ""
    attempt: int = 1
    expects: Expectation | None = None
    revisions: dict[str, str] = {}  # of the Hub's models that are mounted for it: the commit of each
    folder: str  # relative to the session's folder

    @field_validator("folder")
    @classmethod
    def _is_at_home(cls, folder: str, known: ValidationInfo) -> str:
        """A log may come from elsewhere, and what is in a job's folder is read, stopped, published and removed."""
        if folder != (home := f"jobs/{known.data.get('job')}"):
            raise ValueError(f"{folder[:80]!r} is not {home!r}")
        return folder


class Queued(Fact):
    """A job's place in its backend's queue: that many jobs go before it. At 0, with no reason, its time runs."""

    kind: Literal["queued"] = "queued"
    job: str
    place: int
    reason: str = ""  # why it waits at place 0
    eta_s: float | None = None  # until it starts; None when nobody knows


class Progressed(Fact):
    """Metrics of one step. Values that are not finite stand as "nan", "inf" or "-inf": they are evidence."""

    kind: Literal["progressed"] = "progressed"
    job: str
    step: int
    steps: int | None = None
    values: dict[str, float | str]
    eta_s: float | None = None
    measured: dict[
        str, float
    ] = {}  # before the first step, told with it: peak_mb, usual_s, tokens_per_second_worst, eta_s


class Found(Fact):
    """A finding of preflight, diagnosis, integrity or the lab itself: one shape for all."""

    kind: Literal["found"] = "found"
    rule: str
    level: Level
    what: str
    advice: str
    evidence: dict[str, Any] = {}
    job: str | None = None


class Ended(Fact):
    kind: Literal["ended"] = "ended"
    job: str
    state: JobOutcome
    seconds: float
    dollars: float | None = None
    reason: str = ""
    result: dict[str, Any] = {}
    attempt: int = 1


class Scored(Fact):
    """A sealed score: accuracy in [0, 1] with its 95 % Wilson interval."""

    kind: Literal["scored"] = "scored"
    model: str  # "base" or the job that made it
    benchmark: str
    split: Literal["dev", "heldout"]
    metric: str
    value: float
    low: float
    high: float
    n: int
    items: str  # the file of items, relative to the session's folder
    seal: Seal
    job: str
    finished_share: float | None = None


class Promoted(Fact):
    """The verdict on a candidate: kept as the new best, or discarded, and why."""

    kind: Literal["promoted"] = "promoted"
    model: str
    verdict: Literal["keep", "discard", "crash"]
    against: str
    reason: str
    idea: str = ""
    delta: float | None = None  # candidate - best on the same dev items
    low: float | None = None
    high: float | None = None
    p: float | None = None  # exact McNemar, two-sided
    expected: float | None = None  # the delta that the job's launch forecast


class Noted(Fact):
    kind: Literal["noted"] = "noted"
    topic: str
    text: str
    details: dict[str, Any] = {}


class Planned(Fact):
    kind: Literal["planned"] = "planned"
    steps: tuple[Step, ...]


class Published(Fact):
    kind: Literal["published"] = "published"
    what: Literal["report", "model", "dataset", "demo", "curves"]
    where: str
    model: str = ""  # the job whose model, rows or demo it is


class Compacted(Fact):
    """Everything up to `upto` is from now on shown to the brain as this summary."""

    kind: Literal["compacted"] = "compacted"
    upto: int
    summary: str
    model: str = ""  # that wrote the summary; its cost counts like a reply's
    tokens_in: int | None = None
    tokens_out: int | None = None
    dollars: float | None = None


class Requested(Fact):
    """A person asks for something at the next look: to shorten the brain's memory, or to save and stop one job."""

    kind: Literal["requested"] = "requested"
    what: Literal["compact", "stop_job"]
    job: str | None = None
    by: str = "local"


class Halted(Fact):
    """A person pressed stop."""

    kind: Literal["halted"] = "halted"
    by: str = "local"
    reason: str = ""


class Renamed(Fact):
    kind: Literal["renamed"] = "renamed"
    title: str
    by: str = "local"


class Shared(Fact):
    """Whether anybody may watch this session as a replay. A session is private until its owner shares it."""

    kind: Literal["shared"] = "shared"
    public: bool
    by: str = "local"


class Tuned(Fact):
    """A person changed the terms of a session. What is None stays as it was; a budget replaces the whole budget."""

    kind: Literal["tuned"] = "tuned"
    budget: Budget | None = None
    approval: Approval | None = None
    driver: str | None = None
    effort: Effort | None = None
    by: str = "local"


class Undone(Fact):
    """The brain forgets what was said after `upto`. What jobs did stays done: facts are never taken back."""

    kind: Literal["undone"] = "undone"
    upto: int
    by: str = "local"


class Closed(Fact):
    kind: Literal["closed"] = "closed"
    outcome: Outcome
    reason: str


Event = (
    Opened | Said | Replied | Started | Finished | Asked | Decided | Launched | Queued | Progressed | Found | Ended
    | Scored | Promoted | Noted | Planned | Published | Compacted | Requested | Halted | Renamed | Shared | Tuned
    | Undone | Closed
)  # fmt: skip
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def parse(line: str | bytes) -> Event:
    """One line of a log. Raises pydantic.ValidationError for anything that is not a fact."""
    return _ADAPTER.validate_json(line)


def from_dict(fact: Mapping[str, Any]) -> Event:
    """A fact from its plain dictionary. Raises pydantic.ValidationError."""
    return _ADAPTER.validate_python(fact)
