"""The small process that stands beside one local trainer: waits for the machine, keeps the time, says how it ended.

`python -m lab.backends.runner FOLDER COMMAND`. It leads the job's process group and outlives the worker that started it, so
that a deadline holds and an exit is recorded even when nobody looks. It imports nothing heavy.
"""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.backend import left_s, own_file, read_json, write_json
from lab.confine import MOST, adopt, crowd, end_all, hurry, swarming
from lab.machine import free, oom_kills, ram
from lab.processes import alive, identity, kill_group
from lab.queue import Holder, Queue
from recipes.grace import checkpoint_bytes, grace

POLL = 0.1  # seconds
LOOK = 2.0  # seconds between two looks at the free memory: nvidia-smi takes a few tenths
COUNT = 1.0  # seconds between two counts of processes
PATIENCE = (
    600.0  # seconds that a job waits for memory: an evaluation elsewhere is over by then, an idle notebook never is [H]
)
CROWD = f"the trainer had more than {MOST} processes"
NEARLY_ALL = 0.8  # of the memory: what the kernel's victim held, as others need some, too [H]
LOG = os.O_WRONLY | os.O_APPEND | os.O_CREAT
# A trainer begins when its folder says who it is. If we die before that, its line is never written and the pipe closes:
# no trainer runs that nobody knows of. `exec` keeps the process, and so its identity.
WAIT_FOR_GO = 'read -r go && exec "$@" </dev/null'


def main(folder: Path, command: list[str]) -> int:
    """Run the job of this folder to its end."""
    job = read_json(folder / "job.json")
    run = {"runner": identity(os.getpid())}
    with launching(folder):  # once more: whoever started us may have died before it could
        first = read_json(run_file(folder)).get("runner")
        if first != run["runner"] and alive(first):  # and the next one has started another
            return 0
        write_json(run_file(folder), run)
    queue = Queue(Path(job["queue"]), holds_ticket)
    ticket = queue.enter({"job": str(folder), "takes_s": job.get("takes_s"), **run})
    try:
        ready = _in_turn(folder, queue, ticket) and _has_memory(folder, job)
        left = {"state": "cancelled", "seconds": 0.0, "reason": "left the queue"}
        _say(folder, _train(folder, job, run, command) if ready else left)
        return 0
    finally:
        queue.leave(ticket)


def _in_turn(folder: Path, queue: Queue, ticket: Path) -> bool:
    """Wait for the machine; False when the job is not wanted any more."""
    while ahead := queue.before(ticket):
        if _unwanted(folder):
            return False
        write_json(folder / "place.json", {"place": len(ahead), "eta_s": eta(ahead)})
        time.sleep(min(1.0, POLL * len(ahead)))  # who stands far back looks less often
    return True


def _has_memory(folder: Path, job: dict, patience: float = PATIENCE) -> bool:
    """Wait while somebody else uses the memory that the job needs; False when it is not wanted any more.

    After `patience` seconds it starts all the same: the other may never go, and the need is an estimate. Its trainer then fits its
    settings to what is there (recipes.probe), or runs out of memory and says so.
    """
    if not (needs := job.get("needs")):  # nobody knows
        return True
    until, kind = time.monotonic() + patience, "GPU memory" if job["device"] == "cuda" else "memory"
    what = f"it needs about {needs / 2**30:.1f} GiB of {kind}, and others leave less free"
    while free(job["device"]) < needs and time.monotonic() < until:
        if _unwanted(folder):
            return False
        write_json(folder / "place.json", {"reason": f"{what}; it starts anyway after {PATIENCE / 60:.0f} min"})
        time.sleep(min(LOOK, patience))
    return True


def eta(ahead: list[Holder]) -> float | None:
    """Seconds until all of these are done; None when nobody knows it of one of them."""
    total = 0.0
    for holder in ahead:
        takes, ran = holder.get("takes_s"), time.time() - holder.get("began", time.time())
        left = left_s(Path(holder["job"]) / "metrics.jsonl") if "began" in holder else takes
        if left is None and takes is not None and ran < takes:
            left = takes - ran
        if left is None:
            return None
        total += left
    return round(total, 1)


def run_file(folder: Path) -> Path:
    """Who runs a job. It lies beside the job's folder: a trainer must not name the processes that we wait for and signal."""
    return folder.with_name(f".{folder.name}.run.json")


