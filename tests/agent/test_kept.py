"""Whether a session is kept on the Hub: what its mirror does is what people are told, in the terminal and on the page."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.kept import STATE, kept
from agent.mirroring import Mirroring
from agent.settings import ROOT, Settings
from record.events import Closed, Halted, Said
from record.mirror import Pace
from tests.conftest import cli_environment, until
from tests.hub import Hub, serve

QUICK = Pace(every=0.2, gap=0.1, most=10_000, first=0.1, longest=0.3)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as hub:
        hub.people.add("ada", "hf_ada_and_nobody_else")
        yield hub


@pytest.fixture
def ada(settings: Settings, hub: Hub) -> Settings:
    job_env = settings.job_env | {"HF_ENDPOINT": hub.url}
    return replace(settings, keys={"HF_TOKEN": "hf_ada_and_nobody_else"}, mirror="runs", job_env=job_env)


def test_what_the_mirror_does_is_what_people_are_told(hub: Hub, ada: Settings, new_session):
    session, journal = new_session(ada)
    folder = ada.sessions / session

    def told(state: str, said: str) -> None:
        until(lambda: (now := kept(ada, folder)).state == state and re.fullmatch(said, now.said), 20)

    assert kept(replace(ada, mirror=""), folder).state == "off"
    assert "no HF_TOKEN is known" in kept(replace(ada, keys={}), folder).said
    assert kept(ada, folder).state == "unknown"
    hub.people.revoke("hf_ada_and_nobody_else")
    mirroring = Mirroring(ada, QUICK)
    mirroring.start()
    told("not kept", r"Not kept on the Hub: the Hub does not know this token; sign in .*; next try in 0 s\.")
    hub.people.add("ada", "hf_ada_and_nobody_else")
    told("kept", r"Kept on the Hub \d s ago\.")
    assert kept(ada, folder).where == f"{hub.url}/datasets/ada/runs"
    (folder / "workspace" / "hf_ada_and_nobody_else\n").touch()
    told(
        "kept", r"Kept on the Hub \d s ago\. Left out, too big or oddly named, 1 in all: 'workspace/\[redacted\]\\n'\."
    )
    (folder / "workspace" / "hf_ada_and_nobody_else\n").unlink()
    hub.faults.add("POST .*/commit/", times=99, status=503)
    journal.append(Said(text="more"))
    told(
        "not kept", r"Not kept on the Hub: the Hub answers 503: .*; next try in 0 s\. What was here \d s ago is there\."
    )
    assert "hf_ada" not in (ada.home / STATE).read_text()
    hub.faults.clear()
    journal.append(Halted(), Closed(outcome="stopped", reason=""))
    told("kept", r"Kept on the Hub\.")
    mirroring.stop(5)
    env = cli_environment(ada) | {"HF_TOKEN": "hf_x", "HF_ENDPOINT": hub.url, "ML_INTERN_MIRROR": "runs"}
    shown = subprocess.run([sys.executable, "-m", "agent", "show", session], cwd=ROOT, env=env, capture_output=True)
    assert f"Kept on the Hub. {hub.url}/datasets/ada/runs" in shown.stdout.decode()
    journal.append(Said(text="and nobody mirrors"))
    assert re.fullmatch(r"Kept on the Hub \d s ago\.", kept(ada, folder).said), "as it was, not as it is"


def test_of_a_folder_it_is_said_where_it_is_and_nothing_of_the_hub(settings: Settings, new_session, tmp_path: Path):
    folder = tmp_path / "share"
    here = replace(settings, keys={}, mirror=str(folder))
    session, journal = new_session(here)

    def told(said: str) -> None:
        until(lambda: re.fullmatch(said, kept(here, here.sessions / session).said), 20)

    told(f"Whether this session is kept in {folder} is not known yet.")
    folder.write_text("no folder")
    mirroring = Mirroring(here, QUICK)
    mirroring.start()
    told(
        rf"Not kept in {folder}: the folder {folder} is not there: make it, or mount what it lies on; next try in 0 s\."
    )
    folder.unlink()
    folder.mkdir()
    told(rf"Kept in {folder} \d s ago\.")
    journal.append(Halted(), Closed(outcome="stopped", reason=""))
    told(rf"Kept in {folder}\.")
    assert kept(here, here.sessions / session).where == ""
    mirroring.stop(5)
    other = replace(here, home=tmp_path / "other")
    for at, command, words in ((other, "pull", f"{session}: fetched."), (here, "show", f"Kept in {folder}.\n")):
        env = cli_environment(at) | {"ML_INTERN_MIRROR": str(folder)}
        done = subprocess.run([sys.executable, "-m", "agent", command, session], cwd=ROOT, env=env, capture_output=True)
        assert words in done.stdout.decode() and "Hub" not in done.stdout.decode()


def test_a_session_of_another_machine_is_not_said_to_be_kept_from_here(ada: Settings, new_session):
    session, _ = new_session(ada)
    one = {"kept": 1.0, "done": None, "late": 0, "foreign": "laptop", "left_out": 0, "some": []}
    (ada.home / STATE).write_text(json.dumps({"repo": "ada/runs", "why": "", "again": 0, "sessions": {session: one}}))
    assert "another machine (laptop) goes on" in kept(ada, ada.sessions / session).said
    (ada.home / STATE).write_text("{")
    assert kept(ada, ada.sessions / session).state == "unknown"
