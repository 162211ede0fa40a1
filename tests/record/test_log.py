"""One file of facts, many processes."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.settings import ROOT
from record.events import Noted, Progressed, Said
from record.log import Log, LogError

WRITER = """
import sys
from pathlib import Path
from record.events import Said
from record.log import Log
log = Log(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    log.append(Said(text=f"{sys.argv[2]}-{i}"))
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count)], cwd=ROOT)


def texts(log: Log) -> list[str]:
    log.refresh()
    return [fact.text for fact in log if isinstance(fact, Said)]


def test_four_processes_append_at_once_and_nothing_is_lost_doubled_or_misnumbered(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    for process in [writer(path, name, 100) for name in "abcd"]:
        assert process.wait(60) == 0
    log = Log(path)
    assert sorted(texts(log)) == sorted(f"{name}-{i}" for name in "abcd" for i in range(100))
    assert [fact.seq for fact in log] == list(range(1, 401))
    for name in "abcd":  # each writer's own order is kept
        assert [t for t in texts(log) if t.startswith(name)] == [f"{name}-{i}" for i in range(100)]


def test_a_writer_killed_at_any_moment_leaves_a_log_that_reads_and_takes_more(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    for round_ in range(5):
        process = writer(path, f"r{round_}", 1_000_000)
        seen = Log(path)
        while not any(t.startswith(f"r{round_}-") for t in texts(seen)):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        Log(path).append(Said(text="after"))
    log = Log(path)
    assert texts(log).count("after") == 5
    assert [fact.seq for fact in log] == list(range(1, len(log) + 1))


@pytest.mark.parametrize("torn", [b"{", b'{"seq":2,"kind":"said","text":"never ackn', "é".encode()[:1]])
def test_a_torn_last_line_is_not_read_and_is_cut_off_by_the_next_writer(tmp_path: Path, torn):
    path = tmp_path / "events.jsonl"
    Log(path).append(Said(text="one"))
    with open(path, "ab") as file:
        file.write(torn)
    reader = Log(path)
    assert texts(reader) == ["one"]
    Log(path).append(Said(text="two"))
    assert texts(reader) == ["one", "two"]
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().endswith(b"\n")


def test_a_follower_in_another_process_gets_every_fact_once_in_order(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    process = writer(path, "w", 300)
    got = []
    for fact in Log(path).follow(stop=lambda: len(got) >= 300):
        got.append(fact.seq)
    assert process.wait(30) == 0
    assert got == list(range(1, 301))
    later = Log(path)
    assert [f.seq for f in later.follow(after=290, stop=lambda: True)] == list(range(291, 301))


def test_a_full_disk_refuses_the_whole_append_and_what_was_there_stays(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    log = Log(path)
    log.append(Said(text="one"))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(LogError, match="free some disk"):
            log.append(Said(text="x" * 300), Said(text="y"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    log.append(Said(text="two"))
    assert texts(Log(path)) == ["one", "two"]


def test_secrets_are_taken_out_before_they_reach_the_disk(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    log = Log(path, secrets=("my-own-provider-key",))
    stored = log.append(
        Said(text="use my-own-provider-key"), Noted(topic="t", text="t", details={"hf_token": "abcdefgh"})
    )
    assert "my-own-provider-key" not in path.read_text() and "abcdefgh" not in path.read_text()
    assert list(Log(path).follow(stop=lambda: True)) == stored  # the writer and the reader see the same


def test_a_value_that_is_not_finite_survives_as_its_name(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    Log(path).append(Progressed(job="j", step=1, values={"loss": "nan", "grad_norm": 2.0}))
    log = Log(path)
    log.refresh()
    assert log[0].values == {"loss": "nan", "grad_norm": 2.0}  # type: ignore[union-attr]


def test_a_line_that_is_no_fact_is_an_error_with_its_place(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    Log(path).append(Said(text="one"))
    with open(path, "ab") as file:
        file.write(b'{"kind":"sang"}\n')
    with pytest.raises(LogError, match="line 2"):
        Log(path).refresh()


def test_half_a_character_from_a_model_is_stored_as_a_question_mark(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    stored = log.append(Said(text="\ud83d cut"), Noted(topic="t", text="t", details={"k": ["\udc80"]}))
    assert list(Log(log.path).follow(stop=lambda: True)) == stored
    assert stored[0].text == "? cut"  # type: ignore[union-attr]


def test_a_log_that_cannot_be_opened_is_a_log_error(tmp_path: Path):
    with pytest.raises(LogError, match="could not be opened"):
        Log(tmp_path / "no folder" / "events.jsonl").append(Said(text="x"))


def test_a_reader_never_sees_an_append_that_is_being_rolled_back(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    Log(path).append(Said(text="one"))
    reader = Log(path)
    with open(path, "ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        size = path.stat().st_size
        writer.write(Path(path).read_bytes())  # a whole line, which the disk then refuses to complete
        writer.flush()
        seen = threading.Thread(target=reader.refresh)
        seen.start()
        seen.join(0.2)
        os.ftruncate(writer.fileno(), size)
    seen.join(10)
    assert texts(reader) == ["one"]
