"""Questions to a session."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from record.events import (
    Asked,
    Budget,
    Call,
    Closed,
    Decided,
    Ended,
    Finished,
    Goal,
    Halted,
    Launched,
    Opened,
    Progressed,
    Queued,
    Renamed,
    Replied,
    Said,
    Shared,
    Tuned,
)
from record.journal import Journal
from record.log import Log
from record.views import Views

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def opened(**budget) -> Opened:
    return Opened(
        session="s", goal=Goal(text="t", task="chains", model="m"), budget=Budget(**budget), driver="autopilot", at=NOW
    )


def launched(job: str, at: datetime = NOW, attempt: int = 1) -> Launched:
    return Launched(
        job=job, recipe="sft", config={}, machine="cpu", hours=1, folder=f"jobs/{job}", at=at, attempt=attempt
    )


def numbered(*facts) -> Views:
    return Views(fact.model_copy(update={"seq": i}) for i, fact in enumerate(facts, start=1))


def test_calls_without_an_answer_are_what_a_restart_has_to_finish():
    reply = Replied(calls=(Call(id="a", name="x", arguments={}), Call(id="b", name="x", arguments={})), model="m")
    views = numbered(opened(), reply, Finished(call="a", name="x", ok=True, output="", seconds=0))
    assert [call.id for call in views.open_calls()] == ["b"]


def test_a_question_waits_until_somebody_decides():
    asked = Asked(call="a", name="train", arguments={}, reason="it costs")
    assert [q.call for q in numbered(opened(), asked).waiting] == ["a"]
    assert numbered(opened(), asked, Decided(call="a", allow=False)).waiting == []


@pytest.mark.parametrize(
    ("facts", "active", "settled"),
    [
        ((), True, False),
        ((Closed(outcome="done", reason=""),), False, True),
        ((Halted(),), False, False),  # somebody still has to let jobs save and write the report
        ((Halted(), Closed(outcome="stopped", reason="")), False, True),
        ((Closed(outcome="done", reason=""), Said(text="go on")), True, False),
        ((launched("j"), Closed(outcome="stopped", reason="")), False, False),  # a job still saves
    ],
)
def test_a_session_is_active_or_settled(facts, active, settled):
    views = numbered(opened(), *facts)
    assert (views.active, views.settled) == (active, settled)


def test_every_cap_ends_a_session_in_words():
    later = NOW + timedelta(hours=2)
    assert "wall clock budget of 1 h" in (numbered(opened(hours=1)).over(later) or "")
    assert numbered(opened(hours=3)).over(later) is None
    waits = numbered(opened(job_hours=1), launched("j"), Queued(job="j", place=1, at=NOW))
    assert waits.over(later) is None  # waiting for the machine is no run time
    waits.add(Queued(job="j", place=0, at=NOW, seq=4))
    assert "job budget of 1 h" in (waits.over(later) or "")  # a running job counts up to now
    spent = Replied(model="m", tokens_in=600, tokens_out=500, dollars=2.5)
    assert "$2.50 of $2.00" in (numbered(opened(dollars=2), spent).over(NOW) or "")
    assert "1,100 of 1,000 tokens" in (numbered(opened(tokens=1000), spent).over(NOW) or "")


def test_an_unknown_price_is_counted_as_unknown():
    views = numbered(opened(), Replied(model="m", dollars=None), Replied(model="m", dollars=0.5))
    assert (views.spent.dollars, views.spent.unpriced) == (0.5, 1)


def test_attempts_of_a_job_are_one_job_with_all_its_run_time():
    ended = Ended(job="j", state="failed", seconds=10)
    views = numbered(
        opened(), launched("j"), ended, launched("j", attempt=2), Ended(job="j", state="done", seconds=5, attempt=2)
    )
    assert list(views.jobs) == ["j"]
    assert (views.jobs["j"].attempt, views.jobs["j"].seconds, views.spent.job_seconds) == (2, 15, 15)


def test_a_journal_folds_what_other_processes_append(tmp_path: Path):
    mine, other = Journal(Log(tmp_path / "e.jsonl")), Log(tmp_path / "e.jsonl")
    mine.append(opened())
    other.append(Said(text="hello"))
    assert mine.views.said_at == 2
    assert mine.wait(lambda views: views.said_at == 2, timeout=0)


def test_a_step_may_bring_its_metrics_in_two_parts():
    loss = Progressed(job="j", step=50, values={"loss": 1.0})
    views = numbered(opened(), launched("j"), loss)
    job = views.jobs["j"]
    assert job.has(49, ["loss"]) and job.has(50, ["loss"])
    assert not job.has(50, ["eval_loss"]) and not job.has(51, ["loss"])
    views.add(Progressed(job="j", step=50, values={"eval_loss": 1.0}))
    assert job.has(50, ["eval_loss"])


def test_a_person_changes_the_terms_and_what_they_leave_out_stays():
    views = numbered(opened(hours=1), Tuned(budget=Budget(dollars=3)), Tuned(driver="m", effort="low"))
    assert (views.budget, views.approval, views.driver, views.effort) == (Budget(dollars=3), "auto", "m", "low")
    assert views.drivers == ["autopilot", "m"]
    views = numbered(opened(), Renamed(title="Chains"), Shared(public=True), Shared(public=False))
    assert (views.title, views.public) == ("Chains", False)


DONE = Closed(outcome="done", reason="")
HALT = Halted()


@pytest.mark.parametrize(
    ("facts", "active"),
    [
        ((Replied(model="m", upto=1), Said(text="also X"), DONE), True),  # the driver ended without having read it
        ((Said(text="also X"), Replied(model="m", upto=2), DONE), False),
        ((Replied(model="m", upto=1), Said(text="also X"), DONE, Replied(model="m", upto=3), DONE), False),
        ((HALT, Said(text="go on"), Closed(outcome="stopped", reason="")), True),  # a stop is over when they speak
        ((Said(text="hm"), HALT, Closed(outcome="stopped", reason="")), False),
        ((Replied(model="m", upto=1), Said(text="more"), Closed(outcome="out_of_budget", reason="")), False),
    ],
)
def test_words_that_come_while_a_session_ends_are_not_lost(facts, active):
    views = numbered(opened(), *facts)
    assert (views.active, views.settled) == (active, not active)


def test_an_effort_can_go_back_to_the_models_own():
    assert numbered(opened(), Tuned(effort="high"), Tuned(effort="default")).effort is None
