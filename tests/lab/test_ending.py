"""When a driver may end its session."""

from datetime import UTC, datetime, timedelta

import pytest

from lab.clock import room
from lab.ending import TOO_EARLY, too_early
from record.events import Budget, Ended, Finished, Goal, Launched, Opened, Said, Scored, Seal
from record.views import Views

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def opened(driver: str = "openai/x", target: float | None = 0.9, **more) -> Opened:
    goal = Goal(text="t", task="chains", model="m", target=target)
    return Opened(session="s", goal=goal, budget=Budget(hours=1), driver=driver, at=NOW, **more)


def trained(seconds: float = 300.0) -> list:
    sft = Launched(job="sft-1", recipe="sft", config={}, machine="cpu", hours=1, folder="jobs/sft-1", at=NOW)
    return [sft, Ended(job="sft-1", state="done", seconds=seconds, at=NOW)]


def score(value: float) -> Scored:
    return Scored(
        model="base", benchmark="chains", split="heldout", metric="accuracy", value=value, low=value, high=value, n=400,
        items="i", seal=Seal(judge="a", split="b", model="c"), job="e",
    )  # fmt: skip


REFUSED = Finished(call="c", name="final_answer", ok=False, output=f"{TOO_EARLY}: …", seconds=0)


def ask(*facts, minutes: float = 10) -> str | None:
    numbered = [fact.model_copy(update={"seq": seq}) for seq, fact in enumerate(facts, start=1)]
    views = Views(numbered)
    return too_early(views, numbered, room(views, NOW + timedelta(minutes=minutes)))


def test_an_early_end_is_refused_with_what_is_left_and_what_an_idea_takes():
    why = ask(opened(), *trained(), score(0.4))
    assert why and why.startswith(TOO_EARLY) and "46 min are free" in why and "takes about 7 min" in why


@pytest.mark.parametrize(
    ("facts", "minutes"),
    [
        ([opened(), *trained(), score(0.95)], 10),  # the target is reached
        ([opened(), *trained(), score(0.4)], 50),  # another idea does not fit
        ([opened(), *trained(2400), score(0.4)], 10),
        ([opened(), *trained(), score(0.4), Said(text="that is enough")], 10),  # a person is there
        ([opened(), *trained(), score(0.4), REFUSED, REFUSED], 10),  # it insists
        ([opened(driver="autopilot"), *trained(), score(0.4)], 10),  # its list of ideas is over
        ([opened(approval="ask"), *trained(), score(0.4)], 10),  # not autonomous
    ],
)
def test_an_end_is_granted(facts, minutes):
    assert ask(*facts, minutes=minutes) is None


def test_one_refusal_is_not_insisting_and_a_new_idea_begins_anew():
    assert ask(opened(), *trained(), score(0.4), REFUSED)
    assert ask(opened(), *trained(), score(0.4), REFUSED, REFUSED, *trained())
