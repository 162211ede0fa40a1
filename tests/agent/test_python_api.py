"""The Python API of the README."""

from dataclasses import replace

from agent import Request, Session, read_settings
from tests.fakes import chat_server, says


def test_the_readmes_lines_open_and_run_a_session(settings):
    assert read_settings({"HOME": "/home/ada"}).home.name == ".ml-intern"
    with chat_server([says("I have nothing to do.")]) as server:
        own = replace(settings, api_base=server.base)
        session = Session.open(own, Request(task="chains", target=0.9, hours=0.5, driver="openai/scripted"))
        closed = session.run()
    assert closed.outcome == "needs_person"
    assert (session.folder / "report.md").read_text().startswith("# Make starter better at chains.")
