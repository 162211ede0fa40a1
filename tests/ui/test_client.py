"""A program that uses a running ML Intern, over real HTTP."""

import threading

import pytest

from agent.client import Client, ClientError
from record.events import Closed, Ended, Said
from record.views import Views
from tests.conftest import free_port
from tests.ui import story
from tests.ui.conftest import Site


def test_a_program_starts_follows_and_steers_a_session(site: Site):
    with Client(site.url) as intern:
        session = intern.start("Do it", task="chains", hours=0.1)
        assert intern.state(session)["state"] == "working" and session in [s["id"] for s in intern.sessions()]
        intern.say(session, "be quick")
        intern.stop(session)
        with pytest.raises(ClientError, match="no report yet"):
            intern.report(session)


def test_a_stream_is_followed_to_the_session_s_end(site: Site):
    name, log = site.session(story.beginning)
    before = len(log)
    log.append(Closed(outcome="done", reason="once"), Said(text="go on"))
    jobs = Views(log).running
    ends = [Ended(job=job.id, state="cancelled", seconds=1.0) for job in jobs]
    later = threading.Timer(0.3, lambda: log.append(Closed(outcome="stopped", reason="over"), *ends))
    later.start()
    with Client(site.url) as intern:
        seqs = [fact.seq for fact in intern.follow(name)]
    assert seqs == list(range(1, before + 4 + len(ends)))


def test_refusals_are_sentences(site: Site):
    with Client(site.url) as intern:
        with pytest.raises(ClientError, match="poetry"):
            intern.start("Do it", task="poetry")
        with pytest.raises(ClientError, match="nothing-here"):
            list(intern.follow("nothing-here"))
    with Client(f"http://127.0.0.1:{free_port()}") as nobody, pytest.raises(ClientError, match="No ML Intern answers"):
        nobody.sessions()
