"""Keep a command of the agent, or a trainer, to what is its own: Landlock where the kernel has it, limits everywhere.

Run as a program, it confines a command and becomes it, or (`--watch`) stands beside it and ends all that it started.
It imports only small parts of the standard library, since every command pays for its start.

What Landlock does not guard (Linux 6.18): names, sizes, modes and times of files elsewhere, Unix sockets that have a
path, UDP. /dev/shm is shared by all, since torch and multiprocessing need it.
"""

import _signal as signal  # pyright: ignore[reportMissingImports]  (its public twin makes enums: 5 ms of every command)
import ctypes
import os
import resource
import select
import struct
import sys
import time

FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # linux/landlock.h: the rights that a rule on a file may hold
READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, list a folder
RIGHTS = (0, 13, 14, 15, 15, 16)  # of files, by ABI (as bits from 0); later ones have those of the last
CONNECT, SCOPES = 1 << 1, 1 << 0 | 1 << 1  # TCP (ABI 4); abstract sockets and signals (ABI 6)
CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, on every architecture
NO_NEW_PRIVS, CAPBSET_DROP, SUBREAPER = 38, 24, 36  # linux/prctl.h
KEPT = (0, 1, 3, 4)  # what root keeps: chown, dac_override, fowner, fsetid (linux/capability.h)
# uname: AUDIT_ARCH, and the numbers of seccomp, socket, prlimit64 and setpriority
NUMBERS = {"x86_64": (0xC000003E, 317, 41, 302, 141), "aarch64": (0xC00000B7, 277, 198, 261, 140)}
LARGEST = 64 * 2**30  # bytes of one file; shards of models have 50 GB at most
MOST = 1000  # processes of one command, or trainer; a build on 64 cores has some 200
POLL, PATIENCE = 0.05, 5.0  # seconds: between two looks at the number of processes; to end all of a command

DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "dri", "kfd")  # and nvidia*


def landlock() -> int:
    """The ABI of the kernel's Landlock; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, ctypes.CDLL(None).syscall(CREATE, None, ctypes.c_size_t(0), 1))


def guard(abi: int, closed: bool = False) -> str:
    """What keeps commands and trainers in, in one sentence for a person; two where the network is `closed` and it cannot."""
    void = " ML_INTERN_NETWORK=none holds nobody back here." if closed and abi < 4 else ""
    if not abi:
        return f"No Landlock in this kernel: commands and trainers reach every file, port and process that you reach.{void}"
    kept = f"Landlock {abi} keeps commands and trainers to their own files"
    what = (("emptying a file", 3), ("ports", 4), ("signals to a process", 6))
    missing = ", ".join(name for name, since in what if abi < since)
    if missing:
        return f"{kept}; this kernel leaves open: {missing}.{void}"
    return f"{kept} and processes, and {'off the network, UDP left aside' if closed else 'to the web'}."


def main() -> None:
    """`[--watch] --abi=N RULES -- COMMAND`; a rule is rPATH, wPATH or pPORT."""
    split = sys.argv.index("--")
    given, command = sys.argv[1:split], sys.argv[split + 1 :]
    if given[0] == "--watch":
        os._exit(watch(given[1:], command))
    become(given, command)


def become(given: list[str], command: list[str]) -> None:
    """Confine this process for good, and become the command."""
    try:
        limit()
        confine(int(given[0].removeprefix("--abi=")), given[1:])
        for what in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program inherits that
            signal.signal(what, signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} was not started: it cannot be confined ({error}).\n".encode())
        os._exit(126)


def limit() -> None:
    """The guards that every Unix has, and the rights of root that Linux lets go of."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    size = LARGEST if most == resource.RLIM_INFINITY else min(most, LARGEST)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
        for capability in range(64):
            if capability not in KEPT:
                prctl(CAPBSET_DROP, capability, 0, 0, 0)  # for root; others have none to lose
        refuse()