@contextmanager
def launching(folder: Path) -> Iterator[None]:
    """The lock under which a job is started, which a trainer must not hold."""
    with open(folder.with_name(f".{folder.name}.launch"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cancel_file(folder: Path) -> Path:
    """There when somebody asked for a job's end. A trainer must not take it away."""
    return folder.with_name(f".{folder.name}.cancel")


def holds_machine(folder: Path) -> bool:
    """Whether a job's runner or trainer still runs."""
    run = read_json(run_file(folder))
    return alive(run.get("runner")) or alive(run.get("trainer"))


def holds_ticket(holder: dict) -> bool:
    """Whether the very runner that took a ticket, or the trainer that it started, still runs."""
    if not holder:  # it left while we looked
        return False
    run = read_json(run_file(Path(holder["job"])))
    return alive(holder["runner"]) or (run.get("runner") == holder["runner"] and alive(run.get("trainer")))


def _train(folder: Path, job: dict, run: dict, command: list[str]) -> dict:
    adopt()
    started, kills = time.time(), oom_kills()
    saves = checkpoint_bytes(read_json(folder / "config.json"))  # before its trainer may write there
    with own_file(folder / "log.txt", LOG) as log:
        trainer = subprocess.Popen(
            ["/bin/sh", "-c", WAIT_FOR_GO, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    write_json(run_file(folder), run | {"trainer": identity(trainer.pid), "started": started})
    assert trainer.stdin
    with suppress(BrokenPipeError), trainer.stdin:  # a trainer that is gone already has its exit code
        trainer.stdin.write(b"go\n")
    hurry()
    why = _watch(folder, trainer, started + job["hours"] * 3600, saves)
    code = trainer.wait()
    end_all()
    lack = starved(oom_kills() - kills, peak_rss(), ram())
    return ending(code, why, job["hours"], lack) | {"seconds": time.time() - started}


def ending(code: int, why: str | None, hours: float, lack: str) -> dict:
    """How a trainer ended: `why` if we ended it, and by which signal if somebody else did.

    A `signal` means that another attempt may go well; there is none where it was `lack` of memory.
    """
    state = "failed" if why == CROWD else why or ("done" if code == 0 else "failed")
    reason = {"timeout": f"ran longer than {hours:g} h", "cancelled": "cancelled", CROWD: CROWD}.get(why or "", "")
    killed_by = -code if code < 0 and not why else None
    if killed_by == signal.SIGKILL and lack:
        killed_by, reason = None, lack
    return {"state": state, "code": code, "signal": killed_by, "reason": reason}


def starved(kills: int, peak: int, whole: int) -> str:
    """Why a trainer that was killed has most likely run out of memory, which another attempt does not mend; "" where it has not.

    Args:
        kills: How often the kernel has ended a process of this container for want of memory meanwhile.
        peak: Bytes that the trainer held at most, of the `whole` memory.
    """
    if kills <= 0 and peak < NEARLY_ALL * whole:
        return ""
    return f"out of memory: the kernel killed the trainer, which held {peak / 2**30:.1f} of {whole / 2**30:.1f} GiB"


def peak_rss() -> int:
    """Bytes that the largest process held which we have seen end."""
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return most * (1024 if sys.platform == "linux" else 1)  # macOS counts bytes


def _watch(folder: Path, trainer: subprocess.Popen, deadline: float, saves: int) -> str | None:
    """Wait for the trainer's end; on a cancel or the deadline ask for a save and an exit, and insist when that has had its time.

    Returns why we ended it, if we did. `saves` are the bytes of a checkpoint, where it has none yet.
    """
    before, counted = crowd(), time.monotonic()
    why, until = None, float("inf")
    while trainer.poll() is None:
        now = time.monotonic()
        if now > counted + COUNT:
            counted = now
            if swarming(before):
                trainer.kill()  # and then what it started: see _train
                return CROWD
        if why is None and (why := _why(folder, deadline)):
            trainer.terminate()
            until = now + grace(folder, saves)
        if now > until:
            trainer.kill()
        time.sleep(POLL)
    return why


def _why(folder: Path, deadline: float) -> str | None:
    """Why a job must end now; None where it may go on."""
    return "cancelled" if _unwanted(folder) else "timeout" if time.time() >= deadline else None


def _unwanted(folder: Path) -> bool:
    """Whether somebody asked for the end, or took the whole folder away."""
    return cancel_file(folder).exists() or not (folder / "job.json").exists()


def _say(folder: Path, ending: dict) -> None:
    with suppress(FileNotFoundError):  # the folder is gone: there is nobody to tell
        run = read_json(run_file(folder))  # what it took is paid for, whatever the trainer did to its folder
        write_json(run_file(folder), run | {"seconds": ending["seconds"]})
        write_json(folder / "exit.json", ending)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        code = main(folder, sys.argv[2:])
    finally:
        if os.getpgid(0) == os.getpid():  # nothing that the trainer started stays behind
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            kill_group(os.getpid(), signal.SIGTERM)
    sys.exit(code)
