"""Sessions that come back out of a person's dataset repository: whole, once, and only what may."""

import json
import shutil
import time
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from record.events import (
    Budget,
    Closed,
    Ended,
    Fact,
    Goal,
    Halted,
    Launched,
    Opened,
    Said,
    Scored,
    Seal,
)  # fmt: skip
from record.log import Log
from record.mirror import OWNER, Mirror, bury
from record.pull import pull
from record.remote import Remote, Trouble
from tests.hub import Hub
from tests.record.mirrored import (
    CALM,
    DAY,
    REPO,
    Store,
    files_of,
    job,
    log_there,
    mirror_of,
    remote_of,
    sent,
    session,
    there,
    weights,
)


def test_a_new_machine_fetches_and_goes_on(store: Store, tmp_path: Path):
    log = session(tmp_path / "old")
    old = log.path.parent
    folder = job(log)
    (folder / "config.json").write_text(json.dumps({"data": f"{folder}/data.jsonl"}))
    (folder / "log.txt").write_text("printed")
    beside = [folder.with_name(f".sft-1.{what}") for what in ("run.json", "hf-job.json", "cancel", "launch")]
    for file in beside:
        file.write_text(file.name)
    beside[0].write_text('{"runner": [1, 2.0], "started": 3.0}')
    (old / "workspace" / "train.py").write_text("print()")
    log.append(Ended(job="sft-1", state="done", seconds=1))
    weights(folder / "model")
    sent(mirror_of(store, tmp_path / "old", "old"))
    assert there(store)["jobs/sft-1/log/000001.txt"] == b"printed"
    heard = time.time()
    sessions = tmp_path / "new" / "sessions"
    remote = remote_of(store, tmp_path / "new")
    held = pull(remote, sessions, "new")
    assert not held.fetched and "works on another machine (old)" in held.left[old.name]
    assert pull(remote, sessions, "new", dead=0.0).fetched == [old.name]
    new = sessions / old.name
    kept = ("workspace/train.py", "jobs/sft-1/log.txt", "jobs/sft-1/model/model.safetensors")
    said = {file.name for file in (new / "jobs").iterdir() if file.is_file()}
    assert said == {file.name for file in beside[:3]}, "a rented machine is found again by them"
    assert json.loads((new / "jobs" / beside[0].name).read_text()) == {"started": 3.0}, "no process here is the job's"
    assert all((new / path).read_bytes() == (old / path).read_bytes() for path in kept)
    assert json.loads((new / "jobs/sft-1/config.json").read_text()) == {"data": f"{new}/jobs/sft-1/data.jsonl"}
    assert (new / "jobs/sft-1/log.txt").stat().st_mtime <= heard, "its last sign of life, not the time of the fetch"
    assert not list(new.rglob(OWNER)) and not (new / "events").exists()
    there_now = Log(new / "events.jsonl")
    there_now.append(Said(text="go on"))
    sent(mirror_of(store, tmp_path / "new", "new"))
    assert log_there(store) == there_now.path.read_bytes()
    log.append(Said(text="me too"))
    sent(mirror_of(store, tmp_path / "old", "old"))
    log.refresh()
    halted = log[-1]
    assert isinstance(halted, Halted) and "(new)" in halted.reason, "two must not drive one session"
    assert log_there(store) == there_now.path.read_bytes()


def made_up(hub: Hub, logs: dict[str, list[Fact]]) -> None:
    """Put sessions into the repository as anybody can who may write there."""
    files = {
        f"{name}/events/000001.jsonl": "".join(f"{one.model_dump_json()}\n" for one in logs[name]) for name in logs
    }
    files |= {f"{name}/{OWNER}": '{"settled": true}' for name in logs}
    api = HfApi(endpoint=hub.url, token="hf_ada")
    api.create_repo(REPO, repo_type="dataset", private=True)
    added = [CommitOperationAdd(f"sessions/{path}", text.encode()) for path, text in files.items()]
    api.create_commit(REPO, added, commit_message="x", repo_type="dataset")


