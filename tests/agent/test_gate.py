"""What may run."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.gate import judge
from record.events import Budget, Ended, Goal, Launched, Opened, Queued
from record.views import Views

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def views(dollars: float | None = None, approval: str = "auto") -> Views:
    goal = Goal(text="t", task="chains", model="m")
    opened = Opened(session="s", goal=goal, budget=Budget(dollars=dollars), driver="autopilot", approval=approval)  # type: ignore[arg-type]
    return Views([opened])


@pytest.mark.parametrize(
    ("effect", "price", "cap", "approval", "expected"),
    [
        ("read", 0.0, None, "ask", "allow"),
        ("write", 0.0, None, "ask", "allow"),
        ("spend", 0.0, None, "auto", "allow"),
        ("spend", 0.0, None, "ask", "ask"),
        ("spend", 3.0, 2.0, "auto", "deny"),
        ("spend", None, 2.0, "auto", "ask"),
        ("publish", 0.0, None, "auto", "ask"),
        (None, 0.0, None, "auto", "deny"),
    ],
)
def test_the_effect_the_price_and_the_caps_decide(effect, price, cap, approval, expected):
    assert judge(effect, price, views(cap, approval), NOW).kind == expected


def test_what_a_running_job_may_still_cost_is_not_spent_twice():
    seen = views(2.0)
    job = {"job": "sft-1", "recipe": "sft", "config": {}, "machine": "m", "folder": "jobs/sft-1"}
    seen.add(Launched(**job, hours=3.0, price=0.4, seq=2, at=NOW))
    assert judge("spend", 0.9, seen, NOW).kind == "deny"  # 1.20 of the 2.00 are promised
    assert judge("spend", 0.7, seen, NOW).kind == "allow"
    seen.add(Queued(job="sft-1", place=0, seq=3, at=NOW))
    hour = NOW + timedelta(hours=1)
    assert (seen.dollars(hour), seen.committed_dollars(hour)) == pytest.approx((0.4, 0.8))
    assert judge("spend", 0.9, seen, hour).kind == "deny"  # it ran, and its promise is as much less
    seen.add(Ended(job="sft-1", state="done", seconds=3600, dollars=0.4, seq=4, at=hour))
    assert (seen.dollars(hour), seen.committed_dollars(hour)) == (0.4, 0.0)
    assert judge("spend", 0.9, seen, hour).kind == "allow"
