"""What a person reads at the end."""

from record.events import Budget, Closed, Goal, Noted, Opened, Promoted, Scored, Seal, Tuned
from record.report import report


def opened() -> Opened:
    goal = Goal(text="Do it", task="chains", model="m", target=0.9)
    return Opened(session="s", goal=goal, budget=Budget(hours=1), driver="autopilot", seq=1)


def score(model: str, value: float, judge: str = "a") -> Scored:
    return Scored(
        model=model, benchmark="chains", split="heldout", metric="accuracy", value=value, low=value - 0.01, high=value,
        n=400, items="jobs/e/items.jsonl", seal=Seal(judge=judge, split="b", model="c"), job="e",
    )  # fmt: skip


KEEP = Promoted(model="sft-1", verdict="keep", against="base", reason="Better.")


def test_what_the_driver_wrote_is_said_to_be_its_own_words():
    text = report([opened(), Noted(topic="data", text="It reached 0.99."), Closed(outcome="done", reason="It is 1.0.")])
    outcome, own = text.split("## Notes of the driver")
    assert "It is 1.0." not in outcome and "It reached 0.99." in own and "It is 1.0." in own
    assert own.count("not checked") == 2


def test_the_reason_of_another_ending_is_ours_and_stands_at_the_top():
    text = report([opened(), Closed(outcome="out_of_budget", reason="the hours are used up")])
    assert "**Ended by its budget.** the hours are used up" in text and "summary" not in text


def test_scores_of_different_judges_are_not_compared():
    same = report([opened(), score("base", 0.1), KEEP, score("sft-1", 0.95)])
    assert "**0.950 [0.940, 0.950], n = 400**" in same and "is reached" in same
    other = report([opened(), score("base", 0.1), KEEP, score("sft-1", 0.95, judge="z")])
    assert "cannot be compared" in other and "reached" not in other


def test_every_driver_is_named():
    text = report([opened(), Tuned(driver="anthropic/m")])
    assert "driven by Autopilot, a fixed policy without a language model and the model anthropic/m" in text
