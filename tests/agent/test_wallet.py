"""Whose keys a session works with, and what becomes of it when they end."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from agent.session import Session
from agent.sessions import Request, _check_paths, open_session, session_log
from agent.settings import Provider, Settings, SettingsError
from agent.steering import halt
from agent.wallet import Grant, Wallet, as_line
from agent.worker import Worker
from lab.machine import this_machine
from lab.models import STARTER
from lab.tasks import Vault
from record.events import Call, Closed, Decided, Ended, Finished, Launched, Replied
from record.journal import Journal
from record.log import LogError
from tests.chat.server import chat_server
from tests.chat.turns import says
from tests.conftest import until
from tests.hub import serve

TOKEN = "a token of ada's, of no shape that is known"


@pytest.fixture
def wallet(settings: Settings) -> Wallet:
    """Of a Space of bob's on which people sign in."""
    return Wallet(replace(settings, space="bob/ml-intern", oauth=Provider("c", (), "http://127.0.0.1:9", "")))


@pytest.fixture
def working(wallet: Wallet) -> Iterator[Worker]:
    worker = Worker(wallet)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    yield worker
    worker.stop()
    thread.join(10)


@pytest.fixture
def session_of(wallet: Wallet) -> Callable[[str], Journal]:
    def make(person: str) -> Journal:
        theirs = wallet.settings_of(person)
        return Journal(
            session_log(theirs, open_session(theirs, Request(task="chains", driver="autopilot", person=person)))
        )

    return make


def ada(seconds: float) -> Grant:
    return Grant("ada", TOKEN, time.time() + seconds, ("jobs",))


@pytest.mark.slow
def test_a_session_stands_still_without_its_persons_token_and_goes_on_with_the_next(wallet, working, session_of):
    before = session_of("ada")
    assert not before.wait(lambda views: views.replied, 1.5)  # not signed in since a restart
    wallet.give(ada(6))
    assert before.wait(lambda views: views.replied, 30)
    # its first evaluation is begun, and is finished; then the token has ended, and nothing is asked any more
    assert before.wait(lambda views: views.scores and not views.open_calls(), 60)
    until(lambda: time.time() > wallet.grants["ada"].until, 30)
    time.sleep(1.0)
    views = before.views
    replies = views.spent.replies
    assert views.active and views.closed is None and not views.open_calls()
    time.sleep(1.0)
    assert before.views.spent.replies == replies
    hours = views.budget.hours
    wallet.give(ada(600))
    assert before.wait(lambda views: views.spent.replies > replies, 30)
    stood = (before.views.budget.hours - hours) * 3600  # the clock does not count while it stands
    assert 0.5 < stood < 60  # two seconds, less what the worker takes to notice
    halt(before.log)
    assert before.wait(lambda views: views.settled, 60)


def test_what_waited_over_night_at_the_gate_is_done_with_the_token_of_the_morning(settings, tmp_path):
    with serve(tmp_path / "hub") as hub:
        token = hub.people.add("ada").token
        env = settings.job_env | {"HF_ENDPOINT": hub.url}
        wallet = Wallet(
            replace(settings, space="bob/x", oauth=Provider("c", (), "http://127.0.0.1:9", ""), job_env=env)
        )
        wallet.give(ada(600))  # the Hub no longer knows it
        theirs = wallet.settings_of("ada")
        session = open_session(theirs, Request(task="chains", driver="autopilot", person="ada"))
        journal = Journal(session_log(theirs, session))
        call = Call(id="p1", name="publish", arguments={"what": "report"})
        journal.append(Replied(model="autopilot", calls=(call,)))
        worker = Worker(wallet)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        assert journal.wait(lambda views: views.waiting, 30)
        wallet.give(Grant("ada", token, time.time() + 600))
        until(lambda: worker._desks["ada"]._settings.keys == {"HF_TOKEN": token}, 10)
        journal.append(Decided(call="p1", allow=True, by="ada"))
        assert journal.wait(lambda views: "p1" in views.finished, 30)
        halt(journal.log)
        assert journal.wait(lambda views: views.settled, 60)
        worker.stop()
        thread.join(10)
        (done,) = [fact for fact in journal.log if isinstance(fact, Finished) and fact.call == "p1"]
        assert done.ok and f"{hub.url}/datasets/ada/" in done.output, done.output


