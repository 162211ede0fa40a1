"""Adapters that were kept of stopped jobs, on their way into whole models.

A process of recipes.merge does it, confined as the job's trainer was, and holds a lock as long as it lives: whoever comes
after us waits for it, and begins again where it was killed. A job has not ended before that is over.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL

from lab.backend import RENTED, own_file, read_json, write_json
from lab.backends.folder import log_tail
from lab.backends.runner import LOG
from lab.checkpoint import ADAPTER
from lab.errors import LabError
from lab.findings import Finding
from lab.hub import Hub
from lab.machine import free
from lab.reach import Reach
from record.views import Job

RULE = "adapter_not_merged"
MOST = 3  # times that it is begun, whoever kills it: memory may be short each time

# Where memory is short the kernel is to take it, and not the next job's trainer, which has begun beside it.
FIRST_TO_GO = ("sh", "-c", 'echo 1000 >/proc/self/oom_score_adj; exec "$@"', "sh")


class Merges:
    """Those of one session's jobs."""

    def __init__(self, session: Path, env: Mapping[str, str]):
        """`env` is all that a trainer may see of our environment."""
        self._reach, self._env = Reach(session, env), env
        self._hub = Hub(session.parent.parent / "models", None, env)  # only for where they lie
        self._running: dict[Path, subprocess.Popen] = {}  # by job folder
        self._why: dict[Path, str] = {}  # there is no model, by job folder

    def pending(self, job: Job, folder: Path) -> bool:
        """Whether a model is being made of the adapter of a job whose trainer has ended; begins it where nobody has."""
        if folder in self._why or not (folder / ADAPTER).is_dir() or (folder / "model").exists():
            return False
        if folder not in self._running:
            try:
                self._begin(job, folder)
            except (LabError, OSError, ValueError) as error:  # a folder that is gone is no Hub id either
                self._why[folder] = str(error)
            return folder not in self._why
        code = self._running[folder].poll()
        if code == -SIGKILL:  # from outside; one that is out of time has another signal
            del self._running[folder]
            return True
        if code is not None:
            said = log_tail(folder).strip().splitlines()[-1:] if code > 0 else []
            self._why[folder] = said[0][:300] if said else f"its process was killed by signal {-code}"
        return code is None

    def failed(self, job: Job, folder: Path) -> list[Finding]:
        """What to say where an adapter was kept, and no model could be made of it."""
        if folder not in self._why:
            return []
        what = f"The adapter of {job.id}'s best checkpoint was kept, and is no model yet: {self._why[folder]}"
        advice = (
            f"Its files are in {job.folder}/{ADAPTER}. What is said there is what it wants; train it again after that."
        )
        return [Finding("warn", RULE, what.rstrip(".") + ".", advice, {"reason": self._why[folder]})]

    def _begin(self, job: Job, folder: Path) -> None:
        """Start the process, unless one of an earlier owner still runs. Raises LabError, OSError, ValueError."""
        model = str(job.config["model"])
        base, pinned = str(self._hub.fetch(model)), job.revisions.get(model, "")
        if pinned and self._hub.revisions({"model": model}).get(model) != pinned:  # another commit is here
            base = model
        cpu = job.machine.startswith(("local CPU", f"{RENTED}cpu"))
        asked = {"recipe": job.recipe, "model": base, "revision": pinned, "half": not cpu, "memory": free("cpu")}
        command = [sys.executable, "-P", "-m", "recipes.merge", str(folder), json.dumps(asked)]
        places = [Path(base)] if os.path.isabs(base) else []
        with (
            open(folder.with_name(f".{folder.name}.merge.launch"), "w") as lock,
            own_file(folder / "log.txt", LOG) as log,
        ):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            begun = read_json(about := folder.with_name(f".{folder.name}.merge.json")).get("begun", 0)
            if begun >= MOST:
                raise LabError(f"its process was killed {begun} times")
            write_json(about, {"begun": begun + 1})
            self._running[folder] = subprocess.Popen(
                [*FIRST_TO_GO, *self._reach.trainer(folder, places), *command],
                env=self._reach.environment(folder) | {"CUDA_VISIBLE_DEVICES": ""},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
