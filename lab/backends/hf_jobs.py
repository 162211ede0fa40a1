"""Jobs on rented machines of Hugging Face Jobs. Each has its folder here, as a local one has; what happens there comes back into it.

A job travels in a folder of the person's private bucket, which is mounted on the machine: no token goes with it. Its curve
and its signs of life come by the log (recipes.remote), its model and the rest by the bucket, once it has ended. Which job
of the Hub it is stands beside its folder, so that whoever comes after us finds it again.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from signal import SIGKILL, SIGTERM, Signals
from tempfile import TemporaryDirectory
from typing import Any

from lab.backend import RENTED, JobSpec, JobState, Machine, Point, read_json, write_json
from lab.backends.ear import Ear
from lab.backends.folder import log_tail, metrics, result, why
from lab.backends.runner import cancel_file, launching
from lab.checkpoint import keep_best
from lab.errors import LabError, Refused
from lab.hub import BUSY, in_words
from lab.parcel import pack
from lab.rented import PriceList

IMAGE = "ghcr.io/astral-sh/uv:python3.11-bookworm"  # huggingface_hub's for scripts; what we pin is for 3.11
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
BUCKET = "jobs-artifacts"  # huggingface_hub's own for what jobs need (constants.HF_JOBS_ARTIFACTS_BUCKET_NAME)
MOUNT = "/job"
BOOT = 900.0  # seconds beyond a job's own hours, to install what it needs and to bring back what it made [H]
LOOK = 3.0  # seconds between two looks at the jobs
DEAF = 30.0  # seconds without an answer, after which a job's silence says nothing
SAVING = (
    60.0  # seconds after its cancel that a job may still write: 30 until it is killed, and the mount's own delay [H]
)
GONE = 5  # answers in a row that there is no such job, after which it is believed
PAUSES = (1.0, 60.0)  # seconds before a launch is tried again: the first, and the longest
LARGEST = 50 * 2**30  # bytes of one file that a job may bring back
EXIT_CODE = re.compile(r"exit code:? (\d+)")
SET_UP = "{} of Hugging Face Jobs is being set up"


class HFJobs:
    """The six verbs (see lab.backend.Backend). `api` gives a client of the Hub with the person's token of now; it may raise LabError."""

    def __init__(self, api: Callable[[], Any], look: float = LOOK, saving: float = SAVING):
        self._api = api
        self._every, self._saving = look, saving
        self._prices = PriceList()
        self._lock = threading.Lock()
        self._ears: dict[Path, Ear] = {}  # of the jobs that are looked at
        self._looking = False
        self._tries: dict[Path, tuple[float, float, str]] = {}  # of a launch that failed: not before, pause, why

    def machines(self) -> dict[str, Machine]:
        """What can be rented, by name. Raises LabError where the Hub does not say."""
        with in_words("the machines of Hugging Face Jobs"):
            return self._prices.machines(self._api())

    def price(self, machine: str) -> float | None:
        known = self.machines().get(machine)
        return known.price if known else None

    def launch(self, spec: JobSpec) -> None:
        """Send the job off, unless this very attempt was. Raises LabError where it will be tried again; a refusal ends it."""
        folder = spec.folder
        folder.mkdir(parents=True, exist_ok=True)
        with launching(folder):
            known = read_json(about_file(folder))
            if known.get("attempt") == spec.attempt and ("id" in known or "ended" in known):
                return
            not_before, pause, said = self._tries.get(folder, (0.0, 0.0, ""))
            if time.monotonic() < not_before:
                raise LabError(said)
            if cancel_file(folder).exists():
                _end(folder, JobState("cancelled", reason="cancelled before it was sent"), attempt=spec.attempt)
                return
            write_json(about_file(folder), {"attempt": spec.attempt})
            try:
                with in_words(f"the job {spec.job}", (*BUSY, 401)):  # a token that has ended: the next one sends it
                    self._send(spec)
            except Refused as error:
                _end(folder, JobState("failed", reason=str(error)), attempt=spec.attempt)
            except (LabError, OSError) as error:
                pause = min(max(2 * pause, PAUSES[0]), PAUSES[1])
                self._tries[folder] = (time.monotonic() + pause, pause, str(error))
                raise LabError(f"{error} The job {spec.job} is tried again.") from error

    def _send(self, spec: JobSpec) -> None:
        api, flavor = self._api(), spec.machine.removeprefix(RENTED)
        owner, place = api.whoami()["name"], f"ml-intern/{spec.folder.parent.parent.name}/{spec.job}"
        labels = {"ml-intern": f"{spec.folder.parent.parent.name}.{spec.job}.{spec.attempt}"}
        # the answer to an earlier try may have been lost, or the machine that made it
        job = next(iter(api.list_jobs(labels=labels, namespace=owner)), None)
        if job is None:
            for name in ("result.json", "log.txt"):
                (spec.folder / name).unlink(missing_ok=True)
            with TemporaryDirectory(prefix=".parcel-", dir=spec.folder) as parcel:
                models = pack(spec, Path(parcel))
                volumes = [_upload(api, owner, Path(parcel), place), *_mounts(models)]
            device = self._prices.machines(api)[spec.machine].device
            job = api.run_job(
                image=IMAGE, command=_command(models, device == "cpu"), env={"PYTHONPATH": f"{MOUNT}/code", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                flavor=flavor, timeout=int(spec.hours * 3600 + BOOT), labels=labels, volumes=volumes, namespace=owner,
            )  # fmt: skip
        about = {
            "attempt": spec.attempt,
            "id": job.id,
            "owner": owner,
            "place": place,
            "flavor": flavor,
            "url": job.url,
        }
        write_json(about_file(spec.folder), about | {"stage": str(job.status.stage)})
        self._ear(spec.folder)

    def state(self, folder: Path) -> JobState:
        """Where the job stands, by what was last heard of it; it is listened to from now on."""
        known = read_json(about_file(folder))
        if over := known.get("ended"):
            return JobState(**over | {"signal": Signals(over["signal"]) if over["signal"] else None})
        if "id" not in known:
            return JobState("queued", reason="it is being sent to Hugging Face Jobs")
        ear = self._ear(folder)
        if "started" not in known:
            return JobState("queued", reason=SET_UP.format(known["flavor"]))
        return JobState("running", time.time() - known["started"], unseen=time.monotonic() - ear.heard > DEAF)

    def metrics(self, folder: Path, after: int) -> tuple[list[Point], int]:
        return metrics(folder, after)

    def log_tail(self, folder: Path, chars: int = 4000) -> str:
        return log_tail(folder, chars)

    def result(self, folder: Path) -> dict[str, Any]:
        return result(folder)

    def cancel(self, folder: Path) -> None:
        """Ask the job to save and stop. Returns at once: whoever looks at it asks the Hub, again and again, until it has."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        cancel_file(folder).touch()
        if "id" in (known := read_json(about_file(folder))) and "ended" not in known:
            self._ear(folder)

    def _ear(self, folder: Path) -> Ear:
        """The listener of a job; there is one from now on until it has ended."""
        with self._lock:
            ear = self._ears.setdefault(folder, Ear(folder))
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look_on, name="hf jobs", daemon=True).start()
        return ear

    def _look_on(self) -> None:
        while True:
            for folder, ear in list(self._ears.items()):
                with suppress(LabError, OSError), in_words("a job"):
                    if self._look(folder, ear):
                        with self._lock:
                            del self._ears[folder]
            with self._lock:
                if not self._ears:
                    self._looking = False
                    return
            time.sleep(self._every)

    def _look(self, folder: Path, ear: Ear) -> bool:
        """Look at one job; True once it has ended and all that it made is here. Raises what the Hub's client raises."""
        from huggingface_hub.errors import HfHubHTTPError

        known, api = read_json(about_file(folder)), self._api()
        if "ended" in known or "id" not in known:
            return True
        asked = {"job_id": known["id"], "namespace": known["owner"]}
        try:
            job = api.inspect_job(**asked)
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise
            ear.missed += 1
            if ear.missed < GONE:
                return False
            _end(folder, JobState("failed", _ran(known), "Hugging Face Jobs no longer knows it"))
            return True
        ear.missed, ear.heard, stage = 0, time.monotonic(), str(getattr(job.status.stage, "value", job.status.stage))
        if stage in ("SCHEDULING", "RUNNING"):
            if cancel_file(folder).exists():
                api.cancel_job(**asked)
            if stage == "RUNNING" and "started" not in known:
                began = job.started_at.timestamp() if job.started_at else time.time()
                write_json(about_file(folder), known | {"started": began})
            if stage == "RUNNING":
                ear.listen(lambda: api.fetch_job_logs(follow=True, **asked))
            return False
        if stage not in ("COMPLETED", "ERROR", "CANCELED", "DELETED"):  # one that we do not know: it is not an end
            return False
        with suppress(LabError), in_words("a log"):  # the bucket has all that counts
            ear.hear(api.fetch_job_logs(**asked))
        left = self._fetch(api, known, folder)
        if not left and stage == "CANCELED" and "started" in known:  # its machine has a moment to save what it has
            ear.ended = ear.ended or time.monotonic()
            if time.monotonic() < ear.ended + self._saving:
                return False
        ending = _ending(folder, job, stage, left, _ran(known))
        if not left and ending.signal is None:  # nobody will go on from what it had saved: it becomes the job's model
            self._fetch(api, known, folder, rescue=True)
            keep_best(folder, metrics(folder, 0)[0])
        _end(folder, ending)
        return True

    def _fetch(self, api: Any, known: dict[str, Any], folder: Path, rescue: bool = False) -> dict[str, Any]:
        """Bring back what this attempt has left in the bucket, and return its exit.json; {} where it did not come to that.

        To `rescue` is to bring what there is all the same, the checkpoints, too.
        """
        from huggingface_hub.errors import EntryNotFoundError

        bucket, top = f"{known['owner']}/{BUCKET}", PurePosixPath(known["place"], "out")
        try:
            listed = list(api.list_bucket_tree(bucket, prefix=str(top), recursive=True))
        except EntryNotFoundError:
            return {}
        files = {PurePosixPath(one.path).relative_to(top): one for one in listed if hasattr(one, "size")}
        said = files.pop(PurePosixPath("exit.json"), None)
        with TemporaryDirectory(prefix=".fetched-", dir=folder) as scratch:
            if said:
                api.download_bucket_files(bucket, [(said, Path(scratch, "exit.json"))])
            left = read_json(Path(scratch, "exit.json"))
        if left.get("attempt") != known["attempt"] and not rescue:  # of a machine that died later
            return {}
        wanted = [path for path in files if _welcome(path) and (rescue or path.parts[0] != "checkpoints")]
        api.download_bucket_files(
            bucket, [(files[path], folder / path) for path in wanted if files[path].size <= LARGEST]
        )
        return left


def about_file(folder: Path) -> Path:
    """Which job of the Hub it is, beside its folder. {"attempt", "id", "owner", "place", "flavor", "url", "started", "ended"}"""
    return folder.with_name(f".{folder.name}.hf-job.json")


def _upload(api: Any, owner: str, parcel: Path, place: str) -> Any:
    """The parcel as a volume, in the person's private bucket."""
    from huggingface_hub import Volume

    bucket = f"{owner}/{BUCKET}"
    api.create_bucket(bucket, private=True, exist_ok=True)
    if not api.bucket_info(bucket).private:
        raise Refused(f"The bucket {bucket} is public, and what goes to jobs is not; make it private in its settings.")
    api.sync_bucket(str(parcel), f"hf://buckets/{bucket}/{place}", quiet=True)
    return Volume(type="bucket", source=bucket, mount_path=MOUNT, path=place, read_only=False)


def _mounts(models: dict[str, str]) -> list[Any]:
    from huggingface_hub import Volume

    return [Volume(type="model", source=model, mount_path=f"/{name}", read_only=True) for name, model in models.items()]


def _command(models: dict[str, str], cpu: bool) -> list[str]:
    wheels = ["--index", CPU_WHEELS, "--index-strategy", "unsafe-best-match"] if cpu else []
    run = ["uv", "run", "--no-project", *wheels, "--with-requirements", f"{MOUNT}/code/requirements.txt"]
    return [*run, "python", "-m", "recipes.remote", MOUNT, *(f"{name}=/{name}" for name in models)]


def _welcome(path: PurePosixPath) -> bool:
    """Whether a file may come back: nothing hidden, and no path that leads elsewhere."""
    return not path.is_absolute() and not any(part.startswith(".") for part in path.parts)


def _ran(known: dict[str, Any]) -> float:
    return max(0.0, time.time() - known["started"]) if "started" in known else 0.0


def _ending(folder: Path, job: Any, stage: str, left: dict[str, Any], ran: float) -> JobState:
    """How a job ended, by its stage and by what it left behind."""
    took = job.durations.running_secs if job.durations else None
    seconds = float(ran if took is None else took)
    said, code = (job.status.message or "").strip().partition("\n")[0][:200], left.get("code")
    if not left:  # its machine was taken from it
        asked = cancel_file(folder).exists()
        if stage == "CANCELED":
            return JobState("cancelled", seconds, "cancelled" if asked else "cancelled on the Hub")
        if "timeout" in said.lower() or "timed out" in said.lower():
            return JobState("timeout", seconds, said)
        if stage == "DELETED":
            return JobState("failed", seconds, "it was deleted on the Hub")
        if "oomkilled" in said.lower():
            return JobState("failed", seconds, f"out of memory: {said}")
        code = int(found[1]) if (found := EXIT_CODE.search(said)) else None
        if code not in (None, 128 + SIGKILL, 128 + SIGTERM):  # it did not come to its trainer: what it needs is missing
            return JobState("failed", seconds, f"it could not begin: {why(folder, None, code)}")
        return JobState("failed", seconds, said or "its machine was lost", signal=SIGKILL)
    state = left["state"]
    killed = Signals(-code) if state == "failed" and isinstance(code, int) and code < 0 else None
    if killed == SIGKILL and left.get("starved"):
        return JobState("failed", seconds, "out of memory: the kernel killed the trainer")
    reason = {"done": "", "cancelled": "cancelled", "timeout": "ran longer than its hours"}.get(state)
    return JobState(state, seconds, why(folder, killed, code) if reason is None else reason, signal=killed)


def _end(folder: Path, over: JobState, **more: Any) -> None:
    write_json(about_file(folder), read_json(about_file(folder)) | more | {"ended": asdict(over)})