def test_a_new_key_is_used_from_the_next_answer_on_and_never_stored(settings):
    old, new = (
        replace(settings, keys={"ML_INTERN_API_KEY": key}) for key in ("key-of-the-evening", "and-of-the-morning")
    )
    now = [old]

    def signed_in_again():
        now[0] = replace(new, api_base=server.base)
        return says("", ("note", {"topic": "a", "text": "b"}))

    with chat_server([signed_in_again, says("I say and-of-the-morning."), says("Done.")]) as server:
        now[0] = replace(old, api_base=server.base)
        session = open_session(now[0], Request(task="chains", driver="openai/scripted"))
        Session(now[0], session, lambda: now[0]).run()
    sent = [headers["Authorization"] for headers in server.headers]
    assert sent[:2] == ["Bearer key-of-the-evening", "Bearer and-of-the-morning"]
    assert "and-of-the-morning" not in session_log(old, session).path.read_text()


@pytest.mark.slow
def test_the_jobs_of_a_session_that_stands_still_go_on_and_are_watched(wallet, session_of):
    wallet.give(ada(-1))
    journal = session_of("ada")
    items = Vault(wallet.settings_of("ada").vault).items("chains", "dev")
    config = {"model": str(STARTER), "benchmark": "chains", "items": str(items), "split": "dev", "seed": 0}
    about = {"machine": this_machine(), "hours": 1.0, "folder": "jobs/evaluate-1"}
    journal.append(Launched(job="evaluate-1", recipe="evaluate", config=config, **about))  # and the worker was killed
    worker = Worker(wallet)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    assert journal.wait(lambda views: not views.running, 60)
    views = journal.views
    assert views.jobs["evaluate-1"].state == "done" and views.replied is None and views.closed is None
    worker.stop()
    thread.join(10)


def test_a_stop_is_heard_without_a_token_and_jobs_save(wallet, working, session_of):
    wallet.give(ada(600))
    journal = session_of("ada")
    assert journal.wait(lambda views: views.running, 30)
    wallet.give(ada(-1))
    other = session_of("ada")
    halt(journal.log)
    halt(other.log)
    for one in (journal, other):
        assert one.wait(lambda views: views.settled, 60)
        closed = one.views.closed
        assert isinstance(closed, Closed) and closed.outcome == "stopped"


def test_what_is_odd_at_one_desk_holds_up_nothing_else(wallet, working, session_of):
    odd = session_of("ada").log
    odd.append(Ended(job="nope", state="done", seconds=1))
    with pytest.raises(LogError, match="line 2 does not follow from those before it"):
        _ = Journal(odd).views
    (odd.path.parent.with_name("folder") / "events.jsonl").mkdir(parents=True)
    wallet.give(ada(600))
    good = session_of("ada")
    assert good.wait(lambda views: views.replied, 30)
    halt(good.log)
    assert good.wait(lambda views: views.settled, 60)


def test_a_revision_may_have_slashes_and_leads_nowhere_else(wallet):
    on_a_space = wallet.settings_of("bob")
    for revision in ("v2", "refs/convert/parquet", "refs/pr/1"):
        _check_paths(on_a_space, Request(task=f"table:org/rows@{revision}"))
    for source in ("org/rows@refs/../../secret", "org/rows@/etc", "org/..", "org/rows/more"):
        with pytest.raises(SettingsError, match="a file of this Space's machine"):
            _check_paths(on_a_space, Request(task=f"table:{source}"))


def test_nobodys_settings_hold_nothing(wallet):
    wallet.give(ada(600))
    assert wallet.settings_of("").keys == {} and wallet.settings_of("eve").keys == {}
    assert wallet.settings_of("ada").keys == {"HF_TOKEN": TOKEN}
    homes = {wallet.settings_of(name).home for name in ("", "ada", "eve", "bob")}
    assert len(homes) == 4 and wallet.settings.home not in homes
    assert all(TOKEN in wallet.settings_of(name).secrets for name in ("", "ada", "eve", "bob"))
    assert TOKEN not in repr(wallet.grants) + repr(wallet.settings_of("ada"))


def test_sign_ins_travel_line_by_line(wallet):
    grants = [ada(5), Grant("zoe", "another", 7.0), ada(60)]
    wallet.listen(io.BytesIO(b"".join(map(as_line, grants))))
    assert wallet.grants == {"ada": grants[2], "zoe": grants[1]}


def test_at_home_there_is_one_person_with_every_key(settings):
    own = replace(settings, keys={"HF_TOKEN": "t"})
    wallet = Wallet(own)
    assert wallet.settings_of("local") == own and wallet.everyone() == [own] and own.until > time.time()
