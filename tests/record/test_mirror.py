"""A person's sessions in their dataset repository: what goes there, how often, and what comes back, whatever fails."""

import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from record import contents as parts
from record import mirror
from record.ahead import Ahead
from record.contents import SEGMENT, Piece
from record.events import (
    Budget,
    Call,
    Closed,
    Ended,
    Fact,
    Finished,
    Goal,
    Halted,
    Launched,
    Opened,
    Promoted,
    Replied,
    Said,
    Scored,
    Seal,
)  # fmt: skip
from record.log import Log
from record.mirror import OWNER, Mirror, Pace, bury
from record.pull import pull
from record.remote import Remote, Trouble
from tests.conftest import until
from tests.hub import Hub, serve

REPO = "ada/ml-intern-sessions"
DAY = "20261121-120000-"
CALM = Pace(gap=0.01, every=0.01, first=0.01, longest=0.1)  # nothing but what the test does
# An hour in some seconds: 600 times as fast as `Pace()`.
FAST = Pace(every=0.15, gap=0.03, most=40, window=6.0, first=0.02, longest=0.6, renew=0.8, dead=1.0, trace=1.0)


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        hub.people.add("ada", "hf_ada")
        yield hub


@pytest.fixture
def hub(hubs: Hub) -> Hub:
    """The Hub without a repository of ours, and without trouble."""
    hubs.faults.clear()
    hubs.faults.asked.clear()
    if repo := hubs.repos.get("dataset", REPO):
        hubs.repos.drop(repo)
    return hubs


def remote_of(hub: Hub, home: Path, token: str = "hf_ada") -> Remote:
    return Remote(HfApi(endpoint=hub.url, token=token), REPO, home / "mirror")


def mirror_of(hub: Hub, home: Path, machine: str = "here", pace: Pace = CALM, **more) -> Mirror:
    return Mirror(remote_of(hub, home), home / "sessions", machine, pace, **more)


def session(home: Path, name: str = "aaa") -> Log:
    folder = home / "sessions" / f"{DAY}{name}"
    (folder / "workspace").mkdir(parents=True)
    (folder / "jobs").mkdir()
    log = Log(folder / "events.jsonl")
    goal = Goal(text="Make it better", task="chains", model="starter")
    log.append(Opened(session=folder.name, goal=goal, budget=Budget(), driver="autopilot"))
    return log


def job(log: Log, name: str = "sft-1") -> Path:
    log.append(Launched(job=name, recipe="sft", config={}, machine="local", hours=1, folder=f"jobs/{name}"))
    folder = log.path.parent / "jobs" / name
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def sent(one: Mirror, seconds: float = 20) -> None:
    """Look until all that is here is there."""
    until(lambda: one.look(hurry=True), seconds)


def there(hub: Hub, name: str = "aaa") -> dict[str, bytes]:
    prefix = f"sessions/{DAY}{name}/"
    files = hub.repos.files("dataset", REPO)
    return {path[len(prefix) :]: data for path, data in files.items() if path.startswith(prefix)}


def commits(hub: Hub) -> int:
    """Commits of ours: one is the Hub's own."""
    return len(hub.repos.commits("dataset", REPO)) - 1


def log_there(hub: Hub, name: str = "aaa") -> bytes:
    return b"".join(data for path, data in sorted(there(hub, name).items()) if path.startswith("events/"))


def test_a_snapshot_is_one_commit_and_what_is_there_is_what_is_here(hub: Hub, tmp_path: Path):
    logs = [session(tmp_path, "aaa"), session(tmp_path, "bbb")]
    work = logs[0].path.parent / "workspace"
    for i in range(300):
        (work / f"note-{i}.txt").write_text(f"note {i}")
    (work / "deep" / "er").mkdir(parents=True)
    (work / "deep" / "er" / "weights.safetensors").write_bytes(random.randbytes(3 * 2**20))
    (work / "empty.txt").touch()
    sent(mirror_of(hub, tmp_path))
    assert commits(hub) == 1
    assert hub.repos.repo("dataset", REPO).visibility == "private"
    for log, name in zip(logs, ("aaa", "bbb"), strict=True):
        assert log_there(hub, name) == log.path.read_bytes()
        here = {f"workspace/{path.relative_to(log.path.parent / 'workspace')}": path.read_bytes()
                for path in (log.path.parent / "workspace").rglob("*") if path.is_file()}  # fmt: skip
        assert {path: data for path, data in there(hub, name).items() if path.startswith("workspace/")} == here
    assert b"ml-intern" in hub.repos.files("dataset", REPO)["README.md"]


