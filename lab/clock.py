"""How long a job will take, by those before it, and how much time one may still use. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, inf
from typing import Any

from lab.tasks import SIZES
from recipes.benchmarks import Split
from record.views import Job, Views

MARGIN = 1.2  # an estimate is at least this wrong, as often as not [H]
UNMEASURED = 120.0  # seconds kept for an evaluation while none has been measured [H]
SAMPLE = 512  # rows whose tokens are counted: the mean length is then known to a few percent
SHAPE = (
    "batch_size", "grad_accumulation", "max_length", "lora_rank", "packing", "gradient_checkpointing", "padding_free",
    "attention", "liger",
)  # fmt: skip

Count = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Estimate:
    """What a job will take, in seconds: `startup` once, and `a_step` for each of its `steps`."""

    startup: float
    a_step: float
    steps: int

    @property
    def seconds(self) -> float:
        return self.startup + self.a_step * self.steps

    def steps_in(self, seconds: float) -> int:
        """How many steps fit into this time, with the margin."""
        return max(0, min(self.steps, int((seconds / MARGIN - self.startup) / self.a_step)))


@dataclass(frozen=True)
class Room:
    """What is left of the budget, in seconds, and how much of it is spoken for."""

    left: float
    taken: float = 0.0  # by running and queued jobs, up to their hours
    kept: float = 0.0  # for the evaluations after a training job

    @property
    def free(self) -> float:
        return self.left - self.taken - self.kept


def room(views: Views, now: datetime, price: float | None = 0.0, alone: bool = False) -> Room | None:
    """The time that one more training job may use; None without a cap. Jobs run one at a time, so their times add up.

    On a machine that costs money, `price` dollars an hour, the dollars that are left are time, too. A job that is `alone`
    on a rented one waits for no other: they share the dollars, and the hours of all jobs where these have a cap.
    """
    alone = alone and views.budget.job_hours is None
    spoken = views.committed_dollars(now) if alone else 0.0
    caps = [cap for cap in (views.left_s(now), _affordable_s(views, now, price, spoken)) if cap is not None]
    if not caps:
        return None
    left = min(caps)
    kept = evaluation_s(views, "dev") + evaluation_s(views, "heldout")  # to choose by, and to close with
    return Room(left, 0.0 if alone else views.committed_s(now), kept)


def _affordable_s(views: Views, now: datetime, price: float | None, spoken: float) -> float | None:
    """Run time that the dollars which are left, and not `spoken` for, pay for; None without a cap or a known price."""
    cap = views.budget.dollars
    return None if cap is None or not price else (cap - views.dollars(now) - spoken) / price * 3600


def evaluation_s(views: Views, split: Split) -> float:
    """Seconds that an evaluation on a split takes, by the slowest so far, scaled up to the split's items; UNMEASURED without one."""
    done = [job for job in views.jobs.values() if job.recipe == "evaluate" and job.state == "done"]
    times = [job.seconds * max(1.0, SIZES[split] / SIZES.get(job.config.get("split", split), 1)) for job in done]
    return max(times, default=UNMEASURED)


def estimate(
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    count: Count | None,
    past: Iterable[Job],
) -> Estimate | None:
    """How long a training job will take, by the pace of earlier ones; None where nobody knows.

    The last earlier job of the same SHAPE counts, else the last of any, scaled by tokens a step; where tokens are not
    known, by rows a step and length limit.

    Args:
        defaults: The recipe's settings where a config leaves them out.
        count: Token counts by the model's own tokenizer; None where it is not on this disk.
        past: Earlier jobs of the same recipe, oldest first.
    """
    full = {**defaults, **config}
    known = [(job, pace, {**defaults, **job.config}) for job in past if (pace := _pace(job))]
    alike = [one for one in known if all(one[2].get(name) == full.get(name) for name in SHAPE)]
    if not known:
        return None
    job, (startup, a_step), before = (alike or known)[-1]
    tokens, counted = _tokens_a_step(full, rows, count), _tokens(job)
    if tokens and counted:
        scale = tokens * job.step / counted
    else:
        now, then = _length(full), _length(before)
        scale = _rows_a_step(full) / _rows_a_step(before) * (now / then if now and then else 1.0)
    steps = full["max_steps"] or ceil(len(rows) / _rows_a_step(full) * full["epochs"])  # packed, an upper bound
    return Estimate(startup, a_step * scale, steps)


def _pace(job: Job) -> tuple[float, float] | None:
    """(seconds to start up, seconds a step) of an ended job; None for one that says nothing about it.

    What was not spent on tokens is start-up. A job that did not come to its end says its speed in its last metrics; one
    that went on from a checkpoint counts only when it finished, with all its time as training.
    """
    ended = job.ended
    if ended is None or (job.attempt > 1 and ended.state != "done"):
        return None
    resumed = ended.result.get("resumed_from") or 0
    steps, tokens = job.step - resumed, _tokens(job)
    speed = _positive(ended.result.get("tokens_per_second")) or _positive(job.values.get("tokens_per_second"))
    if not resumed and tokens and speed:
        training = min(ended.seconds, tokens / speed)
    elif ended.state == "done":
        training = ended.seconds
    else:
        return None
    return (ended.seconds - training, training / steps) if steps > 0 and training > 0 else None


def _tokens(job: Job) -> float | None:
    """That an ended job was trained on, up to its last step."""
    assert job.ended
    return _positive(job.ended.result.get("tokens")) or _positive(job.values.get("num_tokens"))


def _tokens_a_step(full: Mapping[str, Any], rows: Sequence[Mapping[str, str]], count: Count | None) -> float | None:
    most = full.get("max_length")  # None: nothing is cut
    if full.get("packing") and most:
        return _rows_a_step(full) * most
    if count is None:
        return None
    seen = rows[:: max(1, len(rows) // SAMPLE)]
    lengths = count([row["prompt"] + row["completion"] for row in seen])
    if full.get("packing"):
        return _rows_a_step(full) * max(lengths)
    return _rows_a_step(full) * sum(min(length + 1, most or inf) for length in lengths) / len(seen)  # 1: EOS


def _rows_a_step(full: Mapping[str, Any]) -> int:
    return full["batch_size"] * full["grad_accumulation"]


def _length(full: Mapping[str, Any]) -> int | None:
    """The limit of a row's tokens, or of the model's own answer where a recipe samples them."""
    return full.get("max_length") or full.get("max_new_tokens")


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
