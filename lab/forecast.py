"""What is expected of a training job before it runs: checked, run as its kill criterion, compared with what came. Pure."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from lab.backend import Point
from lab.errors import BadInput
from lab.findings import Finding
from record.events import Expectation

RULE = "kill criterion"
KILL = ("metric", "step", "above")


def expectation(gain: Any, kill: Mapping[str, Any] | None, hours: float | None) -> Expectation:
    """The forecast of a launch. `hours` is the lab's own estimate of its run time.

    Raises:
        BadInput: A gain that no score can make, or a kill criterion that cannot be run.
    """
    if not _is_number(gain) or not -1 <= gain <= 1:
        raise BadInput(
            f"The expected gain is {gain!r}; give the change of the dev score against the best so far, from -1 to 1."
        )
    if not kill:
        return Expectation(delta=gain, hours=hours)
    metric, step, above = (kill.get(name) for name in KILL)
    good = isinstance(metric, str) and metric and isinstance(step, int) and step > 0 and _is_number(above)
    if not good or set(kill) != set(KILL):
        raise BadInput(
            f'The kill criterion is {dict(kill)!r}; give it like {{"metric": "eval_loss", "step": 50, "above": 2.0}}.'
        )
    return Expectation(delta=gain, hours=hours, kill_metric=metric, kill_step=step, kill_above=above)


def judge(points: Sequence[Point], expects: Expectation | None, over: bool) -> list[Finding]:
    """What the kill criterion says: stop at the first point at or after its step, a warning if none came when it is `over`."""
    if expects is None or expects.kill_metric is None or expects.kill_step is None or expects.kill_above is None:
        return []
    name, step, above = expects.kill_metric, expects.kill_step, expects.kill_above
    tested = next((p for p in points if p.step >= step and name in p.values), None)
    evidence: dict[str, Any] = {"metric": name, "kill_step": step, "kill_above": above}
    if tested is None:
        return [_untested(points, name, step, evidence)] if over else []
    value = tested.values[name]
    if isfinite(value) and value <= above:
        return []
    what = f"{name} is {value:.4g} at step {tested.step}, and was to be at most {above:g} from step {step} on."
    advice = "The forecast does not hold: try another idea, or say why the limit was wrong."
    return [Finding("stop", RULE, what, advice, evidence | {"step": tested.step, "value": value})]


def _untested(points: Sequence[Point], name: str, step: int, evidence: dict[str, Any]) -> Finding:
    last = points[-1].step if points else 0
    names = sorted({metric for point in points for metric in point.values})
    what = f"No {name} came at or after step {step}, so the kill criterion was never tested; the last step is {last}."
    advice = f"Name a metric that the recipe logs ({', '.join(names) or 'none came'}) and a step that it reaches."
    return Finding("warn", RULE, what, advice, evidence | {"last_step": last})


def hindsight(expected: float | None, measured: float | None) -> str | None:
    """How far off a forecast was, in one sentence; None without a forecast."""
    if expected is None:
        return None
    if measured is None:
        return f"Expected was {expected:+.3f}; nothing was measured."
    off = expected - measured
    how = "right" if abs(off) < 0.0005 else f"{abs(off):.3f} too {'high' if off > 0 else 'low'}"
    return f"Expected was {expected:+.3f}, and {measured:+.3f} was measured: the forecast was {how}."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
