"""What a person does to a session that is there."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.context import Context
from agent.gate import judge
from agent.session import Session
from agent.settings import SettingsError
from agent.steering import Terms, compact, delete, fork, halt, rename, say, share, tune, undo
from lab.backend import write_json
from record.events import Budget, Closed, Launched, Opened, Replied, Said, Tuned
from record.journal import Journal
from record.log import Log

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
JOB = Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1.0, folder="jobs/sft-1")


def over(journal) -> None:
    journal.append(Closed(outcome="done", reason="it is done"))


def test_a_title_is_one_line_and_not_empty(new_session):
    _, journal = new_session()
    rename(journal.log, "  Chains,\n again ")
    assert journal.views.title == "Chains, again"
    for bad in ("", " ", "x" * 300):
        with pytest.raises(SettingsError, match=str(len(bad.strip()))):
            rename(journal.log, bad)


def test_sharing_twice_is_one_fact(new_session):
    _, journal = new_session()
    share(journal.log, True)
    share(journal.log, True)
    assert journal.views.public and len(journal.log) == 2
    share(journal.log, False)
    assert not journal.views.public


def test_terms_change_one_by_one_and_a_cap_can_be_taken_away(settings, new_session):
    _, journal = new_session(hours=1.0)
    tune(settings, journal.log, Terms(budget={"dollars": 3}))
    tune(settings, journal.log, Terms(budget={"hours": None}, approval="always"))
    views = journal.views
    assert (views.budget, views.approval) == (Budget(dollars=3), "always")
    assert judge("write", 0.0, views, NOW).kind == "ask" and judge("read", 0.0, views, NOW).kind == "allow"
    before = len(journal.log)
    tune(settings, journal.log, Terms(budget={"dollars": 3}, approval="always", driver="autopilot"))
    assert len(journal.log) == before  # nothing is new
    for bad, word in (
        (Terms(budget={"hours": 0}), "hours is 0"),
        (Terms(budget={"euros": 1}), "euros"),
        (Terms(driver="nobody/x"), "nobody/x"),
        (Terms(driver="anthropic/x"), "ANTHROPIC_API_KEY"),
    ):
        with pytest.raises(SettingsError, match=word):
            tune(settings, journal.log, bad)


def test_the_last_turn_is_taken_back_and_then_the_one_before(new_session):
    _, journal = new_session()
    with pytest.raises(SettingsError, match="stop it first"):
        undo(journal.log)
    over(journal)
    for text in ("one", "two"):
        say(journal.log, text)
        journal.append(Replied(text="ok", model="m"))
        over(journal)
    first = journal.views.turns[0]
    undo(journal.log)
    assert journal.views.turns == [first] and journal.views.settled
    undo(journal.log)
    with pytest.raises(SettingsError, match="no turn"):
        undo(journal.log)


def test_the_clock_stands_still_while_nobody_works(new_session):
    _, journal = new_session(hours=1.0)
    opened = journal.views.opened
    hours = [opened.at + timedelta(hours=h) for h in (0.5, 10, 10.25, 20)]
    for fact, at in zip((Closed(outcome="done", reason=""), Said(text="more")), hours[:2], strict=True):
        journal._views.add(fact.model_copy(update={"at": at, "seq": len(journal.log) + 1}))
    views = journal._views
    assert views.elapsed_s(hours[2]) == 0.75 * 3600 and views.over(hours[2]) is None
    assert "wall clock" in (views.over(hours[3]) or "")


def test_a_fork_has_the_history_and_the_files_stands_still_and_is_private(settings, new_session):
    session, journal = new_session()
    folder = settings.sessions / session
    (folder / "workspace" / "notes.txt").write_text("hello")
    (folder / "jobs" / "sft-1").mkdir()
    write_json(folder / "jobs" / "sft-1" / "job.json", {"attempt": 1})
    journal.append(JOB, Replied(text="I train.", model="m"))
    share(journal.log, True)
    journal.log.refresh()
    new = fork(settings, journal.log)
    views = Journal(Log(settings.sessions / new / "events.jsonl")).views
    assert views.opened.session == new and views.title.endswith("(fork)") and not views.public
    assert views.jobs["sft-1"].ended.state == "cancelled" and not views.active and not journal.views.halted
    assert (settings.sessions / new / "workspace" / "notes.txt").read_text() == "hello"
    assert not (settings.sessions / new / "jobs" / "sft-1").exists()  # it runs in the old one
    assert Session(settings, new).run().outcome == "stopped"
    halt(journal.log)


def test_a_session_is_deleted_when_it_is_over(settings, new_session):
    session, journal = new_session()
    with pytest.raises(SettingsError, match="stop it first"):
        delete(settings, journal.log)
    over(journal)
    delete(settings, journal.log)
    assert not (settings.sessions / session).exists() and not list(settings.sessions.iterdir())
    assert isinstance(journal.log[0], Opened)


def test_a_fraction_of_a_token_is_refused_and_not_stored_as_none(settings, new_session):
    _, journal = new_session()
    with pytest.raises(SettingsError, match="budget of tokens is 0"):
        tune(settings, journal.log, Terms(budget={"tokens": 0.5}))
    tune(settings, journal.log, Terms(budget={"tokens": 10.7}))
    assert journal.views.budget.tokens == 10


def test_compaction_is_refused_where_there_is_no_memory_and_asked_for_once(settings, new_session):
    _, journal = new_session()
    with pytest.raises(SettingsError, match="fixed policy"):
        compact(journal.log)
    journal.log.append(Tuned(driver="openai/x"))
    with pytest.raises(SettingsError, match="nothing to compact"):
        compact(journal.log)
    journal.log.append(Replied(model="openai/x", text="hi"))
    compact(journal.log)
    before = len(journal.log)
    compact(journal.log)
    assert len(journal.log) == before


def test_a_fork_copies_no_folder_of_a_job_that_began_meanwhile(settings, new_session):
    session, journal = new_session()
    over(journal)
    late = settings.sessions / session / "jobs" / "sft-9"
    late.mkdir()
    write_json(late / "job.json", {"attempt": 1})  # launched after the fork had read the log
    copy = settings.sessions / fork(settings, journal.log)
    assert not (copy / "jobs" / "sft-9").exists() and (copy / "jobs").is_dir()


def test_a_fork_at_a_fact_knows_nothing_that_was_said_after_it(settings, new_session):
    _, journal = new_session()
    first, second = journal.append(Said(text="first"), Said(text="second"))
    over(journal)
    copy = settings.sessions / fork(settings, journal.log, at=first.seq)
    told = [m["content"] for m in Context(Log(copy / "events.jsonl")).messages()]
    assert "first" in told and "second" not in told
    with pytest.raises(SettingsError, match="no fact 999"):
        fork(settings, journal.log, at=999)
    assert second.seq == first.seq + 1
