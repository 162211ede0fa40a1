"""Say what is wrong with a running job, from its metrics and from what its trainer was really fed. Pure: no clock."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isfinite, log
from statistics import median
from typing import Any

from lab.backend import JobSpec, Point
from lab.findings import Finding

# Thresholds. [H]: a heuristic of ours, held by the galleries of healthy and broken runs in the tests.
DIVERGED_WARN, DIVERGED_STOP = 1.5, 2.0  # times the lowest smoothed loss so far [H]
DIVERGED_FLOOR = 0.5  # nats that the loss must have risen as well: near 0 a ratio means nothing [H]
DIVERGED_NOISE = 4.0  # times the noise of one log line, likewise: small batches over a long run wander by that much [H]
WINDOW = 5  # log lines that a loss is smoothed over: one batch is noise
BAD_START = 1.3  # times ln(vocabulary)-like start of 11 nats; text normally starts at 1 to 6 [H]
TOO_GOOD = 0.98  # mean token accuracy in the first tenth of the steps: a leak, or nothing left to learn [H]
OVERFIT_EVALS = 3  # evaluations in a row with a rising eval_loss while the training loss falls [H]
PLATEAU_FROM, PLATEAU_TAIL, PLATEAU_GAIN = 0.6, 0.2, 0.01  # of the steps, of the steps, relative [H]
STOP_TOKEN_STOP, STOP_TOKEN_WARN = 0.5, 0.99  # share of sampled rows whose last trained token ends the answer
TRUNCATED_STOP, TRUNCATED_WARN = 0.20, 0.05  # share of rows longer than max_length [H]

Rule = Callable[[Sequence[Point], JobSpec, dict[str, Any]], Finding | None]


def diagnose(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> list[Finding]:
    """Everything wrong so far, worst first.

    Args:
        points: All metrics so far, in the order of steps.
        probe: The trainer's preflight.json; {} before it is there.
    """
    found = [finding for rule in RULES if (finding := rule(points, spec, probe))]
    return sorted(found, key=lambda finding: finding.severity, reverse=True)


def not_finite(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    bad = next(((p, k, v) for p in points for k, v in p.values.items() if not isfinite(v)), None)
    if bad is None:
        return None
    point, name, value = bad
    advice = "Halve the learning rate or more, keep gradients clipped, and train in bf16 or fp32."
    return Finding(
        "stop", "not_finite", f"{name} is {value} at step {point.step}.", advice, {"metric": name, "step": point.step}
    )


def divergence(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    losses = _series(points, "loss")
    if len(losses) < 2 * WINDOW:
        return None
    values = [value for _, value in losses]
    smooth = _smoothed(values)
    lowest, now = min(smooth), smooth[-1]
    least = max(DIVERGED_FLOOR, DIVERGED_NOISE * _noise(values))
    if now < DIVERGED_WARN * lowest or now - lowest < least:
        return None
    level = "stop" if now >= DIVERGED_STOP * lowest and now - lowest >= 2 * least else "warn"
    what = f"The loss is {now:.3g} at step {losses[-1][0]}, and its lowest was {lowest:.3g}."
    return Finding(
        level, "divergence", what, "Lower the learning rate or warm up longer.", {"now": now, "lowest": lowest}
    )


def bad_start(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    losses = _series(points, "loss")
    limit = BAD_START * log(50_000)
    if not losses or losses[0][1] < limit:
        return None
    what = f"The first loss is {losses[0][1]:.3g} nats, worse than guessing among 50,000 tokens ({log(50_000):.1f})."
    return Finding(
        "warn", "bad_start", what, "Check that tokenizer, template and weights belong together.", {"loss": losses[0][1]}
    )


def too_good(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    early = [(s, v) for s, v in _series(points, "mean_token_accuracy") if s <= _steps(points, probe) * 0.1]
    if len(early) < 2 or min(v for _, v in early[-2:]) < TOO_GOOD:
        return None
    what = f"Token accuracy is {early[-1][1]:.3f} at step {early[-1][0]} already."
    return Finding(
        "warn",
        "too_good",
        what,
        "Look for the answer inside the prompt, duplicates, or data it has seen.",
        {"step": early[-1][0]},
    )


def all_masked(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    if probe and probe.get("masked_share", 0.0) >= 1.0:
        what = "Every label is masked: there is nothing to learn from."
    else:
        still = [p for p in points if p.values.get("grad_norm") == 0.0 and not p.values.get("loss")]
        if len(still) < 2 or len(still) < sum("grad_norm" in p.values for p in points):
            return None
        what = f"Loss and gradient are 0 in all {len(still)} log lines."
    return Finding(
        "stop", "all_masked", what, "Check the completion column and max_length: the answers may be cut off.", {}
    )


def overfit(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    evals, losses = _series(points, "eval_loss"), _series(points, "loss")
    last = evals[-OVERFIT_EVALS - 1 :]
    rising = len(last) == OVERFIT_EVALS + 1 and all(a[1] < b[1] for a, b in pairwise(last))
    since = [value for step, value in losses if step >= last[0][0]] if rising else []
    if len(since) < 2 or since[-1] >= since[0]:
        return None
    what = (
        f"eval_loss rose from {last[0][1]:.4g} to {last[-1][1]:.4g} in {OVERFIT_EVALS} evaluations while the loss fell."
    )
    return Finding(
        "warn", "overfit", what, "Train shorter, or on more rows; use an earlier checkpoint.", {"from_step": last[0][0]}
    )


def plateau(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    losses, total = _series(points, "loss"), _steps(points, probe)
    if not losses or losses[-1][0] < total * PLATEAU_FROM:
        return None
    cut = losses[-1][0] - total * PLATEAU_TAIL
    tail, before = [v for s, v in losses if s > cut], [v for s, v in losses if cut - total * PLATEAU_TAIL < s <= cut]
    if len(tail) < WINDOW or len(before) < WINDOW or median(tail) < median(before) * (1 - PLATEAU_GAIN):
        return None
    what = f"The loss went from {median(before):.4g} to {median(tail):.4g} over the last fifth of the steps."
    return Finding(
        "info",
        "plateau",
        what,
        "It has learned what this data and learning rate give; change one of them.",
        {"step": losses[-1][0]},
    )


def stop_token_not_trained(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    share = probe.get("stop_token_trained")
    if share is None or share >= STOP_TOKEN_WARN:
        return None
    level = "stop" if share < STOP_TOKEN_STOP else "warn"
    what = f"Only {share:.0%} of the rows end in the stop token {probe.get('stop_token')!r}: the model will not learn to stop."
    return Finding(
        level,
        "stop_token_not_trained",
        what,
        "End completions in the stop token, and raise max_length if they are cut off.",
        {"share": share},
    )


def truncated(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    share = probe.get("truncated_share", 0.0)
    if share <= TRUNCATED_WARN:
        return None
    level = "stop" if share > TRUNCATED_STOP else "warn"
    what = f"{share:.0%} of the rows are longer than max_length; the longest has {probe.get('length_max')} tokens."
    return Finding(
        level, "truncated", what, "Raise max_length to the 95th percentile or drop the long rows.", {"share": share}
    )


def fitted(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    """The trainer's own measurement before step one (see recipes.probe)."""
    settings = probe.get("fitted")
    if not settings:
        return None
    runs = ", ".join(f"{name} = {value}" for name, value in settings.items())
    what = f"The config did not fit into memory with the longest rows; it runs with {runs}."
    return Finding(
        "warn", "fitted", what, "As many rows a step as before, and slower; use these from now on.", settings
    )


