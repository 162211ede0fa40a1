"""A confined command tries to get out: beside another session, a vault, a person's home and a worker that holds a key.

Every attempt runs twice: under what this kernel has, and without Landlock. An attempt that a guard does not stop must
work there, so that none is stopped by its own mistake, and the guard's sentence must say so.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from agent.settings import ROOT, SettingsError, read
from lab.backend import JobSpec
from lab.backends.folder import log_tail
from lab.backends.local import LocalBackend
from lab.confine import MOST, guard, landlock
from lab.errors import BadInput
from lab.reach import Reach
from lab.workspace import Output, Workspace
from tests.conftest import until

SECRET = "secret.of.the.house.7391"
KEY = "ANTHROPIC_API_KEY"
WORKER = """
import os, resource, socket, sys, threading, time
from agent import settings
held = settings.read()
settings.take_keys_out()
secret = held.keys["ANTHROPIC_API_KEY"].encode()
opened = open(sys.argv[1])
page = socket.create_server(("127.0.0.1", 0))
near = socket.socket(socket.AF_UNIX)
near.bind(f"\\0near-{os.getpid()}")
near.listen()
def serve(door):
    while True:
        door.accept()[0].sendall(secret)
threading.Thread(target=serve, args=(page,), daemon=True).start()
threading.Thread(target=serve, args=(near,), daemon=True).start()
print(page.getsockname()[1], flush=True)
time.sleep(600)
"""
# Searches the memory of a process for a secret, of which it knows a part.
SCAN = """
import re
for line in open("/proc/{worker}/maps"):
    if " rw" in line:
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        with open("/proc/{worker}/mem", "rb") as memory:
            memory.seek(low)
            for found in re.findall(rb"secret.of.the[.a-z0-9]+", memory.read(high - low)):
                print(found.decode())
