"""Files and commands of a session."""

import os
import time
from pathlib import Path

import pytest

from lab.errors import BadInput, Stopped
from lab.workspace import SHOWN, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "work").mkdir()
    return Workspace(tmp_path / "work", {"PATH": os.environ["PATH"]})


def test_a_command_runs_in_the_workspace_with_the_environment_it_is_given(workspace, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_person_who_runs_us")
    ran = workspace.run("pwd; env | cut -d= -f1 | sort", 10)
    assert ran.code == 0
    assert ran.text.splitlines()[0] == str(workspace.root)
    own = {"HOME", "TMPDIR", "HF_HOME", "HF_TOKEN_PATH", "LC_CTYPE"}
    assert set(ran.text.splitlines()[1:]) <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"} | own


def test_no_process_shows_what_another_is_told_to_do(workspace):
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -a 'violet-[h]eron'  # violet-heron\n"
    ran = workspace.run(f'{look}read line; echo "$line $#"; exit 3', 20)
    assert (ran.text, ran.code) == (" 0\n", 3)


def test_a_command_past_its_time_is_ended_with_all_that_it_started(workspace):
    ran = workspace.run("sleep 300 & echo $!; sleep 300", 0.5)
    assert ran.code is None and "0.5 s" in ran.ended_by
    _assert_gone(int(ran.text.split()[0]))


def test_nothing_of_a_command_is_left_when_it_ends_by_itself(workspace):
    ran = workspace.run("sleep 300 & echo $!", 10)
    assert ran.code == 0
    _assert_gone(int(ran.text))


def test_a_stop_ends_a_command(workspace):
    def check() -> None:
        if (workspace.root / "started").exists():
            raise Stopped("now")

    with pytest.raises(Stopped):
        workspace.run("echo $$ > pid; touch started; sleep 300", 60, check)
    _assert_gone(int((workspace.root / "pid").read_text()))


def test_long_output_is_shown_by_head_and_tail_and_is_all_in_a_file(workspace):
    ran = workspace.run("seq 1 100000", 30)
    assert len(ran.text) < SHOWN + 200
    assert ran.text.startswith("1\n2\n") and ran.text.endswith("99999\n100000\n")
    assert ran.file.read_text() == "".join(f"{i}\n" for i in range(1, 100_001))
    assert str(ran.file.relative_to(workspace.root)) in ran.text


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "link/passwd"])
def test_a_path_that_leads_out_is_refused(workspace, name):
    (workspace.root / "link").symlink_to("/etc")
    for use in (workspace.read, lambda n: workspace.write(n, "x")):
        with pytest.raises(BadInput, match="leads out"):
            use(name)


def test_a_long_file_is_read_in_parts(workspace):
    workspace.write("a/long.txt", "x" * 30_000)
    assert workspace.read("a/long.txt").endswith("[5000 more characters: read on from 25000]")
    assert workspace.read("a/long.txt", start=25_000) == "x" * 5000
    assert workspace.names() == ["a/long.txt"]


def _assert_gone(pid: int) -> None:
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.02)
    raise AssertionError(f"{pid} still runs")
