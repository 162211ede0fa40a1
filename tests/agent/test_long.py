"""Long sessions: everything that a provider does, mixed; memory that stays within the window; helpers; caps."""

import json
import threading
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent.context import NOTICES, SYSTEM, Context
from agent.memory import ASK
from agent.session import Session
from agent.sessions import session_log
from agent.steering import compact, say
from record.events import Asked, Compacted, Finished, Found, Progressed, Replied, Started, Tuned
from record.log import Log
from record.typing import read_typing
from record.views import MAIN, Views
from tests.chat.server import chat_server
from tests.chat.turns import breaks, cut, empty, fails, huge, overflow, proxy_page, raw_arguments, refusal, says, slow

KEY = "sk-of-this-server-and-no-other"


def note(i: Any) -> tuple[str, dict]:
    return "note", {"topic": "step", "text": f"number {i}"}


def drive(settings, new_session, script, own: dict | None = None, **request):
    """Run a session on a script, with settings of its `own`: how it ended, its log, and what the server was asked."""
    with chat_server(script) as server:
        here = replace(settings, api_base=server.base, keys={"ML_INTERN_API_KEY": KEY}, **(own or {}))
        session, journal = new_session(here, driver="openai/scripted", **request)
        closed = Session(here, session).run()
    journal.log.refresh()
    return closed, journal.log, server


def replayed(log: Log, folder: Path) -> list[str]:
    """The messages of each request that was answered, from nothing but the facts that there were when it was made."""
    path = folder / "again.jsonl"
    lines = log.path.read_bytes().splitlines(keepends=True)
    context, found, written = Context(Log(path)), [], 0
    with open(path, "ab", buffering=0) as file:
        for fact in log:
            if isinstance(fact, Replied):
                file.write(b"".join(lines[written : fact.upto]))
                written = fact.upto or 0
                found.append(as_text(context.messages()))
    return found


def as_text(messages: list[dict]) -> str:
    return json.dumps(messages, ensure_ascii=False)


@pytest.mark.slow
def test_three_hundred_steps_survive_everything_that_a_provider_does(settings, new_session, tmp_path):
    """Each kind of trouble comes several times; nothing is lost, nothing is answered twice, and the log says it all."""
    numbers = count()
    trouble = {
        11: fails(429, "slow down", retry_after=0.05), 23: fails(500, "oops"), 37: fails(529, "Overloaded", retry_after=0.05),
        41: cut(after_pieces=2), 53: breaks(), 59: empty(), 61: proxy_page(502), 67: cut(after_pieces=1, clean=True),
        101: overflow(), 139: fails(503, "restarting", retry_after=0.05),
    }  # fmt: skip
    odd = {
        13: says("", ("no_such_tool", {})),
        17: raw_arguments("note", '{"topic": "half'),
        19: says("", ("read_file", {"path": "not/there"}), ("list_files", {}), note("with a failing sibling")),
        29: says("", ("note", '{"topic": "t", "text": "n", }'), note("after a broken one")),
        43: slow(says("one at a time", note("slowly"), pieces=4), 0.05),
        151: huge(2**20),
        173: refusal("I would rather not."),
    }

    def turn() -> Any:
        i = next(numbers)
        if i % 30 == 29:
            say(journal.log, f"Go on, this is message {i}.")  # a person steers, so that this is no circle
        if i == 320:
            return says("", ("final_answer", {"answer": "Nothing was trained."}))
        return trouble.get(i % 160) if i % 160 in trouble else odd.get(i % 160) or says(f"Step {i}.", note(i))

    with chat_server([turn]) as server:
        own = replace(settings, api_base=server.base, keys={"ML_INTERN_API_KEY": KEY})
        session, journal = new_session(own, driver="openai/scripted", calls=300)
        closed = Session(own, session).run()
    log = session_log(settings, session)
    log.refresh()
    views = Views(log)
    assert closed.outcome == "out_of_budget" and "300 model calls" in closed.reason
    assert views.spent.replies == 300 and not views.open_calls()
    calls = [call.id for fact in log if isinstance(fact, Replied) for call in fact.calls]
    answers = Counter(fact.call for fact in log if isinstance(fact, Finished))
    assert len(calls) == len(set(calls)) and answers == Counter(calls)
    wanted = [
        call.arguments["text"]
        for f in log
        if isinstance(f, Replied)
        for call in f.calls
        if call.name == "note" and call.arguments.get("topic") == "step"
    ]
    assert [n.text for n in views.notes if n.topic == "step"] == wanted  # every note once, in order
    found = Counter(fact.rule for fact in log if isinstance(fact, Found))
    assert found["provider"] >= 12
    expected = list(dict.fromkeys(replayed(log, tmp_path)))
    asked = list(dict.fromkeys(as_text(request["messages"]) for request in server.requests))
    assert [text for text in asked if text in expected] == expected  # byte for byte
    others = [text for text in asked if text not in expected and ASK[:40] not in text]
    assert len(others) == 2 == len([f for f in log if isinstance(f, Compacted)])  # those that did not fit the window