"""
VM_READ = """
import ctypes, re
class Block(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
libc = ctypes.CDLL(None, use_errno=True)
for line in open("/proc/{worker}/maps"):
    if " rw" in line:
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        mine = ctypes.create_string_buffer(high - low)
        here, there = Block(ctypes.addressof(mine), high - low), Block(low, high - low)
        libc.process_vm_readv({worker}, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        print(*re.findall(rb"secret.of.the[.a-z0-9]+", mine.raw))
"""
CONNECT = """
import socket
door = socket.socket({family}, socket.SOCK_STREAM, {protocol})
door.connect({address})
print(door.recv(100))
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
time.sleep(0.5)
"""
# A daemon that is never the same process for long: each child leaves its parent and forks.
HOPPER = """
import os, time
if os.fork() == 0:
    os.setsid()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if os.fork():
            os._exit(0)
        with open("daemon", "w") as file:
            file.write(str(os.getpid()))
time.sleep(1)
"""
BOMB = "import os, time\nfor _ in range(12): os.fork()\ntime.sleep(60)"  # 4,096 processes, if nobody stops them


@dataclass
class House:
    """Where things are, and the command's own workspace."""

    home: Path
    person: Path
    session: Path
    neighbour: Path
    vault: Path
    worker: subprocess.Popen
    port: int
    workspace: Workspace

    def run(self, command: str, seconds: float = 30) -> Output:
        names = {name: getattr(self, name) for name in ("home", "person", "session", "neighbour", "vault", "port")}
        for name, value in (names | {"worker": self.worker.pid}).items():
            command = command.replace(f"{{{name}}}", str(value))
        return self.workspace.run(command, seconds)

    def files(self) -> dict[Path, bytes]:
        """Every file that is none of the command's business."""
        own = self.session / "workspace"
        places = [*self.home.rglob("*"), *self.person.rglob("*")]
        return {path: path.read_bytes() for path in places if path.is_file() and not path.is_relative_to(own)}

    def worker_state(self) -> tuple:
        worker = psutil.Process(self.worker.pid)
        return (
            worker.status() in ("stopped", "tracing-stop", "zombie"),
            worker.nice(),
            worker.rlimit(psutil.RLIMIT_NOFILE),
        )


Judge = Callable[[House, str], bool]  # runs the command and says whether it got what it wanted


def tells(house: House, command: str) -> bool:
    return SECRET in house.run(command).text


def changes(house: House, command: str) -> bool:
    before = house.files()
    house.run(command)
    return house.files() != before


def hurts(house: House, command: str) -> bool:
    """The worker is another than before."""
    before = house.worker_state()
    house.run(command)
    time.sleep(0.1)
    return house.worker_state() != before


def stays(house: House, command: str) -> bool:
    """A process of the command is left."""
    house.run(command)
    assert (house.workspace.root / "daemon").exists()
    left = [process for _ in range(3) for process in working_in(house.workspace.root)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(left)


def working_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def links_the_pen(house: House, command: str) -> bool:
    """The worker writes where the command has put a link."""
    before = house.files()
    house.run(command)
    house.workspace.write("notes.md", "an innocent note")
    return house.files() != before


def makes_a_device(house: House, command: str) -> bool:
    house.run(command)
    return any(stat.S_ISBLK(path.lstat().st_mode) for path in house.workspace.root.iterdir())


def fills(house: House, command: str) -> bool:
    house.run(command)
    return any(path.stat().st_size > 90 * 2**30 for path in house.workspace.root.glob("big*"))


def swarms(house: House, command: str) -> bool:
    """More processes than allowed stay; or any, once the command is over."""
    started = time.monotonic()
    ran = house.run(command, 60)
    left = working_in(house.workspace.root)
    return time.monotonic() - started > 45 or bool(left) or f"more than {MOST} processes" not in ran.text


def python(program: str, **names: str) -> str:
    for name, value in names.items():
        program = program.replace(f"{{{name}}}", value)
    return f"{sys.executable} - <<'END'\n{program}\nEND"


FILES, TRUNCATES, TCP, SIGNALS, ALWAYS = 1, 3, 4, 6, 0  # the ABI of Landlock that stops it; 0: limits alone do
SAID = {FILES: "file", TRUNCATES: "file", TCP: "port", SIGNALS: "process"}
TO_PAGE = {"family": "socket.AF_INET", "address": "('127.0.0.1', {port})"}
ATTEMPTS: tuple[tuple[str, int, Judge, str], ...] = (
    ("read the log of another session", FILES, tells, "cat {neighbour}/events.jsonl"),
    ("read a file of another session", FILES, tells, "cat {neighbour}/workspace/notes.md"),
    ("read the own log", FILES, tells, "cat ../events.jsonl"),
    ("copy another session", FILES, tells, "cp -r {neighbour} copy; cat copy/*/*.md"),
    ("read the vault", FILES, tells, "cat {vault}/heldout.jsonl"),
    ("read the own held-out answers", FILES, tells, "cat ../jobs/evaluate-1/items.jsonl"),
    ("read the vault through a link", FILES, tells, "ln -s {vault}/heldout.jsonl link; cat link"),
    ("read the vault through a hard link", FILES, tells, "ln {vault}/heldout.jsonl link; cat link"),
    ("read the vault through /proc", FILES, tells, "cat /proc/self/root{vault}/heldout.jsonl"),
    ("read the token of the Hub", FILES, tells, "cat $HF_HOME/token"),
    ("read a key of SSH", FILES, tells, "cat {person}/.ssh/id_ed25519"),
    ("read the environment of the worker", ALWAYS, tells, "cat /proc/{worker}/environ"),
    ("read the memory of the worker", ALWAYS, tells, python(SCAN)),
    ("read the memory of the worker by a call", ALWAYS, tells, python(VM_READ)),
    ("read a file that the worker has open", ALWAYS, tells, "cat /proc/{worker}/fd/*"),
    ("read through the folder of the worker", ALWAYS, tells, "cat /proc/{worker}/cwd/events.jsonl"),
    ("have the worker read a link", ALWAYS, tells, 'ln -sf {vault}/heldout.jsonl "$(readlink /proc/self/fd/1)"'),
    ("write beside the sessions", FILES, changes, "echo x > {home}/x"),
    ("write in the home of the person", FILES, changes, "echo x >> {person}/.bashrc"),
    ("write a fact", FILES, changes, "echo x >> ../events.jsonl"),
    ("empty a log", TRUNCATES, changes, "truncate -c -s 0 {neighbour}/events.jsonl"),
    ("delete a session", FILES, changes, "rm -rf {neighbour}"),
    ("move a file out of a session", FILES, changes, "mv {neighbour}/workspace/notes.md ."),
    ("change a trained model", FILES, changes, "echo x > ../jobs/sft-1/model/config.json"),
    ("write through a link", FILES, changes, "ln -s {vault} out; echo x > out/heldout.jsonl"),
    ("have the worker write through a link", ALWAYS, links_the_pen, "ln -s {session}/events.jsonl .notes.md.tmp"),
    ("make a device of the disk", ALWAYS, makes_a_device, "mknod disk b 8 0 || mknod disk b 254 0"),
    ("kill the worker", SIGNALS, hurts, "kill -9 {worker}"),
    ("stop the worker", SIGNALS, hurts, "kill -STOP {worker}"),
    ("trace the worker", ALWAYS, hurts, python("import ctypes, time; ctypes.CDLL(None).ptrace(16, {worker}, 0, 0); time.sleep(0.5)")),
    ("limit the worker", ALWAYS, hurts, python("import resource; resource.prlimit({worker}, resource.RLIMIT_NOFILE, (9, 9))")),
    ("slow the worker down", ALWAYS, hurts, "renice -n 15 -p {worker}"),
    ("ask the page", TCP, tells, python(CONNECT, protocol="0", **TO_PAGE)),
    ("ask the page by MPTCP", ALWAYS, tells, python(CONNECT, protocol="262", **TO_PAGE)),
    ("ask the worker by an abstract socket", SIGNALS, tells, python(CONNECT, family="socket.AF_UNIX", protocol="0", address=r"'\0near-{worker}'")),
    ("write 100 GB", ALWAYS, fills, "truncate -s 100G big; dd if=/dev/zero of=big2 bs=1 count=1 seek=100G"),
    ("bomb with forks", ALWAYS, swarms, python(BOMB)),
    ("leave a daemon", ALWAYS, stays, python(DAEMON)),
    ("leave a daemon that forks on and on", ALWAYS, stays, python(HOPPER)),
    ("kill the launcher and leave a daemon", SIGNALS, stays, "setsid bash -c 'echo $$ > daemon; exec sleep 60' & sleep 0.3; kill -9 $PPID; sleep 0.3"),
)  # fmt: skip


@pytest.fixture
def house(settings, new_session, tmp_path) -> Iterator[House]:
    person = tmp_path / "person"
    for file in (".ssh/id_ed25519", ".cache/huggingface/token", ".bashrc"):
        (person / file).parent.mkdir(parents=True, exist_ok=True)
        (person / file).write_text(SECRET)
    own, other = (settings.sessions / new_session(text=f"Hide {SECRET}.")[0] for _ in range(2))
    for file in ("workspace/notes.md", "jobs/sft-1/model/config.json", "jobs/evaluate-1/items.jsonl"):
        for session in (own, other):
            (session / file).parent.mkdir(parents=True, exist_ok=True)
            (session / file).write_text(SECRET)
    (own / "workspace" / "notes.md").unlink()
    settings.vault.mkdir(exist_ok=True)
    (settings.vault / "heldout.jsonl").write_text(SECRET)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ML_INTERN_HOME": str(settings.home), KEY: SECRET}
    command = [sys.executable, "-c", WORKER, str(settings.vault / "heldout.jsonl")]
    worker = subprocess.Popen(command, env=env, cwd=other, stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    port = int(worker.stdout.readline())
    job_env = {name: value for name, value in settings.job_env.items() if name != "HF_HOME"} | {"HOME": str(person)}
    workspace = Workspace(own / "workspace", job_env)
    yield House(settings.home, person, own, other, settings.vault, worker, port, workspace)
    worker.send_signal(signal.SIGCONT)
    worker.kill()
    worker.wait()


needs_landlock = pytest.mark.skipif(landlock() < 1, reason="this kernel has no Landlock")


def weaker(house: House, abi: int) -> House:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(house.person)}
    return replace(house, workspace=Workspace(house.workspace.root, env, abi))


@pytest.mark.parametrize("abi", sorted({0, landlock()}), ids=lambda abi: f"landlock{abi}")
@pytest.mark.parametrize(("name", "stopped_by", "works", "command"), ATTEMPTS, ids=[a[0] for a in ATTEMPTS])
def test_no_command_gets_out_of_what_its_guard_keeps(house, name, stopped_by, works, command, abi):
    got = works(weaker(house, abi), command)
    if abi >= stopped_by:
        assert not got
    else:
        assert got, "the attempt fails by itself: it shows nothing"
        assert SAID[stopped_by] in guard(abi)


NORMAL = {
    "git": "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --oneline",
    "pip": f"{sys.executable} -m pip list --disable-pip-version-check | grep -i torch",
    "torch": f'{sys.executable} -c \'import torch; torch.save(torch.ones(3), "a.pt"); print(torch.load("a.pt").sum())\'',
    "processes": python("import multiprocessing as m\nwith m.Pool(2) as pool: print(pool.map(abs, [-1, -2]))"),
    "threads of a loader": python(
        "import torch\nfrom torch.utils.data import DataLoader\nprint(len(list(DataLoader(torch.ones(8, 2), num_workers=2))))"
    ),
    "scratch files": "f=$(mktemp) && echo x > $f && cat $f && cat <<< here && diff <(echo a) <(echo a)",
    "the own home": "mkdir -p ~/.config && echo x > ~/.config/x && cat ~/.config/x",
    "a file moved between folders": "mkdir -p a b && echo x > a/f && mv a/f b/f && ln b/f b/g && rm b/f && cat b/g",
    "the cache": "cat $HF_HOME/hub/model && echo y > $HF_HOME/hub/more && cat $HF_HOME/hub/more",
    "a trained model": "cat ../jobs/sft-1/model/config.json",
    "names and users": "getent hosts localhost && id && date && uname -a && nproc && head -1 /proc/meminfo",
    "a pipe that closes": "yes | head -1",
    "its own children": "sleep 60 & kill $! && wait $!; test $? = 143",
}


@pytest.mark.parametrize("name", NORMAL)
def test_normal_work_goes_on(house, name):
    (house.person / ".cache/huggingface/hub").mkdir()
    (house.person / ".cache/huggingface/hub/model").write_text("x")
    ran = house.run(NORMAL[name], 60)
    assert ran.code == 0, ran.text


def trained(house: House, reads: list[Path], command: str) -> subprocess.CompletedProcess:
    """A command in the place of a trainer."""
    folder = house.session / "jobs" / "sft-1"
    env = {"PATH": os.environ["PATH"], "HOME": str(house.person), "TRACKIO_DIR": str(house.home / "trackio")}
    reach = Reach(house.session, env)
    launcher = reach.trainer(folder, reads)
    (house.home / "trackio").mkdir(exist_ok=True)
    told = {"env": reach.environment(folder), "cwd": folder, "capture_output": True, "text": True}
    return subprocess.run([*launcher, "bash", "-c", command], timeout=30, **told)


@needs_landlock
def test_a_trainer_writes_its_folder_and_curves_and_nothing_else(house):
    ran = trained(
        house, [], "echo x > own && echo x > $TRACKIO_DIR/run.db && echo x > $TMPDIR/x && cat model/config.json"
    )
    assert ran.returncode == 0 and SECRET in ran.stdout, ran.stderr
    before = house.files()
    for command in (
        "echo x > ../x",
        "echo {} > ../.sft-1.run.json",  # whom we signal
        "echo x > ../../workspace/x",
        "echo x > ../../events.jsonl",
        "rm -r ../evaluate-1",
    ):
        assert "Permission denied" in trained(house, [], command).stderr
    assert house.files() == before and not (house.workspace.root / "x").exists()


@needs_landlock
def test_only_a_trainer_that_is_given_an_item_file_reads_it_and_a_link_gives_nothing(house):
    items = house.vault / "heldout.jsonl"
    assert "Permission denied" in trained(house, [], f"cat {items}").stderr
    assert trained(house, [items], f"cat {items}").stdout == SECRET
    link = house.session / "jobs" / "sft-1" / "link"
    link.symlink_to(items)
    assert "Permission denied" in trained(house, [link], "cat link").stderr


def test_a_trainer_is_still_the_process_that_was_started(house):
    told = trained(house, [], "echo $$ $PPID").stdout.split()
    assert int(told[1]) == os.getpid()


@pytest.mark.skipif(landlock() < TCP, reason="this kernel's Landlock knows no ports")
def test_a_machine_may_keep_commands_off_the_network(house):
    """The door is a Hub of the person's own."""
    knock = python(CONNECT, protocol="0", **TO_PAGE)
    for policy, reached in (({}, True), ({"ML_INTERN_NETWORK": "none"}, False)):
        env = {"PATH": os.environ["PATH"], "HOME": str(house.person), "HF_ENDPOINT": f"http://127.0.0.1:{house.port}"}
        ran = replace(house, workspace=Workspace(house.workspace.root, env | policy)).run(knock)
        assert (SECRET in ran.text, "PermissionError" in ran.text) == (reached, not reached)


def test_the_network_is_the_web_or_none_and_a_guard_that_cannot_close_it_says_so(settings):
    told = {"ML_INTERN_HOME": str(settings.home), "PATH": "/usr/bin"}
    assert "off the network" not in read(told).guard
    for abi, held in ((0, False), (TCP - 1, False), (TCP, True), (7, True)):
        assert ("ML_INTERN_NETWORK=none holds nobody back" in guard(abi, closed=True)) == (not held)
    assert read(told | {"ML_INTERN_NETWORK": "none"}).guard == guard(landlock(), closed=True) != guard(landlock())
    with pytest.raises(SettingsError, match="ML_INTERN_NETWORK is 'off'; set it to web or none"):
        read(told | {"ML_INTERN_NETWORK": "off"})


BOMBER = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {DAEMON!r}])
subprocess.run([sys.executable, "-c", {BOMB!r}])
"""


@pytest.mark.slow
def test_a_script_that_leaves_a_daemon_and_bombs_with_forks_is_ended_with_all_of_it(settings, tmp_path):
    """A job has no launcher beside it: its runner counts, and ends what is left."""
    (tmp_path / "train.py").write_text(BOMBER)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    folder = settings.sessions / "s" / "jobs" / "script-1"
    config = {"script": str(folder / "train.py"), "model": "none", "data": str(folder / "rows.jsonl")}
    shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("home"))
    backend = LocalBackend(settings.queue, settings.job_env)
    backend.launch(JobSpec("script-1", "script", config, folder))
    until(lambda: backend.state(folder).ended, 60)
    assert (folder / "daemon").exists(), log_tail(folder)
    assert (backend.state(folder).state, backend.state(folder).signal) == ("failed", None)  # not started again
    assert backend.state(folder).reason == f"the trainer had more than {MOST} processes"
    assert not working_in(folder)


def test_a_command_that_spoils_its_own_folders_is_told_so(house):
    house.run("rm -rf .home && ln -s / .home")
    with pytest.raises(BadInput, match=r"\.home cannot be used"):
        house.run("true")


def test_what_landlock_leaves_open_is_known(house):
    """Names, sizes and modes: when a kernel closes this, the docstring of lab.confine has to say so."""
    log = house.neighbour / "events.jsonl"
    ran = house.run("stat -c %s {neighbour}/events.jsonl && chmod 640 {neighbour}/events.jsonl")
    assert ran.text.strip() == str(log.stat().st_size) and stat.S_IMODE(log.stat().st_mode) == 0o640
