"""What the rules of lab.diagnose measure: one small function a rule, over the metrics of a run. Pure: no clock, no file.

A measure returns None while it can say nothing, or a Seen whose `value` grows with the trouble; the table in lab.diagnose
says from which value on that is a warning or the end. `logs` is the number of log lines that a measure looks at. Metrics
have the names that TRL 1.16 and transformers 5.23 log; one that is missing is not zero.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil, inf, isfinite, log, sqrt
from statistics import fmean, median, quantiles
from typing import Any

from lab.backend import JobSpec, Point

MEMORY = (
    r"(?i)out of memory|OutOfMemory|MemoryError|ALLOC_FAILED|can't allocate memory|No available memory for the cache"
)
DISK = r"No space left on device|Disk quota exceeded|File too large|os error (28|27|122)\b"
DEVICE = r"(?i)device-side assert|CUDA error|NCCL (error|timeout)|Watchdog caught collective"


@dataclass(frozen=True)
class Life:
    """Signs of life of a job's process. Seconds are those in which its supervisor saw nothing new."""

    silent_s: float = 0.0  # no new log line
    beatless_s: float = 0.0  # no heartbeat
    error: str = ""  # how it failed, in its own words; "" while it runs, and when it did not fail


@dataclass(frozen=True)
class Seen:
    """How bad it is, in the unit of its measure, and the sentence that says so."""

    value: float
    what: str
    step: int | None = None  # where it was seen; None: at the last one