def test_a_log_that_is_not_in_order_is_not_fetched(hub: Hub, tmp_path: Path):
    def opened(name: str) -> Opened:
        goal = Goal(text="t", task="chains", model="starter")
        return Opened(seq=1, session=name, goal=goal, budget=Budget(), driver="autopilot")

    job = Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1, folder="jobs/sft-1")
    about = {
        "model": "base",
        "benchmark": "chains",
        "split": "dev",
        "metric": "accuracy",
        "value": 1,
        "low": 1,
        "high": 1,
    }
    seal = Seal(judge="", split="", model="")
    scored = Scored(**about, n=1, seal=seal, job="sft-1", items="jobs/sft-1/items.jsonl")
    odd = {
        "folder": [job.model_copy(update={"folder": "../../../ben/sessions/x/jobs/sft-1"})],
        "job": [job.model_copy(update={"job": "..", "folder": "jobs/.."})],
        "items": [job, scored.model_copy(update={"items": "../x/items.jsonl"})],
        "fold": [Ended(job="nope", state="done", seconds=1)],
        "twice": [opened("twice")],
        "parse": [job.model_copy(update={"kind": "made up"})],
        "clock": [job.model_copy(update={"at": datetime(2026, 11, 21)})],
    }
    logs: dict[str, list[Fact]] = {name: [opened(name), *facts] for name, facts in odd.items()}
    made_up(
        hub, logs | {"name": [opened("other")], "late": [job, opened("late")], "good": [opened("good"), job, scored]}
    )
    pulled = pull(remote_of(hub, tmp_path), tmp_path / "sessions", "here", refusal=lambda views: "")
    assert pulled.fetched == ["good"] and set(pulled.left) == {*odd, "name", "late"}
    assert (
        "launched.folder Value error, '../../../ben/sessions/x/jobs/sft-1' is not 'jobs/sft-1'" in pulled.left["folder"]
    )
    assert "its log, line 2 does not follow from those before it (KeyError: 'nope')" in pulled.left["fold"]
    assert [path.name for path in (tmp_path / "sessions").iterdir()] == ["good"]


def test_an_old_process_of_a_space_yields_to_the_one_that_was_started_after_it(store: Store, tmp_path: Path):
    log = session(tmp_path / "old")
    old = mirror_of(store, tmp_path / "old", "ada/space")
    sent(old)
    assert pull(remote_of(store, tmp_path / "new"), tmp_path / "new" / "sessions", "ada/space").fetched
    log.append(Said(text="still here"))
    sent(old)
    there_now = Log(tmp_path / "new" / "sessions" / log.path.parent.name / "events.jsonl")
    there_now.append(Said(text="go on"))
    sent(mirror_of(store, tmp_path / "new", "ada/space"))
    log.append(Said(text="and on"))
    sent(old)
    log.refresh()
    assert isinstance(log[-1], Halted) and log_there(store) == there_now.path.read_bytes()


