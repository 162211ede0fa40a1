"""A session driven by a model, killed at any moment: what goes to the model stays valid, and nothing happens twice."""

import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from agent.session import Session
from agent.settings import Settings
from record.events import Call, Closed, Finished, Noted, Replied
from tests.chat.server import chat_server
from tests.chat.turns import says, slow
from tests.conftest import forks

KILLS = 50
INTERRUPTED = "A restart interrupted this call"


def work(settings: Settings, session: str) -> None:
    """What a worker does with a session, in a process of its own."""
    Session(settings, session).run()


def step(request: dict[str, Any], last: bool) -> Any:
    """The next step; two thirds of them leave something behind that cannot be taken back."""
    messages = request["messages"]
    check_history(messages)
    if last:
        return says("That was all.")
    i = sum(message["role"] == "assistant" for message in messages)
    act = ("shell", {"command": f"echo {i} >> effects.txt; sleep 0.05"})
    note = ("note", {"topic": "step", "text": f"number {i}"})
    calls = {0: [act], 1: [note, ("list_files", {}), ("list_files", {})], 2: [note, act]}[i % 3]
    return slow(says(f"Step {i}.", *calls), 0.01)


def check_history(messages: list[dict[str, Any]]) -> None:
    """Raise where a provider would refuse: a call without its one answer right after it, an answer without its call."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, f"{waiting} have no answer before {message}"
        waiting = [call["id"] for call in message.get("tool_calls", [])]
    assert not waiting


@pytest.mark.slow
def test_fifty_kills_leave_a_valid_history_and_no_effect_twice(settings, new_session):
    ours = forks("tests.warm", __name__)
    moments, kills = random.Random(7), 0
    with chat_server(lambda request: step(request, last=kills >= KILLS)) as server:
        own = replace(settings, api_base=server.base, keys={"ML_INTERN_API_KEY": "sk-of-this-server"})
        session, journal = new_session(own, driver="openai/scripted")
        while not journal.views.settled:
            worker = ours.Process(target=work, args=(own, session))
            worker.start()
            if kills < KILLS:
                before = len(journal.log)
                journal.wait(lambda views: len(journal.log) > before or views.settled, 30)  # noqa: B023  (it is read now)
                time.sleep(moments.uniform(0, 0.12))
                worker.kill()
                kills += 1
            worker.join(120)
            assert worker.exitcode is not None
    log = journal.log
    log.refresh()
    assert kills == KILLS
    (closed,) = (fact for fact in log if isinstance(fact, Closed))
    assert closed.outcome == "needs_person"  # it had no more to do
    calls: list[Call] = [call for fact in log if isinstance(fact, Replied) for call in fact.calls]
    answers = Counter(fact.call for fact in log if isinstance(fact, Finished))
    assert answers == Counter(call.id for call in calls)
    interrupted = {f.call for f in log if isinstance(f, Finished) and f.output.startswith(INTERRUPTED)}
    assert interrupted  # a kill hit a command on its way, and the model is told so
    acts = [call for call in calls if call.name == "shell"]
    done = Counter((log.path.parent / "workspace" / "effects.txt").read_text().split())
    wanted = {call.arguments["command"].split()[1]: call.id for call in acts}
    assert set(done.values()) == {1} and set(done) <= set(wanted)
    assert {wanted[i] for i in set(wanted) - set(done)} <= interrupted
    notes = [fact.text for fact in log if isinstance(fact, Noted) and fact.topic == "step"]
    assert notes == [call.arguments["text"] for call in calls if call.name == "note"]