def test_the_past_is_summarised_at_nine_tenths_of_the_window_and_the_goal_stays(settings, new_session):
    summaries = count(1)

    def script(request: dict[str, Any]) -> Any:
        messages, last = request["messages"], request["messages"][-1]["content"]
        if last == ASK:
            return says(f"Summary {next(summaries)}.", tokens=None)
        done = sum(message["role"] == "assistant" for message in messages)
        if any("Summary 3." in message["content"] for message in messages):
            return says("That is all.", tokens=None)
        return says("", ("write_file", {"path": f"{done}.txt", "text": "word " * 400}), tokens=None)

    how = {"text": "Make it better, and never use packing.", "own": {"window": 6_000}}
    closed, log, server = drive(settings, new_session, script, **how)
    assert closed.outcome == "needs_person"
    made = [fact for fact in log if isinstance(fact, Compacted)]
    assert [fact.summary for fact in made] == ["Summary 1.", "Summary 2.", "Summary 3."]
    for request in server.requests:
        text = as_text(request["messages"])
        assert "never use packing" in text and request["messages"][0]["content"] == SYSTEM
        assert len(text) / 3 < 6_000 * 1.2  # the one that went over, and the question for a summary
        opened = {call["id"] for message in request["messages"] for call in message.get("tool_calls", [])}
        assert opened == {m["tool_call_id"] for m in request["messages"] if m["role"] == "tool"}


def test_an_overflow_is_met_by_one_summary_and_never_loops(settings, new_session):
    def script(request: dict[str, Any]) -> Any:
        messages = request["messages"]
        if messages[-1]["content"] == ASK:
            return says("In short.", tokens=None)
        return says("", note(len(messages))) if len(messages) < 20 else overflow()

    closed, log, server = drive(settings, new_session, script, calls=40)
    assert closed.outcome in ("out_of_budget", "needs_person")  # it went on after each summary
    assert len([f for f in log if isinstance(f, Compacted)]) >= 2

    closed, log, server = drive(settings, new_session, [says("", note(1)), overflow()])
    assert closed.outcome == "provider_failed" and "does not fit its window" in closed.reason
    assert len(server.requests) <= 6 and len([f for f in log if isinstance(f, Compacted)]) == 1


def test_a_person_may_have_the_memory_shortened(settings, new_session):
    steps = count()

    def script(request: dict[str, Any]) -> Any:
        if request["messages"][-1]["content"] == ASK:
            return says("So far so good.", tokens=(100, 10))
        i = next(steps)
        if i == 6:
            compact(session_log(settings, next((settings.sessions).iterdir()).name))
        return says("", note(i)) if i < 9 else says("Done.")

    _, log, _ = drive(settings, new_session, script)
    (made,) = (fact for fact in log if isinstance(fact, Compacted))
    assert made.summary == "So far so good." and (made.tokens_in, made.tokens_out) == (100, 10)
    assert Views(log).spent.tokens == sum(
        (f.tokens_in or 0) + (f.tokens_out or 0) for f in log if isinstance(f, Replied | Compacted)
    )


def test_another_model_takes_over_when_the_first_cannot_be_asked(settings, new_session):
    def script(request: dict[str, Any]) -> Any:
        return fails(401, "bad key") if request["model"] == "scripted" else says("I am here.")

    closed, log, _ = drive(settings, new_session, script, own={"fallback": "openai/other"})
    assert closed.outcome == "needs_person"
    assert [(f.driver, f.by) for f in log if isinstance(f, Tuned)] == [("openai/other", "the lab")]
    assert {f.model for f in log if isinstance(f, Replied)} == {"openai/other"}


def test_a_driver_in_a_circle_is_told_once_and_then_a_person_is_asked(settings, new_session):
    closed, _, server = drive(settings, new_session, [says("", ("list_files", {}))])
    assert closed.outcome == "needs_person" and "list_files came 3 times in a row" in closed.reason
    assert len(server.requests) == 6
    assert [("going in circles" in as_text(r["messages"])) for r in server.requests] == [False] * 3 + [True] * 3


def test_a_long_output_is_shown_in_part_and_kept_whole(settings, new_session):
    line = "print('x' * 99)\n"
    script = [
        says("", ("write_file", {"path": "a.txt", "text": line * 4000})),
        says("", ("read_file", {"path": "a.txt"})),
        says("Done."),
    ]
    _, log, _ = drive(settings, new_session, script)
    read = next(f for f in log if isinstance(f, Finished) and f.name == "read_file")
    assert len(read.output) < 26_000 and "read on from 25000" in read.output


