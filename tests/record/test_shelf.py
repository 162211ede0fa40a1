"""A folder keeps sessions though its mount may tear, lose and refuse what is written: what was acknowledged is there."""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from record import mirror, shelf
from record.events import Said
from record.log import Log
from record.pull import pull
from record.remote import Trouble
from record.shelf import Shelf
from tests.conftest import until
from tests.record.mirrored import DAY, Folder, files_of, log_there, mirror_of, remote_of, sent, session, there

AAA = f"{DAY}aaa"


def indexes(folder: Folder) -> list[Path]:
    """The newest first."""
    return sorted((folder.path / "sessions").iterdir(), reverse=True)


def contents(folder: Folder) -> set[str]:
    return {path.name for path in (folder.path / "files" / AAA).iterdir()}


def named(*those: Path) -> set[str]:
    return {content for index in those for _, content in json.loads(index.read_bytes()).values()} - {shelf.EMPTY}


def aged(folder: Folder, seconds: int) -> None:
    """As if everything had been written so long ago: an index has its time in its name."""
    for path in indexes(folder):
        name, when, rest = path.name.split(".", 2)
        path.rename(path.with_name(f"{name}.{int(when) - seconds}.{rest}"))


def written(folder: Folder) -> set[tuple[int, Path]]:
    """Every file, with when it was written (ns)."""
    return {(path.stat().st_mtime_ns, path) for path in folder.path.rglob("*") if path.is_file()}


def grown(home: Path, folder: Folder) -> tuple[Log, bytes, bytes]:
    """A session with two snapshots: its log then, and now."""
    log, one = session(home), mirror_of(folder, home)
    note = log.path.parent / "workspace" / "note.txt"
    note.write_text("first")
    sent(one)
    before = log.path.read_bytes()
    log.append(Said(text="more"))
    note.write_text("second")
    sent(one)
    return log, before, log.path.read_bytes()


def fetched(folder: Folder, home: Path) -> tuple[bytes, str]:
    """The log and the note that a new machine gets."""
    assert pull(folder_of(folder, home), home / "sessions", "here").fetched == [AAA]
    place = home / "sessions" / AAA
    return (place / "events.jsonl").read_bytes(), (place / "workspace" / "note.txt").read_text()


def folder_of(folder: Folder, home: Path) -> Shelf:
    return Shelf(folder.path, home / "scratch")


def dies(work: Callable[[], object], at: int) -> bool:
    """Do it in a process that is killed before it opens for writing, or deletes, for the `at`-th time; whether it was."""
    child = os.fork()
    if not child:
        left = [at]

        def hook(event: str, given: tuple) -> None:
            writes = event == "os.remove" or (event == "open" and given[2] & os.O_WRONLY)
            if writes and "/bucket/" in str(given[0]):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    ended = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(ended) or ended == 0
    return os.WIFSIGNALED(ended)


