"""A folder on a real FUSE mount that knows no appends, changes, renames, links or locks, and that fails."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from record.contents import SEGMENT
from record.events import Said
from record.mirror import Mirror
from record.pull import pull
from record.shelf import Shelf
from tests.conftest import until
from tests.record.mirrored import DAY, Folder, mirror_of, sent, session, there

BUCKET = Path(__file__).with_name("bucket.py")
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse that can be opened"),
    pytest.mark.skipif(not importlib.util.find_spec("mfusepy"), reason="pip install mfusepy turns this on"),
]


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Mount the bucket, once more if it is gone."""
    at = tmp_path / "mount"
    at.mkdir()
    (tmp_path / "store").mkdir()
    started: list[subprocess.Popen] = []

    def unmount() -> None:
        subprocess.run(["fusermount3", "-uz", at], capture_output=True)

    def mount() -> subprocess.Popen:
        unmount()
        command = [sys.executable, BUCKET, tmp_path / "store", at]
        started.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}))
        until(lambda: f" {at} fuse" in Path("/proc/mounts").read_text(), 20)
        return started[-1]

    yield mount
    unmount()
    for process in started:
        process.kill()
        process.wait()


def told(one: Mirror, why: str) -> None:
    until(lambda: (one.look(hurry=True), why in one.state["why"])[1], 5)


def test_sessions_are_kept_on_a_mount_that_knows_nothing_and_outlive_all_its_faults(mounts, tmp_path: Path):
    folder, store = Folder(tmp_path / "mount" / "ml-intern"), Folder(tmp_path / "store" / "ml-intern")
    mount, faults = mounts(), tmp_path / "store.faults"
    log, one = session(tmp_path), mirror_of(folder, tmp_path)
    work = log.path.parent / "workspace"
    (work / "empty").touch()
    (work / "big.bin").write_bytes(bytes(11 * 2**20))
    sent(one)
    for what, error, words in [
        ("create", "EIO", "Input/output error"), ("write", "ENOSPC", "No space left"), ("flush", "EDQUOT", "quota"),
        ("readdir", "ESTALE", "Stale file handle"), ("flush", "EIO", "Input/output error"), ("create", "EROFS", "Read-only"),
    ]:  # fmt: skip
        faults.write_text(json.dumps({what: error}))
        log.append(Said(text=f"{what} {error} {'x' * SEGMENT}"))
        told(one, f"the folder {folder.path} cannot be used: {words}" if what != "flush" else words)
        faults.unlink()
        sent(one)
        assert (
            b"".join(data for path, data in sorted(there(store).items()) if "events/" in path) == log.path.read_bytes()
        )
    kept = log.path.read_bytes()
    faults.write_text('{"flush": "half"}')
    log.append(Said(text="of which half arrives"))
    told(one, "cannot be used: Software caused connection abort")
    mount.wait(10)
    told(one, "cannot be used: Transport endpoint is not connected")
    subprocess.run(["fusermount3", "-uz", tmp_path / "mount"], check=True)
    told(one, f"{folder.path} is gone; it is made again when ML Intern starts")
    assert not folder.path.exists(), "nothing is written on the disk below the mount"
    faults.unlink()
    mount = mounts()
    assert pull(Shelf(folder.path, tmp_path / "s"), tmp_path / "new" / "sessions", "here").fetched == [f"{DAY}aaa"]
    assert (tmp_path / "new" / "sessions" / f"{DAY}aaa" / "events.jsonl").read_bytes() == kept
    sent(one)
    assert there(store)["workspace/big.bin"] == bytes(11 * 2**20) and there(store)["workspace/empty"] == b""
    assert b"of which half arrives" in b"".join(there(store).values())
    assert not (tmp_path / "store.refused").exists(), (tmp_path / "store.refused").read_text()