def test_only_what_is_new_is_sent_however_long_the_log(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    for i in range(5):
        log.append(Said(text=f"{i} " + "x " * 300_000))
    sent(one)
    before, done = there(hub), commits(hub)
    log.append(Said(text="more"))
    sent(one)
    changed = {path for path, data in there(hub).items() if before.get(path) != data}
    last = max(path for path in before if path.startswith("events/"))
    assert log.path.stat().st_size > 2 * SEGMENT and changed == {last, OWNER} and commits(hub) == done + 1
    assert log_there(hub) == log.path.read_bytes()
    asked = len(hub.faults.asked)
    until(lambda: one.look(hurry=True))
    assert not [line for line in hub.faults.asked[asked:] if "commit" in line[2]], "nothing new, no commit"


def test_what_is_deleted_or_renamed_here_is_so_there(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    work = log.path.parent / "workspace"
    (work / "old.txt").write_text("same")
    (work / "gone.bin").write_bytes(b"\0" * 100)
    sent(one)
    (work / "old.txt").rename(work / "new.txt")
    (work / "gone.bin").unlink()
    sent(one)
    (work / "new.txt").write_text("SAME")  # no more bytes, and no fact
    sent(one)
    assert there(hub)["workspace/new.txt"] == b"SAME"
    assert {path for path in there(hub) if path.startswith("workspace/")} == {"workspace/new.txt"}


def test_links_pipes_caches_and_scratch_never_go(hub: Hub, tmp_path: Path):
    log = session(tmp_path)
    work, folder = log.path.parent / "workspace", job(log)
    secret = tmp_path / "vault.jsonl"
    secret.write_text("an item of the judge")
    (work / "link").symlink_to(secret)
    (folder / "items.jsonl").symlink_to(secret)
    (work / "dir").symlink_to(tmp_path)
    os.mkfifo(work / "pipe")
    for submodule in (".git", ".cache"):  # files, too: the client takes no such name
        (work / "lib").mkdir(exist_ok=True)
        (work / "lib" / submodule).write_text("gitdir: elsewhere")
    (folder / "log").write_text("not the printed log")
    (folder / "log.txt").write_text("printed")
    for hidden in (".git", ".cache", "__pycache__", "a/.home"):
        (work / hidden).mkdir(parents=True)
        (work / hidden / "file").write_text("not this")
    (log.path.parent / "owner.lock").touch()
    (folder / "heartbeat").touch()
    (folder / ".tmp").mkdir()
    (folder / ".tmp" / "socket").touch()
    (log.path.parent / "jobs" / "unknown").mkdir()  # to the log
    (log.path.parent / "jobs" / "unknown" / "config.json").touch()
    sent(mirror_of(hub, tmp_path))
    assert set(there(hub)) == {"events/000001.jsonl", OWNER, "jobs/sft-1/config.json", "jobs/sft-1/log/000001.txt"}
    assert json.loads(there(hub)[OWNER])["left_out"] == ["jobs/sft-1/log"], "there it would be a folder's name"


def weights(folder: Path, size: int = 1000) -> bytes:
    folder.mkdir(parents=True)
    data = random.randbytes(size)
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text("{}")
    return data


def test_weights_go_by_rule_the_best_model_and_the_last_whole_checkpoint(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    running, best, worse = job(log, "sft-1"), job(log, "sft-2"), job(log, "sft-3")
    for folder in (best, worse):
        weights(folder / "model")
        log.append(Ended(job=folder.name, state="done", seconds=1))
    log.append(Promoted(model="sft-2", verdict="keep", against="base", reason=""))
    log.append(Promoted(model="sft-3", verdict="discard", against="sft-2", reason=""))
    for step in (10, 20, 30):
        weights(running / "checkpoints" / f"checkpoint-{step}")
    for step in (10, 20):  # 30 is being written
        (running / "checkpoints" / f"checkpoint-{step}" / "complete").touch()
    sent(one)
    kept = {path.rsplit("/", 1)[0] for path in there(hub) if path.endswith(".safetensors")}
    assert kept == {"jobs/sft-1/checkpoints/checkpoint-20", "jobs/sft-2/model"}
    log.append(Ended(job="sft-1", state="done", seconds=1), Halted(), Closed(outcome="stopped", reason=""))
    sent(one)
    kept = {path.rsplit("/", 1)[0] for path in there(hub) if path.endswith(".safetensors")}
    assert kept == {"jobs/sft-2/model"}


def test_a_big_file_holds_up_no_fact_and_comes_whole(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    folder = job(log)
    data = weights(folder / "model", mirror.BIG + 1)
    log.append(Ended(job="sft-1", state="done", seconds=1))
    hub.faults.add("PUT|/v1/xorbs", wait_s=1.0)
    one.look()
    assert log_there(hub) == log.path.read_bytes(), "the fact is there"
    assert not [path for path in there(hub) if "/model/" in path], "and no half model"
    sent(one)
    assert there(hub)["jobs/sft-1/model/model.safetensors"] == data and "jobs/sft-1/model/config.json" in there(hub)
    done = commits(hub)
    sent(mirror_of(hub, tmp_path))  # a new process finds all of it there
    assert commits(hub) <= done + 1


def test_what_is_too_big_is_left_out_and_said(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    log = session(tmp_path)
    (log.path.parent / "workspace" / "big.bin").write_bytes(bytes(50_000))
    (log.path.parent / "workspace" / "small.txt").write_text("small")
    (log.path.parent / "workspace" / "odd\nname").touch()
    sent(mirror_of(hub, tmp_path, most=20_000))
    assert {path for path in there(hub) if path.startswith("workspace/")} == {"workspace/small.txt"}
    assert "workspace/big.bin" in caplog.text
    assert set(json.loads(there(hub)[OWNER])["left_out"]) == {"workspace/big.bin", "workspace/odd\nname"}


def test_the_trace_is_what_the_viewer_of_the_hub_reads(hub: Hub, tmp_path: Path):
    log = session(tmp_path)
    call = Call(id="c1", name="train", arguments={"lr": 0.1})
    log.append(Replied(text="I train.", thought="Why not?", calls=(call,), model="some/model"))
    log.append(Finished(call="c1", name="train", ok=True, output="sft-1", seconds=1.0))
    log.append(Closed(outcome="done", reason="0.9 is reached"))
    sent(mirror_of(hub, tmp_path))
    header, *rows = map(json.loads, hub.repos.files("dataset", REPO)[f"traces/{DAY}aaa.jsonl"].splitlines())
    assert header == {"type": "session", "harness": "ml-intern", "id": f"{DAY}aaa", "name": "Make it better"}
    assert {row["type"] for row in rows} == {"message"}
    messages = [row["message"] for row in rows]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "system"]
    assert messages[1]["toolCalls"] == [{"id": "c1", "function": {"name": "train", "arguments": '{"lr": 0.1}'}}]
    assert messages[1]["reasoningContent"] == "Why not?" and messages[2]["toolCallId"] == "c1"


def test_one_file_that_the_hub_refuses_holds_up_no_fact(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    sent(one)
    (log.path.parent / "workspace" / "odd").write_text("odd")
    log.append(Said(text="a fact"))
    hub.faults.add("POST .*/commit/", status=400)
    until(lambda: (one.look(hurry=True), log_there(hub) == log.path.read_bytes())[1])
    assert "workspace/odd" not in there(hub)
    sent(one)
    assert there(hub)["workspace/odd"] == b"odd"


def test_a_name_that_the_client_does_not_take_holds_up_no_fact(hub: Hub, tmp_path: Path, monkeypatch):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    (log.path.parent / "workspace" / ".git").write_text("gitdir: elsewhere")
    monkeypatch.setattr(parts, "NEVER", ())
    until(lambda: (one.look(hurry=True), hub.repos.get("dataset", REPO) and there(hub))[1], 10)
    assert log_there(hub) == log.path.read_bytes()


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder, with more below it than pytest can delete."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def test_a_spoilt_mark_and_a_deep_folder_stop_nothing(hub: Hub, deep: Path):
    log, one = session(deep), mirror_of(hub, deep)
    sent(one)
    (log.path.parent / "pulled").write_text("")  # a full disk, long ago
    log.append(Said(text="more"))
    place = os.open(log.path.parent / "workspace", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=place)
        above, place = place, os.open("a", os.O_RDONLY, dir_fd=place)
        os.close(above)
    os.close(os.open("file", os.O_CREAT, dir_fd=place))
    os.close(place)
    sent(one)
    log.append(Said(text="and more"))
    (log.path.parent / "pulled").write_bytes(b"\xff 1 2")
    sent(mirror_of(hub, deep))
    assert log_there(hub) == log.path.read_bytes() and not [path for path in there(hub) if "file" in path]
    bury(log.path.parent)


def test_a_big_file_that_changes_at_its_size_in_a_resumed_session_is_sent(hub: Hub, tmp_path: Path):
    log = session(tmp_path)
    big = log.path.parent / "workspace" / "data.bin"
    big.write_bytes(b"a" * (mirror.BIG + 1))
    log.append(Closed(outcome="done", reason="x"))
    sent(mirror_of(hub, tmp_path))
    one = mirror_of(hub, tmp_path)
    sent(one)
    log.append(Said(text="more"))
    big.write_bytes(b"b" * (mirror.BIG + 1))
    log.append(Closed(outcome="done", reason="y"))
    sent(one)
    assert there(hub)["workspace/data.bin"][:1] == b"b"


def test_a_big_file_that_changes_while_it_is_sent_holds_up_no_other(hub: Hub, tmp_path: Path):
    remote, tried = remote_of(hub, tmp_path), []
    ahead, upload = Ahead(remote, 0.0), remote.upload

    def slow(path: str, file: Path):
        tried.append(path)
        if path == "a":
            with (tmp_path / "a").open("ab") as grows:
                grows.write(b"x")
        return upload(path, file)

    remote.upload = slow
    hub.repos.add("dataset", REPO, "private")
    for name in "ab":
        (tmp_path / name).write_bytes(b"1")

    def piece(name: str) -> Piece:
        about = (tmp_path / name).stat()
        return Piece(name, tmp_path / name, about.st_size, (about.st_dev, about.st_ino, about.st_mtime_ns))

    until(lambda: [ahead.look(name, piece(name)) for name in "ab"][1])
    assert tried.count("a") <= 3


def test_trouble_with_a_big_file_is_tried_again(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    data = random.randbytes(mirror.BIG + 1)
    (log.path.parent / "workspace" / "big.bin").write_bytes(data)
    hub.faults.add("xet-write-token", status=403)
    hub.faults.add("POST /v1/(xorbs|shards)", status=400)
    sent(one)
    assert there(hub)["workspace/big.bin"] == data
    repo = hub.repos.repo("dataset", REPO)
    hub.repos.commit(repo, "refs/heads/main", lambda tree: {p: f for p, f in tree.items() if "big" not in p}, "by hand")
    sent(one)
    assert there(hub)["workspace/big.bin"] == data, "a person took it away, and here it still is"


def test_a_public_repository_gets_nothing(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    hub.repos.add("dataset", REPO, "public")
    session(tmp_path)
    one = mirror_of(hub, tmp_path)
    assert not one.look()
    assert set(hub.repos.files("dataset", REPO)) == {".gitattributes"} and "make it private" in caplog.text


def test_an_answer_that_is_lost_costs_a_look_and_no_second_commit(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    hub.faults.add("POST .*/commit/", lost=True)
    sent(one)
    assert commits(hub) == 1 and log_there(hub) == log.path.read_bytes()
    note = log.path.parent / "workspace" / "note.txt"
    note.touch()
    sent(one)
    note.unlink()
    log.append(Said(text="the note is gone"))
    hub.faults.add("POST .*/commit/", lost=True)
    sent(one)
    assert commits(hub) == 3 and "workspace/note.txt" not in there(hub)


def test_a_line_that_is_being_written_waits(hub: Hub, tmp_path: Path):
    log = session(tmp_path)
    whole = log.path.read_bytes()
    with log.path.open("ab") as file:
        file.write(b'{"kind": "sa')
    sent(mirror_of(hub, tmp_path))
    assert log_there(hub) == whole


def test_a_wait_that_the_hub_asks_for_is_kept(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    hub.faults.add("POST .*/commit/", status=429, headers={"retry-after": "1"})
    sent(one)
    refused, then = [at for at, _, path, _ in hub.faults.asked if "/commit/" in path]
    assert then - refused >= 1.0 and log_there(hub) == log.path.read_bytes()


def test_somebody_else_commits_in_between_and_nothing_of_theirs_is_lost(hub: Hub, tmp_path: Path):
    mine, other = session(tmp_path / "a", "aaa"), session(tmp_path / "b", "bbb")
    one, two = mirror_of(hub, tmp_path / "a", "one"), mirror_of(hub, tmp_path / "b", "two")
    for i in range(5):
        for log, at in ((mine, one), (other, two)):
            log.append(Said(text=f"{i}"))
            sent(at)
    hub.faults.add("POST .*/commit/", wait_s=0.3)
    mine.append(Said(text="slow"))
    slow = threading.Thread(target=one.look, kwargs={"hurry": True})
    slow.start()
    until(lambda: any("/preupload/" in line[2] for line in hub.faults.asked[-3:]))
    other.append(Said(text="quick"))
    sent(two)
    slow.join()
    assert 412 in [status for _, _, path, status in hub.faults.asked if "/commit/" in path], "they met"
    sent(one)
    assert log_there(hub, "aaa") == mine.path.read_bytes() and log_there(hub, "bbb") == other.path.read_bytes()


def test_an_hour_of_trouble_ends_with_all_there_and_no_storm(hub: Hub, tmp_path: Path):
    """Every kind of fault, one after the other, while facts and files keep coming; then fair weather."""
    log = session(tmp_path)
    folder, work = job(log), log.path.parent / "workspace"
    one, over = mirror_of(hub, tmp_path, pace=FAST), threading.Event()
    kinds = [
        {"status": 500}, {"status": 503}, {"status": 429, "headers": {"retry-after": "0"}}, {"wait_s": 0.3}, {"lost": True},
        {"cut_after": 0}, {"cut_after": 10}, {"status": 429, "headers": {"ratelimit": '"api";r=0;t=1'}},
    ]  # fmt: skip
    asks = ("POST .*/commit/", "GET .*/datasets/[^/]*/[^/]*$", "GET .*/tree/", "POST .*/preupload/")

    def live() -> None:
        for i in range(10_000):
            log.append(Said(text=f"{i} {'x' * 200}"))
            (work / f"file-{i % 20}.txt").write_text(f"{i}" * (i % 1000))
            (work / f"file-{(i + 7) % 20}.txt").unlink(missing_ok=True)
            (work / "data.bin").write_bytes(random.randbytes(2000))
            with (folder / "log.txt").open("a") as file:
                file.write(f"line {i}\n")
            if over.wait(0.02):
                return

    living = threading.Thread(target=live)
    living.start()
    began, end = time.monotonic(), time.monotonic() + 12
    dice = random.Random(0)
    while time.monotonic() < end:
        if dice.random() < 0.02:
            hub.faults.add(dice.choice(asks[:3]), **dice.choice(kinds))
        one.look()
        time.sleep(0.01)
    for at, kind in enumerate(kinds):  # and each of them at each door, once at least
        for ask in asks:
            hub.faults.add(ask, **kind) if at % len(asks) == asks.index(ask) else None
    until(lambda: (one.look(), commits(hub) > 5)[1])
    over.set()
    living.join()
    hub.faults.clear()
    took = time.monotonic() - began
    sent(one)
    tried = [at for at, method, path, _ in hub.faults.asked if method == "POST" and "/commit/" in path]
    busiest = max(sum(at <= other < at + FAST.window for other in tried) for at in tried)
    assert busiest <= FAST.most
    assert len(tried) <= took / FAST.every + 10
    assert sum(status is None or status >= 400 for *_, status in hub.faults.asked) > 10, "there was trouble"
    here = {f"workspace/{path.name}": path.read_bytes() for path in work.iterdir()}
    assert {path: data for path, data in there(hub).items() if path.startswith("workspace/")} == here
    assert log_there(hub) == log.path.read_bytes()


def test_a_fact_is_there_within_a_minute_in_fair_weather(hub: Hub, tmp_path: Path):
    """At the pace of `Pace()` divided by 100: a look each 10 ms, a snapshot each 0.45 s; a minute is 0.6 s and what a request takes."""
    log = session(tmp_path)
    one = mirror_of(hub, tmp_path, pace=replace(CALM, every=0.45))
    worst = 0.0
    sent(one)
    for i in range(6):
        time.sleep(0.1 * i)
        log.append(Said(text=f"fact {i}"))
        happened = time.monotonic()
        until(lambda: (one.look(), time.sleep(0.01), log_there(hub) == log.path.read_bytes())[2], 5)
        worst = max(worst, time.monotonic() - happened)
    assert worst < 0.45 + 0.15 + 0.5


def test_the_rate_of_commits_is_bounded(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path, pace=replace(CALM, most=5, window=3600))
    for i in range(20):
        log.append(Said(text=f"{i}"))
        time.sleep(0.02)
        one.look(hurry=True)
    assert commits(hub) == 5


def test_a_new_machine_fetches_and_goes_on(hub: Hub, tmp_path: Path):
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
    sent(mirror_of(hub, tmp_path / "old", "old"))
    assert there(hub)["jobs/sft-1/log/000001.txt"] == b"printed"
    heard = time.time()
    sessions = tmp_path / "new" / "sessions"
    remote = remote_of(hub, tmp_path / "new")
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
    sent(mirror_of(hub, tmp_path / "new", "new"))
    assert log_there(hub) == there_now.path.read_bytes()
    log.append(Said(text="me too"))
    sent(mirror_of(hub, tmp_path / "old", "old"))
    log.refresh()
    halted = log[-1]
    assert isinstance(halted, Halted) and "(new)" in halted.reason, "two must not drive one session"
    assert log_there(hub) == there_now.path.read_bytes()


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


def test_an_old_process_of_a_space_yields_to_the_one_that_was_started_after_it(hub: Hub, tmp_path: Path):
    log = session(tmp_path / "old")
    old = mirror_of(hub, tmp_path / "old", "ada/space")
    sent(old)
    assert pull(remote_of(hub, tmp_path / "new"), tmp_path / "new" / "sessions", "ada/space").fetched
    log.append(Said(text="still here"))
    sent(old)
    there_now = Log(tmp_path / "new" / "sessions" / log.path.parent.name / "events.jsonl")
    there_now.append(Said(text="go on"))
    sent(mirror_of(hub, tmp_path / "new", "ada/space"))
    log.append(Said(text="and on"))
    sent(old)
    log.refresh()
    assert isinstance(log[-1], Halted) and log_there(hub) == there_now.path.read_bytes()


def test_a_folder_takes_the_place_of_a_file(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(hub, tmp_path)
    place = log.path.parent / "workspace" / "out"
    place.write_text("file")
    sent(one)
    place.unlink()
    place.mkdir()
    (place / "file").write_text("folder")
    sent(one)
    assert {path for path in there(hub) if path.startswith("workspace/")} == {"workspace/out/file"}


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


def test_a_dead_machines_session_is_fetched_while_this_one_mirrors(hub: Hub, tmp_path: Path):
    old = session(tmp_path / "old", "old")
    sent(mirror_of(hub, tmp_path / "old", "old"))
    log, one = session(tmp_path, "new"), mirror_of(hub, tmp_path)
    remote = remote_of(hub, tmp_path)
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
    assert json.loads(there(hub, "old")[OWNER])["machine"] == "here" and not list(remote.scratch.glob("pull-*"))
    assert log_there(hub, "new") == log.path.read_bytes()


def test_a_session_that_goes_on_elsewhere_while_it_is_fetched_is_not_ours(hub: Hub, tmp_path: Path):
    log, one = session(tmp_path / "old"), mirror_of(hub, tmp_path / "old", "old")
    sent(one)
    remote = remote_of(hub, tmp_path)
    fetch = remote.fetch

    def slow(*asked) -> None:
        fetch(*asked)
        log.append(Said(text="I am back"))
        sent(one)

    remote.fetch = slow
    with pytest.raises(Trouble, match="has changed while it was fetched"):
        pull(remote, tmp_path / "sessions", "here", dead=0.0)
    assert not list((tmp_path / "sessions").iterdir()) and json.loads(there(hub)[OWNER])["machine"] == "old"


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


def test_a_session_that_is_deleted_here_is_deleted_there_and_not_fetched_again(hub: Hub, tmp_path: Path):
    log, other = session(tmp_path, "aaa"), session(tmp_path, "bbb")
    one = mirror_of(hub, tmp_path)
    sent(one)
    bury(log.path.parent)
    shutil.rmtree(log.path.parent)
    assert pull(remote_of(hub, tmp_path), tmp_path / "sessions", "here").fetched == []
    sent(one)
    paths = hub.repos.files("dataset", REPO)
    assert not [path for path in paths if log.path.parent.name in path]
    assert [path for path in paths if other.path.parent.name in path]
    shutil.rmtree(other.path.parent)  # a disk that is wiped deletes nothing there
    sent(mirror_of(hub, tmp_path))
    assert there(hub, "bbb")
