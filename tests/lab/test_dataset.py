"""A session that is measured on a dataset of the Hub, which others go on changing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from agent.settings import ROOT
from lab.errors import BadInput
from lab.tasks import check_task
from record.card import model_card
from record.events import Budget, Ended, Goal, Launched, Noted, Opened, Scored, Seal
from record.log import Log
from record.report import report
from tests.conftest import cli_environment
from tests.hub import Hub

# Open a session on ada/sums, or go on with one, measure its base model on a split, and say what was asked.
MEASURE = """
import json, sys
from agent.sessions import Request, open_session
from agent.settings import read
from lab.tasks import Vault, read_rows
from tests.scripted import open_lab

settings, (session, split) = read(), sys.argv[1:]
session = session or open_session(settings, Request(task="table:ada/sums"))
lab, supervisor, journal = open_lab(settings, session)
supervisor.start()
score = lab.measure("base", split, split)
supervisor.stop()
vault, task = Vault(settings.vault), journal.views.goal.task
items = {split: read_rows(vault.items(task, split)) for split in ("dev", "heldout")}
print(json.dumps({"session": session, "task": task, "items": items, "n": score["n"]}))
"""


def upload(hub: Hub, sign: str) -> str:
    """Questions of one kind, in place of what was there; the commit."""
    api = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    api.create_repo("ada/sums", repo_type="dataset", exist_ok=True)
    rows = [{"question": f"{i} {sign} 3 =", "answer": str(i)} for i in range(150)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return api.upload_file(path_or_fileobj=data, path_in_repo="rows.jsonl", repo_id="ada/sums", repo_type="dataset").oid


def run(env: Mapping[str, str], program: str, *words: str) -> subprocess.CompletedProcess:
    """In a process of its own: datasets reads where the Hub is when it is imported."""
    line = [sys.executable, "-c", program, *words]
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def measured(env: Mapping[str, str], session: str, split: str) -> dict[str, Any]:
    ran = run(env, MEASURE, session, split)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_dataset_that_changes_between_two_measurements_asks_the_same_items(hub: Hub, settings, tmp_path: Path):
    env = cli_environment(settings) | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    first = upload(hub, "plus")
    dev = measured(env, "", "dev")
    assert dev["task"] == f"table:ada/sums@{first}"
    second = upload(hub, "minus")
    for lost in (settings.vault, tmp_path / "hf"):  # as on a machine that was wiped
        shutil.rmtree(lost)
    heldout = measured(env, dev["session"], "heldout")
    assert heldout["items"] == dev["items"] and all("plus" in row["question"] for row in heldout["items"]["heldout"])
    assert (dev["n"], heldout["n"]) == tuple(len(dev["items"][split]) for split in ("dev", "heldout"))
    log = Log(settings.sessions / dev["session"] / "events.jsonl")
    log.refresh()
    assert {fact.benchmark for fact in log if fact.kind == "scored"} == {dev["task"]}
    assert f"Task `table:ada/sums` at revision `{first}`" in report(list(log))
    other = measured(env, "", "dev")  # a session that begins now takes what is there now
    assert other["task"].endswith(second) and all("minus" in row["question"] for row in other["items"]["dev"])
    hub.repos.drop(hub.repos.repo("dataset", "ada/sums"))
    shutil.rmtree(settings.vault)
    ran = run(env, MEASURE, dev["session"], "dev")  # only the other commit is the newest of the cache
    assert ran.returncode and f"The dataset 'ada/sums@{first}' cannot be loaded" in ran.stderr, ran.stderr


PINNED = """
import sys
from lab.tasks import check_task

print(check_task(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_revision_by_name_is_never_what_happens_to_be_here(hub: Hub, settings, tmp_path: Path):
    env = cli_environment(settings) | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    api = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    first = upload(hub, "plus")
    assert run(env, PINNED, "table:ada/sums").returncode == 0, "and is in the cache"
    second = upload(hub, "minus")
    api.create_branch("ada/sums", repo_type="dataset", branch="v2")
    offline = env | {"HF_HUB_OFFLINE": "1"}
    for name, known in (("v2", False), (second, False), (first, True)):
        ran = run(offline, PINNED, f"table:ada/sums@{name}")
        assert (ran.returncode == 0) == known, ran.stdout + ran.stderr
        assert known or f"{first} is here" in ran.stderr, ran.stderr
    for where, name, commit in ((offline, "", first), (env, "@v2", second)):
        assert run(where, PINNED, f"table:ada/sums{name}").stdout.split()[-1] == f"table:ada/sums@{commit}"


def test_the_published_card_says_which_commit_was_measured_and_trained_on():
    task = f"table:ada/sums-v1.1@{'c' * 40}"
    goal = {"text": "x", "task": task, "model": "starter"}
    facts = [
        *_facts(goal),
        Launched(job="sft-1", recipe="sft", config={"data_sha256": "d"}, machine="local", hours=1.0, folder="jobs/sft-1"),
        Ended(job="sft-1", state="done", seconds=1.0),
        Scored(
            model="sft-1", benchmark=task, split="heldout", metric="accuracy", value=0.5, low=0.4, high=0.6, n=9,
            items="i", seal=Seal(judge="j", split="s", model="m"), job="evaluate-1",
        ),
    ]  # fmt: skip
    card = model_card(facts, "sft-1", "t", [], False)
    said = f"`table:ada/sums-v1.1` at revision `{'c' * 40}`"
    assert card.count(said) >= 2 and f"the training split of {said}" in card and "not recorded" not in card
    assert f"revision: {'c' * 40}" in card and "type: ada/sums-v1.1\n" in card


def _facts(goal: Mapping[str, Any]) -> list[Any]:
    details = {"file": "data/rows.jsonl", "rows": 9, "sha256": "d", "source": "task", "worked_share": 0.5}
    opened = Opened(session="s-1", goal=Goal(**goal), budget=Budget(), driver="autopilot")
    return [opened, Noted(topic="data", text="Prepared.", details=details)]


def test_a_file_and_a_task_of_ours_keep_their_names(tmp_path: Path):
    table = tmp_path / "a@b.jsonl"
    table.write_text("".join(json.dumps({"question": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(200)))
    assert [check_task(name) for name in ("chains", f"table:{table}")] == ["chains", f"table:{table}"]
    with pytest.raises(BadInput, match="There is no file"):
        check_task(f"table:{tmp_path / 'none.jsonl'}")
