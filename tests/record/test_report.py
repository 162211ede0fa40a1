"""What a person reads at the end."""

from record.events import (
    Budget,
    Closed,
    Ended,
    Expectation,
    Goal,
    Launched,
    Noted,
    Opened,
    Promoted,
    Said,
    Scored,
    Seal,
    Tuned,
)
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


def test_forecasts_stand_beside_what_came_and_only_where_there_are_any():
    def launched(job: str, expects: Expectation | None) -> Launched:
        return Launched(
            job=job, recipe="sft", config={}, machine="m", hours=1, idea="try", expects=expects, folder=f"jobs/{job}"
        )

    assert "Forecasts" not in report([opened(), launched("sft-1", None), KEEP])
    kept = KEEP.model_copy(update={"expected": 0.2, "delta": 0.05, "low": 0.01, "high": 0.09})
    ended = Ended(job="sft-1", state="done", seconds=40)
    first, second = Expectation(delta=0.2, hours=0.5), Expectation(delta=-0.1)
    text = report([opened(), launched("sft-1", first), ended, kept, launched("sft-2", second)])
    assert "| sft-1 | try | +0.200 | +0.050 [+0.010, +0.090] | 30.0 min | 40 s |" in text
    assert "| sft-2 | try | -0.100 | not measured | not known | 0 s |" in text


def test_a_session_that_works_again_is_not_called_finished():
    text = report([opened(), Closed(outcome="done", reason="It is 1.0.", seq=2), Said(text="go on", seq=3)])
    assert "Still running" in text and "Finished" not in text and "Wall clock -" not in text
