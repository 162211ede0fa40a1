"""One job as it runs: a process with a scratch folder of its own, which ends with it, as a container does."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from lab.processes import kill_group
from tests.hub.machines import inside
from tests.hub.store import Missing
from tests.hub.uv import shims
from tests.hub.volumes import Mount

OVER = ("COMPLETED", "ERROR", "CANCELED", "DELETED")


@dataclass
class Run:
    """A job's state. `stage`, `message` and the times are read by others while its thread changes them."""

    id: str
    namespace: str
    by: str
    spec: dict  # as the client sent it, without secrets
    folder: Path  # scratch, deleted at the end
    log: Path  # a line of JSON for each line
    created: float
    stage: str = "SCHEDULING"
    message: str | None = None
    started: float | None = None
    finished: float | None = None
    mounts: list[Mount] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)  # nothing of it runs any more
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _grace: float = 10.0

    @property
    def over(self) -> bool:
        return self.stage in OVER

    def settle(self, stage: str, message: str | None = None, grace_s: float = 10.0) -> bool:
        """The job's end, said once. Its process has `grace_s` seconds after SIGTERM. Returns whether this was the end."""
        with self._lock:
            if self.over:
                return False
            self.message, self._grace, self.finished = message, grace_s, time.time()
            self.stage = stage
            return True

    def begin(self) -> bool:
        """From SCHEDULING to RUNNING, unless it was ended before."""
        with self._lock:
            if self.over:
                return False
            self.stage, self.started = "RUNNING", time.time()
            return True

    def live(self, secrets: dict[str, str], endpoint: str, sync_s: float, keep: Callable[[], None]) -> None:
        """Run to the end. Blocks. `keep` is called when it has begun."""
        try:
            shims(self.folder / "bin")
            (self.folder / "tmp").mkdir()
            for one in self.mounts:
                one.fill()
            if self.begin():
                keep()
                self.write(f"===== Job started at {time.strftime('%Y-%m-%d %H:%M:%S')} =====")
                self._run(secrets, endpoint, sync_s)
        except Missing as error:  # deleted since the job was asked for
            self.settle("ERROR", f"A volume could not be mounted: {error}")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.gone.set()

    def _run(self, secrets: dict[str, str], endpoint: str, sync_s: float) -> None:
        command = [self._moved(word) for word in [*(self.spec["command"] or []), *(self.spec.get("arguments") or [])]]
        try:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(secrets, endpoint), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            self.settle("ERROR", f"Job failed with exit code: 127. Reason: {error}")
            return
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        until = time.time() + (self.spec.get("timeoutSeconds") or 30 * 60)
        synced = time.time()
        while process.poll() is None and not self.over:
            time.sleep(0.02)
            if time.time() > until:
                self.settle("ERROR", "Job timeout")
            if time.time() > synced + sync_s:
                self._bring()
                synced = time.time()
        killed = self.over
        self._kill(process)
        reader.join(timeout=2)
        if not killed:
            self._bring()
            code = process.returncode if process.returncode >= 0 else 128 - process.returncode
            self.settle(*(("ERROR", f"Job failed with exit code: {code}") if code else ("COMPLETED",)))

    def _kill(self, process: subprocess.Popen) -> None:
        """SIGTERM for the first process alone, as in a container; with its end, everything ends."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._grace)
        kill_group(process.pid)
        sweep(self.id)
        process.wait()

    def _environment(self, secrets: dict[str, str], endpoint: str) -> dict[str, str]:
        given = {**(self.spec.get("environment") or {}), **secrets}
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        own = {"JOB_ID": self.id, "HF_ENDPOINT": endpoint, "PATH": path, "HOME": str(self.folder)}
        own |= {"TMPDIR": str(self.folder / "tmp"), "LANG": "C.UTF-8", **inside(self.spec["flavor"])}
        return own | {name: self._moved(str(value)) for name, value in given.items()} | {"JOB_ID": self.id}

    def _moved(self, text: str) -> str:
        for one in self.mounts:
            text = one.rewritten(text)
        return text

    def _bring(self) -> None:
        for one in self.mounts:
            with suppress(OSError, RuntimeError, httpx.HTTPError):  # what was not brought comes with the next turn
                one.bring()

    def _read(self, process: subprocess.Popen) -> None:
        assert process.stdout
        with suppress(ValueError, OSError):
            for line in process.stdout:
                self.write(line.decode(errors="replace").rstrip("\r\n"))

    def write(self, line: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        with self.log.open("a") as file:
            file.write(json.dumps({"data": line, "timestamp": stamp}) + "\n")

    def usage(self) -> Iterator[tuple[float, int]]:
        """(percent of one core since the last look, bytes of memory), for each process."""
        for process in of_job(self.id):
            with suppress(psutil.NoSuchProcess):
                yield process.cpu_percent(), process.memory_info().rss


def of_job(id: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _job_of(process) == id]


def _job_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("JOB_ID")
    except (psutil.Error, OSError):
        return None


def sweep(id: str) -> None:
    """End everything that runs in a job, also what left its group: its environment tells."""
    for process in of_job(id):
        with suppress(psutil.NoSuchProcess):
            process.kill()
