"""The small process that stands beside one local trainer: waits for the machine, keeps the time, says how it ended.

`python -m lab.backends.runner FOLDER COMMAND`. It leads the job's process group and outlives the worker that started it, so
that a deadline holds and an exit is recorded even when nobody looks. It imports nothing heavy.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from lab.backend import own_file, read_json, write_json
from lab.confine import adopt, end_all
from lab.processes import alive, identity, kill_group
from lab.queue import Queue

POLL = 0.1  # seconds
LOG = os.O_WRONLY | os.O_APPEND | os.O_CREAT
GRACE = 15.0  # seconds a trainer has to save after SIGTERM
# A trainer begins when its folder says who it is. If we die before that, its line is never written and the pipe closes:
# no trainer runs that nobody knows of. `exec` keeps the process, and so its identity.
WAIT_FOR_GO = 'read -r go && exec "$@" </dev/null'


def main(folder: Path, command: list[str]) -> int:
    """Run the job of this folder to its end."""
    job = read_json(folder / "job.json")
    run = {"runner": identity(os.getpid())}
    write_json(folder / "run.json", run)  # once more: whoever started us may have died before it could
    queue = Queue(Path(job["queue"]), holds_ticket)
    ticket = queue.enter({"job": str(folder), **run})
    try:
        while (place := queue.place(ticket)) > 0:
            if _unwanted(folder):
                _say(folder, {"state": "cancelled", "seconds": 0.0, "reason": "left the queue"})
                return 0
            write_json(folder / "place.json", {"place": place})
            time.sleep(POLL)
        _say(folder, _train(folder, job, run, command))
        return 0
    finally:
        queue.leave(ticket)


def holds_machine(folder: Path) -> bool:
    """Whether a job's runner or trainer still runs."""
    run = read_json(folder / "run.json")
    return alive(run.get("runner")) or alive(run.get("trainer"))


def holds_ticket(holder: dict) -> bool:
    """Whether the very runner that took a ticket, or the trainer that it started, still runs."""
    if not holder:  # it left while we looked
        return False
    run = read_json(Path(holder["job"]) / "run.json")
    return alive(holder["runner"]) or (run.get("runner") == holder["runner"] and alive(run.get("trainer")))


def _train(folder: Path, job: dict, run: dict, command: list[str]) -> dict:
    adopt()
    started = time.time()
    with own_file(folder / "log.txt", LOG) as log:
        trainer = subprocess.Popen(
            ["/bin/sh", "-c", WAIT_FOR_GO, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    write_json(folder / "run.json", run | {"trainer": identity(trainer.pid), "started": started})
    assert trainer.stdin
    with suppress(BrokenPipeError), trainer.stdin:  # a trainer that is gone already has its exit code
        trainer.stdin.write(b"go\n")
    why = _watch(folder, trainer, started + job["hours"] * 3600)
    code = trainer.wait()
    end_all()
    state = why or ("done" if code == 0 else "failed")
    reason = {"timeout": f"ran longer than {job['hours']:g} h", "cancelled": "cancelled"}.get(state, "")
    killed_by = -code if code < 0 and not why else None
    return {"state": state, "code": code, "signal": killed_by, "seconds": time.time() - started, "reason": reason}


def _watch(folder: Path, trainer: subprocess.Popen, deadline: float) -> str | None:
    """Wait for the trainer's end; on a cancel or the deadline bring it about. Returns why we ended it, if we did."""
    while trainer.poll() is None:
        if _unwanted(folder):
            _end(trainer)
            return "cancelled"
        if time.time() >= deadline:
            _end(trainer)
            return "timeout"
        time.sleep(POLL)
    return None


def _unwanted(folder: Path) -> bool:
    """Whether somebody asked for the end, or took the whole folder away."""
    return (folder / "cancel").exists() or not (folder / "job.json").exists()


def _say(folder: Path, ending: dict) -> None:
    with suppress(FileNotFoundError):  # the folder is gone: there is nobody to tell
        write_json(folder / "exit.json", ending)


def _end(trainer: subprocess.Popen) -> None:
    """Ask for a save and an exit; insist after GRACE."""
    trainer.terminate()
    try:
        trainer.wait(GRACE)
    except subprocess.TimeoutExpired:
        trainer.kill()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        code = main(folder, sys.argv[2:])
    finally:
        if os.getpgid(0) == os.getpid():  # nothing that the trainer started stays behind
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            kill_group(os.getpid(), signal.SIGTERM)
    sys.exit(code)
