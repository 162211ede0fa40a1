"""The background process that drives sessions."""

import threading

import pytest

from agent.steering import halt
from agent.wallet import Wallet
from agent.worker import TOGETHER, Worker
from record.events import Call, Replied

TRAIN = Call(
    id="c1", name="train", arguments={"config": {"data": "data/none.jsonl"}, "idea": "try", "expected_gain": 0.1}
)


@pytest.fixture
def worker(settings):
    made = Worker(Wallet(settings))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join(10)


def test_sessions_that_wait_for_a_person_take_nobodys_place(worker, new_session):
    waiting = []
    for _ in range(TOGETHER):
        _, journal = new_session(approval="ask")
        journal.append(Replied(calls=(TRAIN,), model="m"))
        waiting.append(journal)
    for journal in waiting:
        assert journal.wait(lambda views: views.waiting, 60)
    _, next_one = new_session()
    assert next_one.wait(lambda views: views.replied, 60)
    for journal in [*waiting, next_one]:
        halt(journal.log)
    for journal in [*waiting, next_one]:
        assert journal.wait(lambda views: views.settled, 60)


def test_a_stray_folder_does_not_stop_the_worker(worker, settings, new_session):
    (settings.sessions / "Not A Session!").mkdir(parents=True)
    (settings.sessions / "Not A Session!" / "events.jsonl").write_text("{}")
    (settings.sessions / "torn-session").mkdir()
    (settings.sessions / "torn-session" / "events.jsonl").write_text("no fact\n")
    _, journal = new_session()
    assert journal.wait(lambda views: views.replied, 60)
    halt(journal.log)
    assert journal.wait(lambda views: views.settled, 60)