def slow(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any]) -> Finding | None:
    timed = [p for p in points if p.at]
    if not points and (eta := probe.get("eta_s", 0.0)) > spec.hours * 3600:
        what = f"Its first steps say that it needs {eta / 60:.0f} min, and it may run {spec.hours * 60:.0f} min."
        return Finding("warn", "slow", what, "Use fewer steps, shorter rows or a faster machine.", {"eta_s": eta})
    if len(timed) < WINDOW or timed[-1].step <= timed[0].step:
        return None
    pace = (timed[-1].at - timed[0].at) / (timed[-1].step - timed[0].step)
    needed, allowed = pace * _steps(points, probe), spec.hours * 3600
    if needed <= allowed:
        return None
    what = f"At {pace:.2g} s a step it needs {needed / 60:.0f} min, and it may run {allowed / 60:.0f} min."
    return Finding("warn", "slow", what, "Use fewer steps, shorter rows or a faster machine.", {"seconds_a_step": pace})


RULES: tuple[Rule, ...] = (
    not_finite, divergence, all_masked, stop_token_not_trained, truncated, fitted, overfit, bad_start, too_good, slow,
    plateau,
)  # fmt: skip


def _series(points: Sequence[Point], name: str) -> list[tuple[int, float]]:
    """(step, value) of one metric where it was logged and is finite."""
    return [(p.step, p.values[name]) for p in points if name in p.values and isfinite(p.values[name])]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Medians over WINDOW values: one bad batch does not move them."""
    return [median(values[max(0, i - WINDOW + 1) : i + 1]) for i in range(WINDOW - 1, len(values))]


def _noise(values: Sequence[float]) -> float:
    """The standard deviation of one log line around its trend: robust, from the steps between neighbours.

    The median of |a - b| of two normal values is 0.954 standard deviations.
    """
    return median(abs(b - a) for a, b in pairwise(values)) / 0.954


def _steps(points: Sequence[Point], probe: dict[str, Any]) -> int:
    """Total steps of the job, as far as anything says so."""
    known = next((p.steps for p in reversed(points) if p.steps), None)
    return known or probe.get("steps") or (points[-1].step if points else 0)