def test_a_folder_takes_the_place_of_a_file(store: Store, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(store, tmp_path)
    place = log.path.parent / "workspace" / "out"
    place.write_text("file")
    sent(one)
    place.unlink()
    place.mkdir()
    (place / "file").write_text("folder")
    sent(one)
    assert {path for path in there(store) if path.startswith("workspace/")} == {"workspace/out/file"}


def test_what_is_fetched_twice_or_cut_off_is_whole(hub: Hub, tmp_path: Path):
    log = session(tmp_path / "old")
    for i in range(20):
        (log.path.parent / "workspace" / f"{i}.txt").write_text(f"{i}")
    log.append(Halted(), Closed(outcome="stopped", reason=""))
    session(tmp_path / "old", "a-whole-one")
    sent(mirror_of(hub, tmp_path / "old", "old"))
    sessions = tmp_path / "new" / "sessions"
    sessions.mkdir(parents=True)
    hub.faults.add("GET .*/resolve/.*7.txt", status=404, times=9)
    hub.faults.add("HEAD .*/resolve/.*9.txt", status=404)
    for _ in range(2):
        with pytest.raises(Trouble):
            pull(remote_of(hub, tmp_path / "new"), sessions, "new")
        assert not (sessions / log.path.parent.name).exists(), "nobody sees half a session"
        hub.faults.clear()
        hub.faults.add("HEAD .*/resolve/.*9.txt", status=404)
    hub.faults.clear()
    spoilt = hub.repos.blob(sha256(b"8").hexdigest())
    spoilt.write_bytes(b"9")
    with pytest.raises(Trouble, match=r"8\.txt did not arrive as it was sent"):
        pull(remote_of(hub, tmp_path / "new"), sessions, "new", dead=0.0)
    assert [path.name for path in sessions.iterdir()] == [f"{DAY}a-whole-one"], "one session's trouble is its own"
    spoilt.write_bytes(b"8")
    assert pull(remote_of(hub, tmp_path / "new"), sessions, "new").fetched == [log.path.parent.name]
    assert pull(remote_of(hub, tmp_path / "new"), sessions, "new").fetched == []
    assert len(list((sessions / log.path.parent.name / "workspace").iterdir())) == 20


def test_a_dead_machines_session_is_fetched_while_this_one_mirrors(store: Store, tmp_path: Path):
    old = session(tmp_path / "old", "old")
    sent(mirror_of(store, tmp_path / "old", "old"))
    log, one = session(tmp_path, "new"), mirror_of(store, tmp_path)
    remote = remote_of(store, tmp_path)
    fetch, commit = remote.fetch, remote.commit
    (remote.scratch / "pull-of-another-commit").mkdir(parents=True)

    def meanwhile(text: str) -> None:
        log.append(Said(text=text))
        sent(one)

    def slow(head: str, files: dict, target: Path) -> None:
        fetch(head, files, target)
        assert [path.name for path in remote.scratch.glob("pull-*")] == [target.name]
        meanwhile("a snapshot")

    def late(head: str, *more) -> str:
        remote.commit = commit
        meanwhile("another")
        return commit(head, *more)

    remote.fetch, remote.commit = slow, late
    assert pull(remote, tmp_path / "sessions", "here", dead=0.0).fetched == [old.path.parent.name]
    assert json.loads(there(store, "old")[OWNER])["machine"] == "here" and not list(remote.scratch.glob("pull-*"))
    assert log_there(store, "new") == log.path.read_bytes()


def test_a_session_that_goes_on_elsewhere_while_it_is_fetched_is_not_ours(store: Store, tmp_path: Path):
    log, one = session(tmp_path / "old"), mirror_of(store, tmp_path / "old", "old")
    sent(one)
    remote = remote_of(store, tmp_path)
    fetch = remote.fetch

    def slow(*asked) -> None:
        fetch(*asked)
        log.append(Said(text="I am back"))
        sent(one)

    remote.fetch = slow
    with pytest.raises(Trouble, match="has changed while it was fetched"):
        pull(remote, tmp_path / "sessions", "here", dead=0.0)
    assert not list((tmp_path / "sessions").iterdir()) and json.loads(there(store)[OWNER])["machine"] == "old"


def test_what_was_fetched_out_of_one_repository_is_sent_to_another(hub: Hub, tmp_path: Path):
    log = session(tmp_path / "old")
    log.append(Closed(outcome="done", reason="x"))
    sent(mirror_of(hub, tmp_path / "old", "old"))
    pull(remote_of(hub, tmp_path), tmp_path / "sessions", "here")
    asked = len(hub.faults.asked)
    sent(mirror_of(hub, tmp_path))
    assert len(hub.faults.asked) == asked, "there it is known to be"
    other = Remote(HfApi(endpoint=hub.url, token="hf_ada"), "ada/other", tmp_path / "mirror")
    sent(Mirror(other, tmp_path / "sessions", "here", CALM))
    assert f"sessions/{log.path.parent.name}/events/000001.jsonl" in hub.repos.files("dataset", "ada/other")


def test_a_session_that_is_deleted_here_is_deleted_there_and_not_fetched_again(store: Store, tmp_path: Path):
    log, other = session(tmp_path, "aaa"), session(tmp_path, "bbb")
    one = mirror_of(store, tmp_path)
    sent(one)
    bury(log.path.parent)
    shutil.rmtree(log.path.parent)
    assert pull(remote_of(store, tmp_path), tmp_path / "sessions", "here").fetched == []
    sent(one)
    paths = files_of(store)
    assert not [path for path in paths if log.path.parent.name in path]
    assert [path for path in paths if other.path.parent.name in path]
    shutil.rmtree(other.path.parent)  # a disk that is wiped deletes nothing there
    sent(mirror_of(store, tmp_path))
    assert there(store, "bbb")