@dataclass(frozen=True)
class Run:
    """Everything that is known of a job."""

    points: Sequence[Point]
    spec: JobSpec
    probe: dict[str, Any]  # the trainer's preflight.json; {} before it is there
    life: Life = Life()

    @cached_property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of every metric where it was logged and is finite."""
        found: dict[str, list[tuple[int, float]]] = {}
        for point in self.points:
            for name, value in point.values.items():
                if isfinite(value):
                    found.setdefault(name, []).append((point.step, value))
        return found

    def values(self, name: str) -> list[float]:
        return [value for _, value in self.curves.get(name, [])]

    @property
    def step(self) -> int:
        return self.points[-1].step if self.points else 0

    @cached_property
    def steps(self) -> int:
        """Total steps of the job, as far as anything says so."""
        known = next((p.steps for p in reversed(self.points) if p.steps), None)
        return known or self.probe.get("steps") or max(1, self.step)

    @property
    def losses(self) -> list[float]:
        """None of GRPO and its kin: theirs says nothing (TRL #3120)."""
        return [] if "reward" in self.curves else self.values("loss")

    @cached_property
    def gained(self) -> bool:
        """Whether the reward is by more than its noise above where it began: then little of what looks bad is."""
        rewards = self.values("reward")
        return len(rewards) >= 10 and fmean(rewards[-5:]) - fmean(rewards[:5]) > 2 * noise(rewards) / sqrt(5)


Measure = Callable[[Run, int], Seen | None]


# Any training


def not_finite(run: Run, logs: int) -> Seen | None:
    """1 where a metric is NaN or infinite, or where one that always came stays away: TRL leaves NaN out of its means."""
    bad = next(((k, v, p.step) for p in run.points for k, v in p.values.items() if not isfinite(v)), None)
    if bad:
        return Seen(1, "{} is {} at step {}.".format(*bad), bad[2])
    lines = [p.values for p in run.points if "loss" in p.values]
    usual = set.intersection(*map(set, lines[:logs])) if len(lines) >= 2 * logs else set()
    gone = usual.intersection(("entropy", "mean_token_accuracy", "grad_norm")).difference(*lines[-logs:])
    return Seen(1, f"{min(gone)} is gone from the last {logs} log lines: it is not finite.") if gone else None


def divergence(run: Run, logs: int) -> Seen | None:
    """Times the lowest smoothed loss; at most 1.99 unless it rose by a nat and 8 times a log line's noise, 0 below half of that.

    The noise is that of the log lines up to the lowest: a loss that diverges is noisy itself.
    """
    losses = run.losses
    if len(losses) < 2 * logs:
        return None
    smooth = [median(losses[i : i + logs]) for i in range(len(losses) - logs + 1)]
    lowest, now = min(smooth), smooth[-1]
    least = max(0.5, 4 * noise(losses[: max(2 * logs, smooth.index(lowest) + logs)]))
    if now - lowest < least or lowest <= 0:
        return None
    ratio = now / lowest if now - lowest >= 2 * least else min(1.99, now / lowest)
    return Seen(ratio, f"The loss is {now:.3g} at step {run.step}, and its lowest was {lowest:.3g}.")


def bad_start(run: Run, logs: int) -> Seen | None:
    """Times what guessing costs that the first loss is: ln V nats of V tokens, or 16 of fewer than 10,000; not of DPO's kin.

    The starter, of 320 tokens, begins a format that is new to it at 10.2 nats, and is fine.
    """
    words = run.probe.get("vocabulary", 0)
    first = 0.0 if "rewards/chosen" in run.curves else next(iter(run.losses), 0.0)
    return Seen(
        first / (log(words) if words >= 10_000 else 16.0), f"The first loss is {first:.3g} nats: as bad as guessing."
    )


def too_good(run: Run, logs: int) -> Seen | None:
    """Token accuracy of SFT in the first tenth of the steps."""
    early = [v for s, v in run.curves.get("mean_token_accuracy", []) if s <= run.steps * 0.1]
    if len(early) < logs or "rewards/chosen" in run.curves:
        return None
    return Seen(min(early[-logs:]), f"Token accuracy is {early[-1]:.3f} in the first tenth of the steps already.")


def all_masked(run: Run, logs: int) -> Seen | None:
    """1 where no label is trained on: by the probe, by a loss and a gradient of 0, or where TRL left out every such row."""
    if run.probe.get("masked_share", 0.0) >= 1.0 or "num_samples=0" in run.life.error:
        return Seen(1, "Every label is masked: there is nothing to learn from.")
    lines = [p.values for p in run.points if "grad_norm" in p.values and "reward" not in p.values]
    if len(lines) < logs or any(line["grad_norm"] != 0 or line.get("loss") for line in lines):
        return None
    return Seen(1, f"Loss and gradient are 0 in all {len(lines)} log lines.")


def stop_token_not_trained(run: Run, logs: int) -> Seen | None:
    """Share of sampled rows whose last trained token does not end the answer."""
    share = run.probe.get("stop_token_trained", 1.0)
    return Seen(1 - share, f"Only {share:.0%} of the rows end in the stop token {run.probe.get('stop_token')!r}.")


def truncated(run: Run, logs: int) -> Seen | None:
    """Share of rows longer than max_length."""
    share = run.probe.get("truncated_share", 0.0)
    longest = run.probe.get("length_max")
    return Seen(share, f"{share:.0%} of the rows are longer than max_length; the longest has {longest} tokens.")


def overfit(run: Run, logs: int) -> Seen | None:
    """Evaluations in a row with a rising eval_loss, while the training loss falls."""
    evals, rises = run.curves.get("eval_loss", []), 0
    while rises < len(evals) - 1 and evals[-rises - 1][1] > evals[-rises - 2][1]:
        rises += 1
    since = [v for s, v in run.curves.get("loss", []) if rises and s >= evals[-rises - 1][0]]
    if len(since) < 2 or since[-1] >= since[0]:
        return None
    before, now = evals[-rises - 1][1], evals[-1][1]
    return Seen(rises, f"eval_loss rose from {before:.4g} to {now:.4g} in {rises} evaluations while the loss fell.")


def memorised(run: Run, logs: int) -> Seen | None:
    """Share of the loss that was lost at the last border of two epochs, beyond what the lines before it lost; 0 within noise."""
    epochs = dict(run.curves.get("epoch", []))
    losses = [(epochs[s], v) for s, v in run.curves.get("loss", []) if s in epochs] if run.losses else []
    border = ceil(losses[-1][0]) - 1 if losses else 0
    until, after = [v for e, v in losses if e <= border], [v for e, v in losses if e > border][:logs]
    if len(after) < logs or len(until) < 2 * logs:
        return None
    earlier, before, now = median(until[-2 * logs : -logs]), median(until[-logs:]), median(after)
    within = 2.5 * noise([v for _, v in losses])  # three deviations of a difference between medians of five
    if min(earlier, before) <= 0 or before - now < within:
        return None
    what = f"The loss went from {before:.3g} to {now:.3g} where epoch {border} ended."
    return Seen((before - now) / before - (earlier - before) / earlier, what)


def plateau(run: Run, logs: int) -> Seen | None:
    """Median loss of the last fifth of the steps over that of the fifth before, from 60 % of the steps on."""
    cut, fifth = run.step - run.steps * 0.2, run.steps * 0.2
    losses = run.curves.get("loss", []) if run.losses and run.step >= run.steps * 0.6 else []
    tail, before = [v for s, v in losses if s > cut], [v for s, v in losses if cut - fifth < s <= cut]
    if min(len(tail), len(before)) < logs or median(before) <= 0:
        return None
    what = f"The loss went from {median(before):.4g} to {median(tail):.4g} over the last fifth of the steps."
    return Seen(median(tail) / median(before), what)


def gradient_spike(run: Run, logs: int) -> Seen | None:
    """Times the median gradient norm, of the least of the last three; only above 8 robust standard deviations.

    A norm of 0 is no usual one: that of GRPO is 0 until the first reward.
    """
    norms = run.values("grad_norm")
    before, now = [norm for norm in norms[-4 * logs : -3] if norm], min(norms[-3:], default=0.0)
    if len(before) < logs or now - median(before) <= 8 * 1.4826 * median(abs(v - median(before)) for v in before):
        return None
    return Seen(now / max(median(before), 1e-9), f"The gradient norm is {now:.3g}; {median(before):.3g} was usual.")


def dead_gradients(run: Run, logs: int) -> Seen | None:
    """Share of the last log lines whose gradient norm is 0; at most 0.69 where the reward rose, or the loss fell to 0."""
    norms, losses = run.values("grad_norm")[-logs:], run.losses
    share = norms.count(0.0) / logs if len(norms) == logs else 0.0
    learned = run.gained or (losses and losses[0] > 0 == losses[-1])  # all that there was
    what = f"The gradient is 0 in {share:.0%} of the last {logs} log lines."
    return Seen(min(share, 0.69) if learned else share, what)


def no_learning_rate(run: Run, logs: int) -> Seen | None:
    """Share of the steps after which the learning rate is still 0 or on its way up."""
    rates = run.values("learning_rate")
    reached = rates and max(rates) > 0 and (rates[-1] < max(rates) or rates[-1] <= rates[-logs:][0])
    if len(rates) < logs or reached:
        return None
    return Seen(
        run.step / run.steps,
        f"The learning rate is {rates[-1]:.2g} at step {run.step} of {run.steps}, not at its peak.",
    )


def fitted(run: Run, logs: int) -> Seen | None:
    """1 where the trainer found before step one that its settings do not fit into memory (recipes.probe)."""
    settings = run.probe.get("fitted")
    if not settings:
        return None
    runs = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return Seen(1, f"The config did not fit into memory with the longest rows; it runs with {runs}.")


def cannot_overfit(run: Run, logs: int) -> Seen | None:
    """Share of the loss on 8 rows that is left after 10 to 30 steps on nothing else, before step one; 0 for one below 0.3."""
    seen = run.probe.get("overfit")
    if not seen:
        return None
    before, after = float(seen["before"]), float(seen["after"])
    left = after / (before or 1) if isfinite(after) else inf  # 0: no label is trained at all
    what = (
        f"The loss on {seen['rows']} rows went from {before:.4g} to {after:.4g} in {seen['steps']} steps on them alone."
    )
    return Seen(0 if after < 0.3 else left, what, 0)


def slow(run: Run, logs: int) -> Seen | None:
    """Times its hours that the job will need at its pace; before its first log line, by what its trainer measured."""
    hours = run.spec.hours
    if not run.points and (eta := run.probe.get("eta_s")):
        what = f"Its first steps say that it needs {eta / 60:.0f} min, and it may run {hours * 60:.0f} min."
        return Seen(eta / 3600 / hours, what)
    timed = [p for p in run.points if p.at and p.step]  # what is sampled before step 1 takes its time once
    if len(timed) < logs or timed[-1].step <= timed[0].step:
        return None
    pace = (timed[-1].at - timed[0].at) / (timed[-1].step - timed[0].step)
    needed = pace * run.steps
    what = f"At {pace:.2g} s a step it needs {needed / 60:.0f} min, and it may run {hours * 60:.0f} min."
    return Seen(needed / 3600 / hours, what)


def slowdown(run: Run, logs: int) -> Seen | None:
    """Times the seconds a step of its first log lines that its last ones take; medians, so that evaluations do not count."""
    timed = [p for p in run.points if p.at and "loss" in p.values]
    paces = [(b.at - a.at) / (b.step - a.step) for a, b in pairwise(timed) if b.step > a.step]
    if len(paces) < 2 * logs or median(paces[:logs]) <= 0:
        return None
    first, now = median(paces[:logs]), median(paces[-logs:])
    return Seen(now / first, f"A step takes {now:.2g} s, and took {first:.2g} s at first.")


def idle(run: Run, logs: int) -> Seen | None:
    """Share of a rented GPU that lies idle at all but the busiest twentieth of its last readings; each is a mean over 15 s or more."""
    busy = run.values("gpu_util")[-logs:]
    if len(busy) < logs:
        return None
    most = quantiles(busy, n=20)[-1]
    return Seen(
        1 - most / 100, f"Over the last {logs} readings the GPU was in use for {most:.0f} % of the time at most."
    )


# DPO and its kin


def displacement(run: Run, logs: int) -> Seen | None:
    """Times its first value that the chosen answers' improbability has grown to, while pairs are told apart well enough."""
    first, now = ends(run.values("logps/chosen"), logs)
    told = run.values("rewards/accuracies")[-logs:] or [1.0]  # KTO has no pairs
    if not first or fmean(told) < 0.6 or first - now < 5:
        return None
    return Seen(now / first, f"Chosen answers went from {first:.3g} to {now:.3g} nats, although pairs are told apart.")


def no_preference(run: Run, logs: int) -> Seen | None:
    """Share of the steps after which the right answer of a pair is still preferred in no more than 60 % of cases."""
    told = run.values("rewards/accuracies")[-logs:]
    if len(told) < logs or fmean(told) > 0.6:
        return None
    return Seen(
        run.step / run.steps,
        f"The chosen answer wins {fmean(told):.0%} of the pairs at step {run.step} of {run.steps}.",
    )


# The process


def stalled(run: Run, logs: int) -> Seen | None:
    """Seconds without a log line, once they are `logs` times the longest pause so far."""
    longest = max((b.at - a.at for a, b in pairwise(run.points)), default=None)
    if longest is None or run.life.silent_s < logs * longest:
        return None
    return Seen(
        run.life.silent_s,
        f"Nothing was logged for {run.life.silent_s:.0f} s after step {run.step}; {longest:.2g} s was the longest pause.",
    )


def frozen(run: Run, logs: int) -> Seen | None:
    """Seconds without a heartbeat of a process that is there."""
    return Seen(
        run.life.beatless_s, f"The trainer is there, and has given no sign of life for {run.life.beatless_s:.0f} s."
    )


def said(pattern: str) -> Measure:
    """1 where the job failed with such words."""
    return lambda run, logs: Seen(int(bool(re.search(pattern, run.life.error))), f"It failed: {run.life.error}")


# Arithmetic


def noise(values: Sequence[float]) -> float:
    """The standard deviation of one log line around its trend: robust, from the steps between neighbours.

    The median of |a - b| of two normal values is 0.954 standard deviations.
    """
    return median(abs(b - a) for a, b in pairwise(values)) / 0.954 if len(values) > 1 else 0.0


def ends(values: Sequence[float], logs: int) -> tuple[float, float]:
    """Medians of the first ten and of the last `logs` values; zeros while the two overlap."""
    return (median(values[:10]), median(values[-logs:])) if len(values) >= 10 + logs else (0.0, 0.0)


def lost(values: Sequence[float], logs: int) -> tuple[float, float, float]:
    """(share of the best that is lost, best, now): the mean of the last `logs`, the best mean over 10 before; 0 within noise.

    Where means were below 0, it is the share of the way from the lowest of them.
    """
    if len(values) < 10 + logs:
        return 0.0, 0.0, 0.0
    before, now = [fmean(values[i : i + 10]) for i in range(len(values) - logs - 9)], fmean(values[-logs:])
    best, low = max(before), min(0.0, *before)
    real = best > 0 and best - now > 3 * noise(values) / sqrt(10)
    return ((best - now) / (best - low) if real else 0.0), best, now
