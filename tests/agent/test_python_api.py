"""The Python API of the README."""

import subprocess
import sys
from dataclasses import replace

from agent import Request, Session, read_settings
from agent.settings import ROOT
from record.views import Views
from tests.chat.server import chat_server
from tests.chat.turns import says


def test_the_readmes_lines_open_and_run_a_session(settings):
    assert read_settings({"HOME": "/home/ada"}).home.name == ".ml-intern"
    with chat_server([says("I have nothing to do.")]) as server:
        own = replace(settings, api_base=server.base)
        session = Session.open(own, Request(task="chains", target=0.9, hours=0.5, driver="openai/scripted"))
        closed = session.run()
        views = Views(session.log)
    assert closed.outcome == "needs_person"
    assert views.closed == closed and views.score(views.best, "heldout") is None
    assert (session.folder / "report.md").read_text().startswith("# Make starter better at chains.")


def test_importing_costs_nothing_until_something_is_asked_for():
    heavy = ("pydantic", "smolagents", "httpx", "record", "lab", "tools", "mcp")
    code = f"import agent, sys; print(sorted(agent.__all__), [m for m in {heavy} if m in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = ["Client", "Intern", "Request", "Session", "Settings", "SettingsError", "read_settings"]
    assert asked.stdout.strip() == f"{names} []"
    code = f"import agent, sys; [getattr(agent, n) for n in agent.__all__]; print([m for m in {('mcp', 'litellm')} if m in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"
