"""What is expected of a job before it runs."""

from math import inf, nan

import pytest

from lab.backend import Point
from lab.forecast import expectation, hindsight, judge

EXPECTS = expectation(0.1, {"metric": "eval_loss", "step": 50, "above": 2.0}, None)


def said(*values: float, over: bool = False, steps: tuple = (25, 50, 75)) -> list[tuple[str, str]]:
    points = [Point(step, {"eval_loss": value}) for step, value in zip(steps, values, strict=False)]
    return [(f.level, f.rule) for f in judge([Point(10, {"loss": 9.0}), *points], EXPECTS, over)]


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ((3.0, 2.5), True),
        ((1.0, nan), True),
        ((1.0, inf), True),
        ((3.0, 2.0), False),  # at the limit is not above it
        ((3.0,), False),  # its step has not come
        ((1.0, 1.0, 3.0), False),  # the first value from the step on decides
    ],
)
def test_the_first_value_at_or_after_the_step_decides(values, stops):
    assert said(*values) == ([("stop", "kill criterion")] if stops else [])


def test_the_step_need_not_be_one_that_is_logged():
    assert said(3.0, 3.0, steps=(49, 60)) == [("stop", "kill criterion")]


def test_a_criterion_that_was_never_tested_is_said_when_all_is_over_and_not_before():
    assert said(3.0) == [] and said(3.0, over=True) == [("warn", "kill criterion")]
    (finding,) = judge([], EXPECTS, over=True)
    assert "the last step is 0" in finding.what and "none came" in finding.advice
    assert judge([], expectation(0.1, None, None), over=True) == [] == judge([], None, over=True)


def test_hindsight_says_how_far_off_it_was():
    assert hindsight(None, 0.1) is None
    assert hindsight(0.1, None) == "Expected was +0.100; nothing was measured."
    assert (hindsight(0.1, 0.03) or "").endswith("+0.030 was measured: the forecast was 0.070 too high.")
    assert "0.130 too low" in (hindsight(-0.1, 0.03) or "") and "was right" in (hindsight(0.1, 0.1) or "")