@pytest.mark.parametrize("tears", [False, True], ids=["whole", "torn"])
def test_a_kill_at_any_write_leaves_a_snapshot_whole(folder: Folder, tmp_path: Path, tears: bool):
    log, home = session(tmp_path), tmp_path
    note, big = (log.path.parent / "workspace" / name for name in ("note.txt", "big.bin"))
    note.write_text("0")
    sent(mirror_of(folder, home))
    states, kills = [(log.path.read_bytes(), "0")], 0
    for at in range(1, 100):
        aged(folder, 1000)  # so that there is something to delete, too
        known = written(folder)
        log.append(Said(text=f"{at}"))
        note.write_text(f"{at}")
        note.with_name(f"copy-{at}").write_text("the same")  # of which the snapshot before has one, too
        big.write_bytes(random.randbytes(mirror.BIG + 1) if at == 3 else b"")
        states.append((log.path.read_bytes(), f"{at}"))
        killed = dies(lambda: sent(mirror_of(folder, home)), at)
        new = [path for _, path in sorted(written(folder) - known)]
        if tears and killed and new:  # and what was written last did not get there whole
            os.truncate(new[-1], new[-1].stat().st_size // 2)
        got = fetched(folder, tmp_path / f"new-{at}")
        assert got in states[-2:] if killed else got == states[-1]
        kills += killed
        sent(mirror_of(folder, home))
        assert (log_there(folder), there(folder)["workspace/note.txt"].decode()) == states[-1]
        log.append(Said(text="and a commit after which nothing is left of what was begun"))
        states.append((log.path.read_bytes(), f"{at}"))
        sent(mirror_of(folder, home))
        assert contents(folder) == named(*indexes(folder)), "nothing else is there"
        if not killed:
            break
    assert kills >= 6, "contents, an index, and what is deleted"


@pytest.mark.parametrize(
    "how", ["index-torn", "index-gone", "index-other", "content-torn", "content-other", "content-gone"]
)
def test_what_is_spoilt_is_noticed_and_what_was_there_before_is_fetched(folder: Folder, tmp_path: Path, how: str):
    log, before, now = grown(tmp_path, folder)
    assert fetched(folder, tmp_path / "whole") == (now, "second")
    newest, former = indexes(folder)
    what = newest if how.startswith("index") else None
    if not what:
        (new,) = {(content) for path, (_, content) in json.loads(newest.read_bytes()).items() if "note" in path}
        assert new not in named(former)
        what = folder.path / "files" / AAA / new
    if how.endswith("gone"):
        what.unlink()
    elif how == "index-other":
        what.write_bytes(what.read_bytes().replace(b"note.txt", b"n0te.txt"))
    else:
        what.write_bytes(what.read_bytes()[:-1] + (b"" if how.endswith("torn") else b"\0"))
    assert fetched(folder, tmp_path / "new") == (before, "first")
    one = mirror_of(folder, tmp_path)
    log.append(Said(text="and on"))
    sent(one)
    if how != "content-other":  # whose name is there, as a spoilt blob of a repository's is
        assert files_of(folder)[f"sessions/{AAA}/workspace/note.txt"] == b"second"
        assert log_there(folder) == log.path.read_bytes()


def test_an_index_that_leads_out_of_its_session_is_none(folder: Folder, tmp_path: Path):
    _, before, _ = grown(tmp_path, folder)
    newest, former = indexes(folder)
    rows = json.loads(newest.read_bytes())
    for path in ("sessions/other/x", f"sessions/{AAA}/../x", "../x", "/etc/x", "x"):
        data = json.dumps(rows | {path: next(iter(rows.values()))}).encode()
        newest.with_name(f"{AAA}.{int(time.time()) + 99}.{shelf._sum(data)}.json").write_bytes(data)
    assert folder.shelf.head() == newest.name
    newest.unlink()
    assert folder.shelf.head() == former.name and fetched(folder, tmp_path / "new") == (before, "first")


def test_a_mount_that_goes_away_becomes_words_and_what_is_missing_comes_later(folder: Folder, tmp_path: Path):
    """A full disk and other errors: test_bucket."""
    log, one = session(tmp_path), mirror_of(folder, tmp_path)
    sent(one)
    log.append(Said(text="more"))
    folder.path.rename(tmp_path / "away")
    until(lambda: (one.look(hurry=True), one.state["why"])[1], 5)
    assert one.state["why"] == f"{folder.path} is gone; it is made again when ML Intern starts"
    (tmp_path / "away").rename(folder.path)
    sent(one)
    assert log_there(folder) == log.path.read_bytes()


def test_a_folder_that_is_not_mounted_is_not_made_on_this_disk(tmp_path: Path):
    one = Shelf(tmp_path / "mnt" / "share", tmp_path / "scratch")
    with pytest.raises(Trouble, match=r"share is not there: make it, or mount what it lies on") as caught:
        one.head(make=True)
    assert caught.value.person and not (tmp_path / "mnt").exists() and one.head() is None


def test_links_and_pipes_that_others_leave_there_are_not_followed(folder: Folder, tmp_path: Path):
    log, _, _ = grown(tmp_path, folder)
    one, mine = mirror_of(folder, tmp_path), tmp_path / "mine"
    mine.mkdir()
    (mine / shelf._sum(b"mine")).write_text("mine")
    (mine / "bashrc").write_text("mine")
    files = folder.path / "files"
    (files / AAA / shelf._sum(b"a third")).symlink_to(mine / "bashrc")
    (log.path.parent / "workspace" / "note.txt").write_text("a third")
    sent(one)
    assert (mine / "bashrc").read_text() == "mine" and there(folder)["workspace/note.txt"] == b"a third"
    newest = indexes(folder)[0]
    for n, make in enumerate((os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"))):
        make(newest.with_name(f"{AAA}.{int(time.time()) + 60 + n}.{40 * 'a'}.json"))
    (note,) = [sum for path, (_, sum) in json.loads(newest.read_bytes()).items() if path.endswith("note.txt")]
    (files / AAA / note).unlink()
    os.mkfifo(files / AAA / note)
    assert fetched(folder, tmp_path / "new")[1] == "second"
    (files / AAA).rename(tmp_path / "kept")
    (files / AAA).symlink_to(mine)
    log.append(Said(text="more"))
    until(lambda: (one.look(hurry=True), one.state["why"])[1], 5)
    assert one.state["why"] == f"{files / AAA} is no folder but a link or a file; take it away"
    with pytest.raises(Trouble, match="no folder but a link"):
        folder.shelf.forget(AAA)
    assert len(list(mine.iterdir())) == 2


def goes_on(log, folder: Folder, tmp_path: Path) -> None:
    """What is said next comes there, whatever lies there already."""
    log.append(Said(text="more"))
    sent(mirror_of(folder, tmp_path))
    assert log_there(folder) == log.path.read_bytes()


@pytest.mark.parametrize("odd", ['[Infinity, "x"]', "[" * 100_000, f'[-5, "{shelf.EMPTY}"]', '[1, "../../x"]', "{}"])
def test_an_odd_index_holds_up_no_session(folder: Folder, tmp_path: Path, odd: str):
    log, _, now = grown(tmp_path, folder)
    data = f'{{"sessions/{AAA}/x": {odd}}}'.encode()
    indexes(folder)[0].with_name(f"{AAA}.{int(time.time()) + 60}.{shelf._sum(data)}.json").write_bytes(data)
    assert fetched(folder, tmp_path / "new") == (now, "second")
    goes_on(log, folder, tmp_path)


def test_what_is_deleted_is_gone_also_where_a_part_of_it_never_arrived(folder: Folder, tmp_path: Path):
    log, _, _ = grown(tmp_path, folder)
    one = mirror_of(folder, tmp_path)
    for content in contents(folder) & named(*indexes(folder)[:1]) & named(*indexes(folder)[1:]):
        (folder.path / "files" / AAA / content).unlink()  # no index is whole
    mirror.bury(log.path.parent)
    shutil.rmtree(log.path.parent)
    sent(one)
    assert not indexes(folder) and not (folder.path / "files" / AAA).exists()
    assert not list((tmp_path / "sessions" / mirror.DELETED).iterdir())


def test_what_was_sent_ahead_and_given_up_does_not_stay_nor_do_a_thousand_indexes(
    folder: Folder, tmp_path: Path, monkeypatch
):
    log, one = session(tmp_path), remote_of(folder, tmp_path)
    (tmp_path / "big").write_bytes(b"big")
    sent(mirror_of(folder, tmp_path))
    one.upload(f"sessions/{AAA}/jobs/sft-1/model/a", tmp_path / "big")
    for n in range(shelf.MOST + 10):
        one.commit(one.head() or "", "x", {f"sessions/{AAA}/workspace/{n}": b"%d" % n}, [])
    assert len(indexes(folder)) == len(one._known) == shelf.MOST and shelf._sum(b"big") in contents(folder)
    monkeypatch.setattr(shelf, "ABANDONED", 0.0)
    one.commit(one.head() or "", "x", {f"sessions/{AAA}/workspace/z": b"z"}, [])
    assert contents(folder) == named(*indexes(folder))
    wrong = indexes(folder)[0].read_bytes()  # a clock that is a year ahead
    indexes(folder)[0].with_name(f"{AAA}.{int(time.time()) + 10**7}.{shelf._sum(wrong)}.json").write_bytes(wrong)
    goes_on(log, folder, tmp_path)


def test_what_a_person_deletes_there_is_written_again(folder: Folder, tmp_path: Path):
    log, _, _ = grown(tmp_path, folder)
    one = mirror_of(folder, tmp_path)
    sent(one)
    data = random.randbytes(mirror.BIG + 1)
    (log.path.parent / "workspace" / "big.bin").write_bytes(data)
    one.look()
    ahead = folder.path / "files" / AAA / shelf._sum(data)
    until(lambda: not one._ahead._thread or not one._ahead._thread.is_alive(), 10)
    assert ahead.exists()
    for content in contents(folder):
        (ahead.with_name(content)).unlink()
    log.append(Said(text="and on"))
    sent(one)
    assert ahead.read_bytes() == data
    assert log_there(folder) == log.path.read_bytes() and b"second" in files_of(folder).values()
    shutil.rmtree(folder.path / "files")
    log.append(Said(text="and on"))
    sent(one)
    assert log_there(folder) == log.path.read_bytes() and b"second" in files_of(folder).values()


def test_of_two_machines_that_write_at_once_one_at_most_is_told_that_it_is_there(folder: Folder, tmp_path: Path):
    session(tmp_path)
    sent(mirror_of(folder, tmp_path))
    path, told = f"sessions/{AAA}/owner.json", 0
    dice = random.Random(0)
    for i in range(150):
        if i % 10 == 0:
            aged(folder, 1000)
        ours = [Shelf(folder.path, tmp_path / f"{n}") for n in range(3)]
        heads = [one.head() or "" for one in ours]
        rests = [0.002 * dice.random() for _ in ours]
        start, done = threading.Barrier(3), []

        def write(n: int, ours=ours, heads=heads, rests=rests, start=start, done=done) -> None:
            start.wait()
            time.sleep(rests[n])
            try:
                done.append((n, ours[n].commit(heads[n], "mine", {path: b'{"machine": "%d"}' % n}, [])))
            except Trouble as trouble:
                assert "somebody else" in str(trouble)

        writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for one in writers:
            one.start()
        for one in writers:
            one.join()
        assert len(done) <= 1
        now = folder.shelf
        if done:
            told += 1
            assert now.head() == done[0][1] and now.read(done[0][1], path) == {"machine": str(done[0][0])}
    assert told > 20


def test_indexes_of_the_last_minutes_stay_and_one_that_is_older(folder: Folder, tmp_path: Path):
    log, one = session(tmp_path), mirror_of(folder, tmp_path)
    sent(one)
    for seconds in (400, 300, 200, 100, 50):
        log.append(Said(text="x"))
        sent(one)
        aged(folder, seconds)
    log.append(Said(text="x"))
    sent(one)
    ages = [time.time() - int(path.name.split(".")[1]) for path in indexes(folder)]
    assert sum(age > shelf.SETTLED for age in ages) == 1 and len(ages) == 5
    assert contents(folder) == named(*indexes(folder))
    aged(folder, int(shelf.AT_REST) + 99)
    Shelf(folder.path, tmp_path / "x").commit(folder.shelf.head() or "", "another", {"sessions/b/f": b"1"}, [])
    (left,) = [path for path in indexes(folder) if AAA in path.name]
    assert contents(folder) == named(left) and log_there(folder) == log.path.read_bytes()


def test_a_snapshot_costs_the_same_with_two_hundred_sessions(folder: Folder, tmp_path: Path):
    """What is opened: three contents (the log's last piece, owner.json, the trace), and one index."""
    one = Shelf(folder.path, tmp_path / "scratch")
    one.head(make=True)
    for i in range(200):
        one.commit("", "x", {f"sessions/s{i}/{n}": b"%d" % n for n in range(3)}, [])
    log, at = session(tmp_path), mirror_of(folder, tmp_path)
    sent(at)
    opened: list[str] = []
    log.append(Said(text="more"))
    on = [True]
    sys.addaudithook(lambda event, given: opened.append(str(given[0])) if on and event == "open" else None)
    sent(at)
    on.clear()
    there = [path for path in opened if "/bucket/" in path]
    assert len(there) <= 4, there
