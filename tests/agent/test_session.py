"""A session's ways to begin, wait, stop and go on; driven by a scripted model over real HTTP, with real tools."""

import threading
from dataclasses import replace

import pytest

from agent.session import Busy, Session
from agent.sessions import state_of
from agent.settings import SettingsError
from agent.steering import decide, halt, say
from lab.backend import write_json
from record.events import Asked, Call, Closed, Finished, Launched, Replied, Started
from tests.chat.server import chat_server
from tests.chat.turns import says

QUIET = says("Nothing more to do.")


@pytest.fixture
def driven(settings, new_session):
    """Run a session in a thread on a script of turns; gives its journal and a function that waits for its end."""
    servers = []

    def go(*turns, **request):
        server = chat_server(turns)
        servers.append(server)
        own = replace(settings, api_base=server.__enter__().base)
        session, journal = new_session(own, driver="openai/scripted", **request)
        ended: list[Closed] = []
        thread = threading.Thread(target=lambda: ended.append(Session(own, session).run()), daemon=True)
        thread.start()

        def end() -> Closed:
            thread.join(60)
            return ended[0]

        return journal, end

    yield go
    for server in servers:
        server.__exit__(None, None, None)


def seen(journal, done) -> None:
    assert journal.wait(done, 30), [f.kind for f in journal.log]


def test_a_stop_ends_a_command_answers_its_call_and_closes_the_session(driven):
    journal, end = driven(says("", ("shell", {"command": "echo $$ > pid; sleep 300"})), QUIET)
    seen(journal, lambda views: views.started)
    halt(journal.log, reason="enough")
    assert end().outcome == "stopped"
    views = journal.views
    assert not views.open_calls() and views.settled and state_of(views) == "stopped"
    assert (journal.log.path.parent / "report.md").read_text().startswith("# ")


def test_a_message_after_the_end_goes_on_where_it_was(driven, settings):
    journal, end = driven(QUIET)
    assert end().outcome == "needs_person"
    say(journal.log, "note it down")
    assert journal.views.active
    with chat_server([says("", ("note", {"topic": "t", "text": "noted"})), QUIET]) as server:
        own = replace(settings, api_base=server.base)
        assert Session(own, journal.log.path.parent.name).run().outcome == "needs_person"
        asked = server.requests[0]["messages"]
    assert [m["content"] for m in asked if m["role"] == "user"][-1] == "note it down"
    assert [n.text for n in journal.views.notes] == ["noted"]


@pytest.mark.parametrize("allow", [True, False])
def test_what_the_gate_asks_waits_for_a_decision_which_may_edit_it(driven, allow):
    call = ("train", {"config": {"data": "data/none.jsonl"}, "idea": "try", "expected_gain": 0.1})
    journal, end = driven(says("", call), QUIET, approval="ask")
    seen(journal, lambda views: views.waiting)
    (asked,) = journal.views.waiting
    assert isinstance(asked, Asked) and state_of(journal.views) == "waiting for you"
    edited = {"config": {"data": "data/edited.jsonl"}, "idea": "try", "expected_gain": 0.1}
    decide(journal.log, asked.call, allow, edited if allow else None)
    end()
    answer = journal.views.finished[asked.call]
    assert ("edited.jsonl" in answer.output) == allow and ("denied" in answer.output) != allow
    with pytest.raises(SettingsError, match="decided already"):
        decide(journal.log, asked.call, True)


def test_a_restart_answers_open_calls_and_does_not_repeat_a_command(driven, settings, new_session):
    keyed = replace(settings, keys={"OPENAI_API_KEY": "sk-of-a-person"})
    session, journal = new_session(keyed, driver="openai/scripted")
    calls = (
        Call(id="a", name="shell", arguments={"command": "touch twice"}),
        Call(id="b", name="note", arguments={"topic": "t", "text": "again"}),
    )
    journal.append(Replied(calls=calls, model="m"), Started(call="a", name="shell", arguments=calls[0].arguments))
    with chat_server([QUIET]) as server:
        Session(replace(settings, api_base=server.base), session).run()
    finished = journal.views.finished
    assert (finished["a"].ok, finished["b"].ok) == (False, True)
    assert "restart" in finished["a"].output
    assert not (settings.sessions / session / "workspace" / "twice").exists()
    assert sum(isinstance(f, Finished) for f in journal.log) == 2


def test_a_session_has_one_owner_at_a_time(driven, settings):
    journal, end = driven(says("", ("shell", {"command": "sleep 300"})), QUIET)
    seen(journal, lambda views: views.started)
    with pytest.raises(Busy):
        Session(settings, journal.log.path.parent.name).run()
    halt(journal.log)
    end()


def test_a_session_that_was_stopped_while_nobody_owned_it_is_closed_by_the_next_owner(settings, new_session):
    session, journal = new_session()
    halt(journal.log)
    assert Session(settings, session).run().outcome == "stopped"
    assert journal.views.settled
    facts = len(journal.log)
    assert Session(settings, session).run().outcome == "stopped"  # and a settled one is left alone
    assert len(journal.log) == facts


def test_keys_do_not_reach_a_command(driven, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_this_is_the_token_of_a_person")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-this-is-another")
    journal, end = driven(
        says("", ("shell", {"command": "echo [${HF_TOKEN:-none}] [${ANTHROPIC_API_KEY:-none}]"})), QUIET
    )
    end()
    journal.log.refresh()
    (ran,) = (f for f in journal.log if isinstance(f, Finished))
    assert "[none] [none]" in ran.output  # not even masked: it was never there


def test_an_error_of_ours_in_the_policy_is_not_the_providers(settings, new_session):
    session, journal = new_session()
    broken = Call(id="c1", name="evaluate", arguments={"split": "dev"})  # the policy looks for a model in it
    answer = Finished(call="c1", name="evaluate", ok=True, output="{}", seconds=0)
    journal.append(Replied(calls=(broken,), model="m"), answer)
    closed = Session(settings, session).run()
    assert closed.outcome == "failed" and "an error of ours" in closed.reason


def test_an_owner_killed_while_jobs_saved_leaves_one_ending(settings, new_session):
    session, journal = new_session()
    job = Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1.0, folder="jobs/sft-1")
    journal.append(job, Closed(outcome="stopped", reason="a person said stop"))
    folder = settings.sessions / session / "jobs" / "sft-1"
    folder.mkdir()
    write_json(folder / "job.json", {"job": "sft-1", "recipe": "sft", "hours": 1.0, "attempt": 1})
    write_json(folder / "exit.json", {"state": "cancelled", "seconds": 1.0})  # it had saved meanwhile
    assert Session(settings, session).run().outcome == "stopped"
    journal.log.refresh()
    assert [f.kind for f in journal.log if f.kind in ("closed", "ended")] == ["closed", "ended"]


def test_a_job_that_never_started_is_cancelled_with_its_session(settings, new_session):
    session, journal = new_session()
    journal.append(Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1.0, folder="jobs/sft-1"))
    halt(journal.log)  # and then everything died, before the job was started
    assert Session(settings, session).run().outcome == "stopped"
    views = journal.views
    assert views.settled and views.jobs["sft-1"].ended.state == "cancelled"