def scouting(task: str, *acts: Any) -> Any:
    """A script in which the driver sends scouts, and each of those does `acts` in turn."""

    def script(request: dict[str, Any]) -> Any:
        messages = request["messages"]
        done = sum(message["role"] == "assistant" for message in messages)
        if messages[0]["content"] == SYSTEM:
            sent = says("", ("scout", {"task": task}), ("scout", {"task": f"{task} again"}))
            return sent if done == 0 else says("Thanks.")
        return acts[min(done, len(acts) - 1)]

    return script


def test_scouts_look_at_the_same_time_and_report_with_sources_that_they_saw(settings, new_session):
    script = scouting(
        "What files are there?",
        slow(says("", ("final_answer", {"claims": [{"claim": "None.", "source": "memory"}]}), pieces=4), 0.05),
        says("", ("list_files", {}), ("shell", {"command": "touch hacked"})),
        says("", ("final_answer", {"claims": [{"claim": "None.", "source": "somewhere"}]})),
        says("", ("final_answer", {"claims": [{"claim": "There are no files.", "source": "files"}]})),
    )
    _, log, server = drive(settings, new_session, script)
    own = {who: [f for f in log if f.who == who] for who in ("scout-1", "scout-2")}
    for facts in own.values():
        answers = [f.output for f in facts if isinstance(f, Finished)]
        assert "looked up nothing yet" in answers[0]  # no report without a look
        assert "no tool 'shell'" in answers[2]
        assert "'somewhere' is in nothing that you looked up" in answers[3]
        assert answers[4] == "- There are no files. (source: files)"
    main = [f for f in log if isinstance(f, Finished) and f.who == MAIN]
    assert [f.output for f in main] == ["- There are no files. (source: files)"] * 2 and all(f.ok for f in main)
    first, second = (facts[0].seq for facts in own.values())
    last = max(f.seq for f in own["scout-1"])
    assert first < last and second < last  # side by side
    views = Views(log)
    assert views.spent.replies == len(server.requests) and views.counts["scout-1"] == 4
    assert not (log.path.parent / "workspace" / "hacked").exists()
    driver = [r for r in server.requests if r["messages"][0]["content"] == SYSTEM]
    assert "looked up nothing" not in as_text(driver[-1]["messages"])  # its window is not filled by what they read


def test_a_scout_that_never_reports_is_an_answer_and_not_the_end(settings, new_session):
    turns = (says("", ("read_file", {"path": f"{i}.txt"})) for i in count())

    def script(request: dict[str, Any]) -> Any:
        if request["messages"][0]["content"] != SYSTEM:
            return next(turns)
        return says("", ("scout", {"task": "x"})) if len(request["messages"]) == 2 else says("Thanks.")

    closed, log, _ = drive(settings, new_session, script)
    (answer,) = (f for f in log if isinstance(f, Finished) and f.who == MAIN)
    assert closed.outcome == "needs_person" and not answer.ok and "scout-1" in answer.output


def test_no_cap_is_overspent_by_more_than_one_call_however_many_scouts_ask(settings, new_session):
    claim = {"claims": [{"claim": "Nothing.", "source": "files"}]}

    def script(request: dict[str, Any]) -> Any:
        if request["messages"][0]["content"] == SYSTEM:
            tasks = [("scout", {"task": f"task {i}"}) for i in range(4)]
            return says("", *tasks, tokens=(90, 10))
        done = sum(message["role"] == "assistant" for message in request["messages"])
        turn = (
            says("", ("list_files", {}), tokens=(90, 10))
            if done < 3
            else says("", ("final_answer", claim), tokens=(90, 10))
        )
        return slow(turn, 0.02)

    closed, log, _ = drive(settings, new_session, script, tokens=1_050)
    assert closed.outcome == "out_of_budget"
    assert 1_050 <= Views(log).spent.tokens <= 1_150


def test_messages_of_the_runtime_are_told_from_a_persons(settings, new_session):
    _, log, server = drive(settings, new_session, [says("", note(1)), says("Done.")])
    users = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "user"]
    assert len(users) == 3 and all(text.startswith(NOTICES) for text in users[1:])
    assert not [f for f in log if isinstance(f, Asked | Progressed | Started) and f.who != MAIN]


def test_an_answer_can_be_watched_while_it_comes_and_is_gone_when_it_is_a_fact(settings, new_session):
    seen: list[str] = []

    def look(log: Log) -> None:
        while not over.wait(0.05):
            if typed := read_typing(log.path.parent):
                seen.append(typed[0])

    over = threading.Event()
    with chat_server([slow(says("one two three four five", pieces=8), 0.15)]) as server:
        here = replace(settings, api_base=server.base, keys={"ML_INTERN_API_KEY": KEY})
        session, journal = new_session(here, driver="openai/scripted")
        watcher = threading.Thread(target=look, args=(journal.log,))
        watcher.start()
        Session(here, session).run()
        over.set()
        watcher.join()
    assert len({text for text in seen if text}) >= 3
    assert all("one two three four five".startswith(text) for text in seen)
    assert read_typing(journal.log.path.parent) is None
