"""A person's sessions in their dataset repository: what goes there, and how often, whatever fails."""

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from record import contents as parts
from record import mirror
from record.ahead import Ahead
from record.contents import SEGMENT, Piece
from record.events import (
    Call,
    Closed,
    Ended,
    Finished,
    Halted,
    Promoted,
    Replied,
    Said,
)  # fmt: skip
from record.log import Log
from record.mirror import OWNER, bury
from record.pull import pull
from record.remote import Trouble
from tests.conftest import until
from tests.hub import Hub
from tests.record.mirrored import (
    CALM,
    DAY,
    FAST,
    REPO,
    Store,
    commits,
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


def test_a_snapshot_is_one_commit_and_what_is_there_is_what_is_here(store: Store, tmp_path: Path):
    logs = [session(tmp_path, "aaa"), session(tmp_path, "bbb")]
    work = logs[0].path.parent / "workspace"
    for i in range(300):
        (work / f"note-{i}.txt").write_text(f"note {i}")
    (work / "deep" / "er").mkdir(parents=True)
    (work / "deep" / "er" / "weights.safetensors").write_bytes(random.randbytes(3 * 2**20))
    (work / "empty.txt").touch()
    sent(mirror_of(store, tmp_path))
    assert commits(store) == 1
    assert not isinstance(store, Hub) or store.repos.repo("dataset", REPO).visibility == "private"
    for log, name in zip(logs, ("aaa", "bbb"), strict=True):
        assert log_there(store, name) == log.path.read_bytes()
        here = {f"workspace/{path.relative_to(log.path.parent / 'workspace')}": path.read_bytes()
                for path in (log.path.parent / "workspace").rglob("*") if path.is_file()}  # fmt: skip
        assert {path: data for path, data in there(store, name).items() if path.startswith("workspace/")} == here
    assert b"ML Intern" in files_of(store)["README.md"]


def test_only_what_is_new_is_sent_however_long_the_log(store: Store, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(store, tmp_path)
    for i in range(5):
        log.append(Said(text=f"{i} " + "x " * 300_000))
    sent(one)
    before, done = there(store), commits(store)
    log.append(Said(text="more"))
    sent(one)
    changed = {path for path, data in there(store).items() if before.get(path) != data}
    last = max(path for path in before if path.startswith("events/"))
    assert log.path.stat().st_size > 2 * SEGMENT and changed == {last, OWNER} and commits(store) == done + 1
    assert log_there(store) == log.path.read_bytes()
    until(lambda: one.look(hurry=True))
    assert commits(store) == done + 1, "nothing new, no commit"


def test_what_is_deleted_or_renamed_here_is_so_there(store: Store, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(store, tmp_path)
    work = log.path.parent / "workspace"
    (work / "old.txt").write_text("same")
    (work / "gone.bin").write_bytes(b"\0" * 100)
    sent(one)
    (work / "old.txt").rename(work / "new.txt")
    (work / "gone.bin").unlink()
    sent(one)
    (work / "new.txt").write_text("SAME")  # no more bytes, and no fact
    sent(one)
    assert there(store)["workspace/new.txt"] == b"SAME"
    assert {path for path in there(store) if path.startswith("workspace/")} == {"workspace/new.txt"}


def test_links_pipes_caches_and_scratch_never_go(store: Store, tmp_path: Path):
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
    sent(mirror_of(store, tmp_path))
    assert set(there(store)) == {"events/000001.jsonl", OWNER, "jobs/sft-1/config.json", "jobs/sft-1/log/000001.txt"}
    assert json.loads(there(store)[OWNER])["left_out"] == ["jobs/sft-1/log"], "there it would be a folder's name"


def test_weights_go_by_rule_the_best_model_and_the_last_whole_checkpoint(store: Store, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(store, tmp_path)
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
    kept = {path.rsplit("/", 1)[0] for path in there(store) if path.endswith(".safetensors")}
    assert kept == {"jobs/sft-1/checkpoints/checkpoint-20", "jobs/sft-2/model"}
    log.append(Ended(job="sft-1", state="done", seconds=1), Halted(), Closed(outcome="stopped", reason=""))
    sent(one)
    kept = {path.rsplit("/", 1)[0] for path in there(store) if path.endswith(".safetensors")}
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


def test_what_is_too_big_is_left_out_and_said(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    log = session(tmp_path)
    (log.path.parent / "workspace" / "big.bin").write_bytes(bytes(50_000))
    (log.path.parent / "workspace" / "small.txt").write_text("small")
    (log.path.parent / "workspace" / "odd\nname").touch()
    sent(mirror_of(store, tmp_path, most=20_000))
    assert {path for path in there(store) if path.startswith("workspace/")} == {"workspace/small.txt"}
    assert "workspace/big.bin" in caplog.text
    assert set(json.loads(there(store)[OWNER])["left_out"]) == {"workspace/big.bin", "workspace/odd\nname"}


def test_the_trace_is_what_the_viewer_of_the_hub_reads(store: Store, tmp_path: Path):
    log = session(tmp_path)
    call = Call(id="c1", name="train", arguments={"lr": 0.1})
    log.append(Replied(text="I train.", thought="Why not?", calls=(call,), model="some/model"))
    log.append(Finished(call="c1", name="train", ok=True, output="sft-1", seconds=1.0))
    log.append(Closed(outcome="done", reason="0.9 is reached"))
    sent(mirror_of(store, tmp_path))
    header, *rows = map(json.loads, files_of(store)[f"traces/{DAY}aaa.jsonl"].splitlines())
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


def test_a_spoilt_mark_and_a_deep_folder_stop_nothing(store: Store, deep: Path):
    log, one = session(deep), mirror_of(store, deep)
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
    sent(mirror_of(store, deep))
    assert log_there(store) == log.path.read_bytes() and not [path for path in there(store) if "file" in path]
    bury(log.path.parent)


def test_a_big_file_that_changes_at_its_size_in_a_resumed_session_is_sent(store: Store, tmp_path: Path):
    log = session(tmp_path)
    big = log.path.parent / "workspace" / "data.bin"
    big.write_bytes(b"a" * (mirror.BIG + 1))
    log.append(Closed(outcome="done", reason="x"))
    sent(mirror_of(store, tmp_path))
    one = mirror_of(store, tmp_path)
    sent(one)
    log.append(Said(text="more"))
    big.write_bytes(b"b" * (mirror.BIG + 1))
    log.append(Closed(outcome="done", reason="y"))
    sent(one)
    assert there(store)["workspace/data.bin"][:1] == b"b"


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


def test_a_person_says_no_by_a_file_and_yes_by_taking_it_away(hub: Hub, tmp_path: Path):
    """In whatever Space they sign in: nothing is written, and nothing fetched."""
    one, log = mirror_of(hub, tmp_path), session(tmp_path)
    hub.repos.write("dataset", REPO, {"OFF": b""}, visibility="private")
    assert not one.look() and "has a file OFF" in one.state["why"]
    with pytest.raises(Trouble, match="has a file OFF"):
        pull(remote_of(hub, tmp_path / "new"), tmp_path / "new" / "sessions", "there")
    assert set(hub.repos.files("dataset", REPO)) == {".gitattributes", "OFF"}
    HfApi(endpoint=hub.url, token="hf_ada").delete_file("OFF", REPO, repo_type="dataset")
    sent(one)
    assert log_there(hub) == log.path.read_bytes()


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


def test_a_line_that_is_being_written_waits(store: Store, tmp_path: Path):
    log = session(tmp_path)
    whole = log.path.read_bytes()
    with log.path.open("ab") as file:
        file.write(b'{"kind": "sa')
    sent(mirror_of(store, tmp_path))
    assert log_there(store) == whole


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


@pytest.mark.slow
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
    for at, kind in enumerate(kinds):  # and each of them at one door, once at least
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


def test_the_rate_of_commits_is_bounded(store: Store, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(store, tmp_path, pace=replace(CALM, most=5, window=3600))
    for i in range(20):
        log.append(Said(text=f"{i}"))
        time.sleep(0.02)
        one.look(hurry=True)
    assert commits(store) == 5


def test_a_big_file_that_changed_at_its_size_before_a_restart_is_sent(store: Store, tmp_path: Path):
    log = session(tmp_path)
    big = log.path.parent / "workspace" / "data.bin"
    big.write_bytes(b"a" * (mirror.BIG + 1))
    sent(mirror_of(store, tmp_path))
    big.write_bytes(b"b" * (mirror.BIG + 1))
    log.append(Closed(outcome="done", reason="x"))
    mirror_of(store, tmp_path).look()  # and is killed before the big file has gone
    assert log_there(store) == log.path.read_bytes() and there(store)["workspace/data.bin"][:1] == b"a"
    sent(mirror_of(store, tmp_path))
    assert there(store)["workspace/data.bin"][:1] == b"b"


def test_a_session_that_is_over_costs_a_restart_nothing_unless_it_is_gone_there(hub: Hub, tmp_path: Path):
    log = session(tmp_path)
    log.append(Closed(outcome="done", reason="x"))
    sent(mirror_of(hub, tmp_path))
    asked, one = len(hub.faults.asked), mirror_of(hub, tmp_path)
    sent(one)
    assert len(hub.faults.asked) == asked
    hub.repos.commit(hub.repos.repo("dataset", REPO), "refs/heads/main", lambda tree: {}, "by hand")
    session(tmp_path, "bbb")
    sent(one)
    assert log_there(hub) == log.path.read_bytes()


def test_a_long_history_becomes_one_commit_unless_another_machine_writes(hub: Hub, tmp_path: Path):
    mine, other = session(tmp_path / "a", "aaa"), session(tmp_path / "b", "bbb")
    pace = replace(CALM, history=10)
    one, two = mirror_of(hub, tmp_path / "a", "one", pace), mirror_of(hub, tmp_path / "b", "two", pace)

    def write(log: Log, at: mirror.Mirror) -> None:
        log.append(Said(text="more"))
        until(at.look)

    for _ in range(12):
        write(mine, one)
        write(other, two)
    assert commits(hub) >= 24, "each saw that the other writes"
    later = mirror_of(hub, tmp_path / "a", "one", replace(pace, dead=0.0))
    lost = hub.faults.add("POST .*/super-squash/", lost=True)
    write(mine, later)
    assert lost.times == 0 and len(hub.repos.commits("dataset", REPO)) == 1
    for log, at in ((mine, later), (other, two)):
        write(log, at)
    assert log_there(hub, "aaa") == mine.path.read_bytes() and log_there(hub, "bbb") == other.path.read_bytes()
    for _ in range(12):
        write(mine, later)
    assert len(hub.repos.commits("dataset", REPO)) < 10, "and again"