def refuse() -> None:
    """A seccomp filter against what Landlock overlooks: TCP by another name, limits and priorities of other processes."""
    if (machine := os.uname().machine) not in NUMBERS:
        return
    arch, seccomp, socket, prlimit64, setpriority = NUMBERS[machine]
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, arch), (0x06, 0, 0, 0x50001), (0x20, 0, 0, 0)]  # linux/bpf_common.h
    code += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, 0x50001)]  # x32
    # system call, argument, value, and whether this value is refused or every other: MPTCP, SMC, another's pid
    for call, place, value, same in (
        (socket, 2, 262, 1),
        (socket, 0, 43, 1),
        (prlimit64, 0, 0, 0),
        (setpriority, 1, 0, 0),
    ):
        jump = (0x15, 0, 1, value) if same else (0x15, 1, 0, value)
        code += [(0x20, 0, 0, 0), (0x15, 0, 3, call), (0x20, 0, 0, 16 + 8 * place), jump, (0x06, 0, 0, 0x50001)]
    code.append((0x06, 0, 0, 0x7FFF0000))
    block = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(block))
    ctypes.CDLL(None).syscall(seccomp, 1, 4, program)  # 4: without slowing branches down; an old kernel says no


def confine(abi: int, rules: list[str]) -> None:
    """Put this process under Landlock, as far as this ABI goes. Raises OSError when the kernel refuses."""
    if not abi:
        return
    every = (1 << RIGHTS[min(abi, 5)]) - 1
    handled = struct.pack("QQQ", every, CONNECT, SCOPES)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = call(CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    for rule in rules:
        kind, what = rule[0], rule[1:]
        if kind != "p":
            beneath(ruleset, what, every & (READ if kind == "r" else ~(1 << 6 | 1 << 11)))  # nobody makes devices
        elif abi >= 4:
            call(ADD, ruleset, 2, struct.pack("QQ", CONNECT, int(what)), 0)
    for name in os.listdir("/dev"):
        if name in DEVICES or name.startswith("nvidia"):
            beneath(ruleset, f"/dev/{name}", every & ~(1 << 6 | 1 << 11))
    ctypes.CDLL(None).prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    call(RESTRICT, ruleset, 0)
    os.close(ruleset)


def beneath(ruleset: int, path: str, rights: int) -> None:
    """Allow these rights on a path and all below it; one that is not there needs none."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    allowed = rights if os.path.isdir(path) else rights & FILE
    call(ADD, ruleset, 1, struct.pack("=Qi", allowed, place), 0)
    os.close(place)


def call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if (answer := libc.syscall(number, *arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def watch(given: list[str], command: list[str]) -> int:
    """Run the command beside us; end all that it started when it ends, when we are told to, or when our parent is gone."""
    parent, told = os.getppid(), []
    heard, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    adopt()
    before = crowd()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        become(given, command)
    hurry()
    while True:
        select.select([heard], [], [], POLL)
        ended, status = os.waitpid(child, os.WNOHANG)
        many = swarming(before)
        if ended or told or many or os.getppid() != parent:
            break
    if many:
        os.write(2, f"Ended: the command had more than {MOST} processes.\n".encode())
    left = end_all(None if ended else child)
    if left:
        os.write(2, f"{left} processes of the command could not be ended.\n".encode())
    code = os.waitstatus_to_exitcode(status) if ended else 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def adopt() -> None:
    """From now on what our children leave behind is ours, daemons included. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def hurry() -> None:
    """Come before everything of ours that wants to run, where we may: a fork bomb leaves nobody else a turn."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (OSError, AttributeError):
        pass


def end_all(group: int | None = None) -> int:
    """Kill a process group and every process below us until none is left; returns how many are after PATIENCE seconds."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if group:
                os.kill(-group, signal.SIGKILL)
        except OSError:
            group = None
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # the kernel says so: what leaves its parent comes to us
            return 0
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
    return len(descendants())


def crowd() -> int:
    """About how many processes there are on this machine."""
    return len(os.listdir("/proc")) if sys.platform == "linux" else 0


def swarming(before: int) -> bool:
    """Whether more than MOST processes are below us, where the machine had `before` when we began: quick while it has few more."""
    return crowd() - before > MOST and len(descendants()) > MOST


def descendants() -> list[int]:
    """Every process below this one. Linux only."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else []:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                children.setdefault(int(file.read().rpartition(b") ")[2].split()[1]), []).append(int(name))
        except (OSError, ValueError, IndexError):  # no process, or gone
            continue
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]
