"""The background process that drives sessions."""

import os
import resource
import threading
import time
from dataclasses import replace

import pytest
from huggingface_hub import HfApi

from agent.keeper import Keeper, patience
from agent.sessions import Request, open_session, session_log
from agent.settings import Provider
from agent.steering import halt
from agent.wallet import Grant, Wallet
from agent.worker import TOGETHER, Worker
from record.events import Call, Closed, Noted, Replied
from tests.conftest import until
from tests.hub import serve

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


def test_the_last_words_of_everybody_are_mirrored_before_the_keeper_kills(settings, tmp_path):
    """Each request takes its time: one person's snapshot takes seconds, and they do not wait for each other."""
    people = ("ada", "ben", "eve")
    with serve(tmp_path / "hub") as hub:
        whole = replace(
            settings, space="bob/x", oauth=Provider("c", (), "http://127.0.0.1:9", ""), mirror="{user}/ml-intern-sessions",
            job_env=settings.job_env | {"HF_ENDPOINT": hub.url},
        )  # fmt: skip
        wallet, logs = Wallet(whole), {}
        for name in people:
            wallet.give(Grant(name, hub.people.add(name).token, time.time() + 600))
            theirs = wallet.settings_of(name)
            log = session_log(theirs, open_session(theirs, Request(task="chains", driver="autopilot", person=name)))
            log.append(Closed(outcome="stopped", reason="by a person"))
            logs[name] = log

        def mirrored(name: str, words: str) -> bool:
            api = HfApi(endpoint=hub.url, token=wallet.grants[name].token)
            repo = f"{name}/ml-intern-sessions"
            if not api.repo_exists(repo, repo_type="dataset"):
                return False
            files = [file for file in api.list_repo_files(repo, repo_type="dataset") if "/events/" in file]
            got = [api.hf_hub_download(repo, file, repo_type="dataset", cache_dir=tmp_path) for file in files]
            return any(words in open(file).read() for file in got)

        worker = Worker(wallet)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        until(lambda: all(mirrored(name, "by a person") for name in people), 60)
        for log in logs.values():
            log.append(Noted(topic="t", text="last words"))
        hub.faults.add("", times=10**6, wait_s=0.3)
        worker.stop()
        thread.join(10)
        left = time.monotonic()
        worker.leave()
        assert time.monotonic() - left < patience(whole)
        hub.faults.clear()
        assert {name: mirrored(name, "last words") for name in people} == dict.fromkeys(people, True)


def test_a_keeper_that_cannot_start_its_worker_tries_again(settings, caplog):
    keeper = Keeper(Wallet(settings))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), hard))
    try:
        spare = []
        with pytest.raises(OSError):
            while True:
                spare.append(os.open(os.devnull, os.O_RDONLY))
        keeper.start()
        until(lambda: "the worker could not be started" in caplog.text, 10)
        assert keeper._thread.is_alive() and keeper._process is None
    finally:
        keeper.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in spare:
            os.close(file)
