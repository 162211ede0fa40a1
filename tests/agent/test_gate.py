"""What may run."""

import pytest

from agent.gate import judge
from record.events import Budget, Goal, Opened
from record.views import Views


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
    assert judge(effect, price, views(cap, approval)).kind == expected
