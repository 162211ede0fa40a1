"""Jobs on this machine: a folder, a runner, a trainer. Survives the death of whoever launched them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from threading import Thread

from pydantic import TypeAdapter, ValidationError

from lab import peaks
from lab.backend import JobSpec, JobState, Machine, own_file, read_json, write_json
from lab.backends.folder import SENTENCE, result, why
from lab.backends.runner import LOG, cancel_file, eta, holds_machine, holds_ticket, launching, run_file
from lab.demand import demand
from lab.errors import LabError
from lab.machine import machine_here
from lab.machine import memory as machine
from lab.processes import alive, identity, send
from lab.queue import Queue
from lab.reach import Reach
from recipes.memory import USABLE

# Settings that name what a trainer reads: the judge alone reads the vault.
READS = {"evaluate": ("model", "items")}
OTHERS_READ = ("model", "data", "teacher")
OURS = (".json", "log.txt")  # files that we write in a job's folder
BESIDE = "cpu"  # the slot of jobs that leave the GPU alone
_STATE = TypeAdapter(JobState)


class LocalBackend:
    """The six verbs (see lab.backend.Backend) for this machine.

    It has one slot, and with a GPU a second one beside it, for jobs whose machine is called "local CPU": these do not see
    the GPU. Recipes and the judge take a GPU that they see, so no other job can do without it.
    """

    def __init__(self, queue: Path, env: Mapping[str, str], price: float = 0.0):
        """`env` is all that a trainer may see of our environment; `price` what the machine costs, in dollars an hour."""
        self._price = price
        self._queue = queue
        self._env = dict(env)

    def price(self, machine: str) -> float | None:
        return self._price

    def machines(self) -> dict[str, Machine]:
        return {}

    def waits(self, session: Path) -> float | None:
        return eta(Queue(self._queue, holds_ticket).ahead(session))

    def launch(self, spec: JobSpec) -> None:
        """Start the job, unless this very attempt was started before, whatever became of it. Raises LabError when the disk refuses."""
        folder = spec.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _take_links_away(folder)
            with launching(folder):  # the agent and the supervisor may both want to start it
                if holds_machine(folder):  # whatever attempt its job.json, its trainer's to write, may name
                    return
                attempt = read_json(folder / "job.json").get("attempt")
                if attempt != spec.attempt:
                    self._prepare(spec)
                elif run_file(folder).exists() or (folder / "exit.json").exists():
                    return
                self._start(spec)
        except OSError as error:
            if cancel_file(folder).exists():  # nobody waits for the disk any more
                return
            raise LabError(f"The job {spec.job} could not be started ({error.strerror}): {folder}.") from error

    def _prepare(self, spec: JobSpec) -> None:
        """The folder as this attempt's runner needs it; job.json comes last."""
        stale = [spec.folder / name for name in ("exit.json", "result.json", "place.json")]  # a cancel may come first
        for path in (*stale, run_file(spec.folder)):
            path.unlink(missing_ok=True)
        write_json(spec.folder / "config.json", spec.config)
        on = machine_here(self.price, "cpu" if self._beside(spec) else "auto")
        needs = demand(spec.recipe, spec.config, peaks.look(spec.folder.parent.parent))(on)
        about = {"job": spec.job, "recipe": spec.recipe, "hours": spec.hours, "attempt": spec.attempt}
        about |= {"takes_s": spec.takes_s, "device": on.device}
        about |= {"needs": needs if needs <= USABLE * on.bytes else 0}  # no waiting gives a machine more than it has
        queue = self._queue / BESIDE if self._beside(spec) else self._queue
        write_json(spec.folder / "job.json", about | {"queue": str(queue), "launched": time.time()})

    def _beside(self, spec: JobSpec) -> bool:
        return machine()[0] == "cuda" and spec.machine.startswith("local CPU")

    def _start(self, spec: JobSpec) -> None:
        """Start the runner. What its trainer is and may reach comes from here: the job's folder is the trainer's to write."""
        folder = spec.folder
        reach = Reach(folder.parent.parent, self._env)
        places = [str(spec.config.get(name, "")) for name in READS.get(spec.recipe, OTHERS_READ)]
        launcher = reach.trainer(folder, [Path(place) for place in places if os.path.isabs(place)])
        trainer = [sys.executable, "-P", "-m", f"recipes.{spec.recipe}", str(folder / "config.json")]
        with own_file(folder / "log.txt", LOG) as log:
            runner = subprocess.Popen(
                [sys.executable, "-P", "-m", "lab.backends.runner", str(folder), *launcher, *trainer],
                env=reach.environment(folder) | ({"CUDA_VISIBLE_DEVICES": ""} if self._beside(spec) else {}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        write_json(run_file(folder), {"runner": identity(runner.pid)})  # it waits for our lock
        Thread(target=runner.wait, name="reaper", daemon=True).start()  # or it stays a zombie until our next launch

    def state(self, folder: Path) -> JobState:
        """Where the job stands, from its folder alone: it need not be our child. While it runs, no file says that it ended."""
        if not (folder / "job.json").exists():
            return JobState(
                "cancelled" if cancel_file(folder).exists() else "failed", _ran(folder), "its folder is gone"
            )
        if holds_machine(folder):
            run = read_json(run_file(folder))
            if cancel_file(folder).exists():  # the runner may have died before it passed it on
                self.cancel(folder)
            if "trainer" not in run:
                return _said(folder / "place.json", state="queued") or JobState("queued")
            saves = cancel_file(folder).exists()  # its silence says nothing
            return JobState("running", time.time() - run["started"], unseen=saves)
        run, seconds = read_json(run_file(folder)), _ran(folder)
        over = _said(folder / "exit.json")
        if over and over.ended and ("seconds" in run or over.seconds <= time.time() - run.get("started", 0.0)):
            told = over.reason or (
                "" if over.state == "done" else why(folder, over.signal, read_json(folder / "exit.json").get("code"))
            )
            return replace(over, seconds=run.get("seconds", over.seconds), reason=told)
        if result(folder).get("ok"):
            return JobState("done", seconds)
        if cancel_file(folder).exists():
            return JobState("cancelled", seconds, "cancelled")
        if said := result(folder).get("error"):
            return JobState("failed", seconds, str(said)[:SENTENCE])
        return JobState("failed", seconds, "the trainer was killed and could not say why", signal=signal.SIGKILL)

    def cancel(self, folder: Path) -> None:
        """Ask the job to save and stop. Returns at once; `state` says when it has."""
        run = read_json(run_file(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)  # of a job that is logged and not yet started
        cancel_file(folder).touch()
        if run and not alive(run.get("runner")):  # nobody is left to pass it on
            send(run.get("trainer"), signal.SIGTERM)


def _said(file: Path, **known: str) -> JobState | None:
    """The state that a file of a job's folder tells; None where its trainer has put there what is none."""
    try:
        state = _STATE.validate_python(read_json(file) | known)
    except ValidationError:
        return None
    return state if state.seconds >= 0 else None


def _take_links_away(folder: Path) -> None:
    """What an earlier attempt's trainer left at the top of its folder, and what would lead our own writing elsewhere, or stop it."""
    for path in folder.iterdir():
        if path.is_symlink() or path.is_fifo():
            path.unlink(missing_ok=True)
        elif path.is_dir() and path.name.removesuffix(".tmp").endswith(OURS):
            rmtree(path)


def _ran(folder: Path) -> float:
    """Seconds that a job has run: by its runner, or up to now or its last sign of life."""
    run = read_json(run_file(folder))
    if "seconds" in run or "started" not in run:
        return run.get("seconds", 0.0)
    return (time.time() if holds_machine(folder) else _last_sign(folder)) - run["started"]


def _last_sign(folder: Path) -> float:
    """Unix time of the last sign of life in a job's folder."""
    signs = [run_file(folder), *(folder / name for name in ("heartbeat", "metrics.jsonl", "log.txt"))]
    return min(time.time(), max((path.stat().st_mtime for path in signs if path.exists()), default=time.time()))
