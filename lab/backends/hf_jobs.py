"""Jobs on rented machines of Hugging Face Jobs. Each has its folder here, as a local one has; what happens there comes back into it.

A job travels in a folder of the person's private bucket, which is mounted on the machine: no token goes with it; or, where
they may use none, in a private repository, with a token that they made for it (see lab.backends.depot). Its curve and its
signs of life come by the log (recipes.remote), its model and the rest by bucket or repository, once it has ended. Which
job of the Hub it is stands beside its folder, so that whoever comes after us finds it again.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from tempfile import TemporaryDirectory
from typing import Any

from lab.backend import RENTED, JobSpec, JobState, Machine, read_json, write_json
from lab.backends.depot import MOUNT, Brought, depot_of, send
from lab.backends.ear import Ear
from lab.backends.folder import metrics, why
from lab.backends.gauge import events
from lab.backends.repository import JOB_TOKEN, NAME
from lab.backends.runner import cancel_file, launching
from lab.checkpoint import keep_best
from lab.errors import LabError, Refused
from lab.hub import BUSY, JOBS, in_words
from lab.parcel import CPU_WHEELS, pack
from lab.rented import PriceList
from lab.supervisor import ATTEMPTS
from recipes.grace import LONGEST

IMAGE = "ghcr.io/astral-sh/uv:python3.11-bookworm"  # huggingface_hub's for scripts; what we pin is for 3.11
BOOT = 900.0  # seconds beyond a job's own hours, to install what it needs and to bring back what it made [H]
LEAST = 1800.0  # seconds that a job may always run, however short it was foretold: the Hub's own timeout
LOOK = 3.0  # seconds between two looks at the jobs
DEAF = 30.0  # seconds without an answer, after which a job's silence says nothing
SAVING = (
    60.0  # seconds after its cancel that a job may still write: 30 until it is killed, and the mount's own delay [H]
)
PAUSES = (1.0, 60.0)  # seconds before a launch is tried again: the first, and the longest
BY_REPOSITORY = {"ml-intern-depot": "repository"}  # the label of a job whose things lie there
ENVIRONMENT = {"PYTHONPATH": f"{MOUNT}/code", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
ODD = (
    OSError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
)  # of files and answers that are not what they should be
EXIT_CODE = re.compile(r"exit code:? (\d+)")
OVERDUE = "ran longer than its hours, or than twice what was foretold of it"
SET_UP = "{} of Hugging Face Jobs is being set up"


class HFJobs:
    """The six verbs (see lab.backend.Backend). `api` gives a client of the Hub with the person's token of now; it may raise LabError.

    `token` gives the one that may go to a machine, where there is one."""

    def __init__(
        self, api: Callable[[], Any], token: Callable[[], str | None] = lambda: None, look: float = LOOK, saving: float = SAVING
    ):  # fmt: skip
        self._api, self._token = api, token
        self._every, self._saving = look, saving
        self._prices = PriceList()
        self._lock = threading.Lock()
        self._ears: dict[Path, Ear] = {}  # of the jobs that are looked at
        self._looking, self._thread = False, threading.current_thread()
        self._tries: dict[Path, tuple[float, float, str]] = {}  # of a launch that failed: not before, pause, why

    def machines(self) -> dict[str, Machine]:
        """What can be rented, by name. Raises LabError where the Hub does not say."""
        with in_words("the machines of Hugging Face Jobs", right=JOBS):
            return self._prices.machines(self._api())

    def waits(self, session: Path) -> float | None:
        return 0.0

    def price(self, machine: str) -> float | None:
        known = self.machines().get(machine)
        return known.price if known else None

    def launch(self, spec: JobSpec) -> None:
        """Send the job off, unless this very attempt was. Raises LabError where it will be tried again; a refusal ends it.

        A request whose answer was lost may have made a job that costs money: until the Hub says whether it has, that is
        asked before anything else, a cancel or a refusal included.
        """
        folder = spec.folder
        folder.mkdir(parents=True, exist_ok=True)
        with launching(folder):
            known = read_json(about_file(folder))
            if known.get("attempt") == spec.attempt and ("id" in known or "ended" in known):
                return
            unsure = known.get("attempt") == spec.attempt and known.get("unsure", False)
            if cancel_file(folder).exists() and not unsure:
                _end(folder, JobState("cancelled", reason="cancelled before it was sent"), attempt=spec.attempt)
                return
            not_before, pause, said = self._tries.get(folder, (0.0, 0.0, ""))
            if time.monotonic() < not_before:
                raise LabError(said)
            write_json(about_file(folder), {"attempt": spec.attempt, "unsure": unsure})
            try:
                with in_words(
                    f"the job {spec.job}", (*BUSY, 401), JOBS
                ):  # a token that has ended: the next one sends it
                    self._send(spec)
            except (LabError, OSError) as error:
                if isinstance(error, Refused) and not read_json(about_file(folder)).get("unsure"):
                    _end(folder, JobState("failed", reason=str(error)))
                    return
                pause = min(max(2 * pause, PAUSES[0]), PAUSES[1])
                self._tries[folder] = (time.monotonic() + pause, pause, str(error))
                raise LabError(f"{error} The job {spec.job} is tried again.") from error

    def _send(self, spec: JobSpec) -> None:
        """Find the job on the Hub, or start it there."""
        api = self._api()
        owner, place = api.whoami()["name"], f"ml-intern/{spec.folder.parent.parent.name}/{spec.job}"
        labels = {"ml-intern": f"{spec.folder.parent.parent.name}.{spec.job}.{spec.attempt}"}
        # an earlier answer may have been lost, or the machine that had it
        job = next(iter(api.list_jobs(labels=labels, namespace=owner)), None)
        if job is None and cancel_file(spec.folder).exists():
            _end(spec.folder, JobState("cancelled", reason="cancelled before it was sent"))
            return
        if job is None:
            job = self._start(api, spec, owner, place, labels)
        about = {"attempt": spec.attempt, "id": job.id, "owner": owner, "place": place, "timeout": _timeout(spec)}
        mounted = any(one.mount_path == MOUNT and one.type == "dataset" for one in job.volumes or ())
        if mounted or BY_REPOSITORY.items() <= (job.labels or {}).items():  # an answer need not have both
            about["repository"] = f"{owner}/{NAME}"
        write_json(about_file(spec.folder), about | {"flavor": spec.machine.removeprefix(RENTED)})
        self._ear(spec.folder)

    def _start(self, api: Any, spec: JobSpec, owner: str, place: str, labels: dict[str, str]) -> Any:
        from huggingface_hub.errors import HfHubHTTPError

        for name in ("result.json", "log.txt"):
            (spec.folder / name).unlink(missing_ok=True)
        machine = self._prices.machines(api)[spec.machine]
        with TemporaryDirectory(prefix=".parcel-", dir=spec.folder) as parcel:
            models = pack(replace(spec, hours=_hours(spec)), Path(parcel), machine.accelerators)
            token = self._token()
            own = send(api, token, owner, spec, Path(parcel), place)
        command, secrets = _command(models, machine.device == "cpu"), {}
        if own.type == "dataset":
            command, secrets = _handed([*command, "--commit", api.endpoint, own.source, place]), {JOB_TOKEN: token}
            labels = labels | BY_REPOSITORY
        write_json(about_file(spec.folder), {"attempt": spec.attempt, "unsure": True})
        try:
            return api.run_job(
                image=IMAGE, command=command, env=ENVIRONMENT, secrets=secrets, flavor=spec.machine.removeprefix(RENTED),
                timeout=_timeout(spec), labels=labels, volumes=[own, *_mounts(models, spec.revisions)], namespace=owner,
            )  # fmt: skip
        except HfHubHTTPError as error:
            if 400 <= error.response.status_code < 500:  # it has said that it made none
                write_json(about_file(spec.folder), {"attempt": spec.attempt})
            raise

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

    def cancel(self, folder: Path) -> None:
        """Ask the job to save and stop. Whoever looks at it asks the Hub again, until it has."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        known, asked = read_json(about_file(folder)), cancel_file(folder).exists()
        cancel_file(folder).touch()
        if "id" in known and "ended" not in known:
            if not asked:  # a supervisor that wants it stopped says so four times a second
                with suppress(LabError), in_words("a cancel"):
                    self._api().cancel_job(job_id=known["id"], namespace=known["owner"])
            self._ear(folder)

    def _ear(self, folder: Path) -> Ear:
        """The listener of a job; there is one from now on until it has ended."""
        with self._lock:
            ear = self._ears.setdefault(folder, Ear(folder))
            if not (self._looking and self._thread.is_alive()):  # one that died must not leave the jobs unwatched
                self._looking = True
                self._thread = threading.Thread(target=self._look_on, name="hf jobs", daemon=True)
                self._thread.start()
        return ear

    def _look_on(self) -> None:
        while True:
            for folder, ear in list(self._ears.items()):
                try:
                    with in_words("a job"):
                        over = self._look(folder, ear)
                except (LabError, *ODD) as error:  # what a job, or the Hub, may say must not leave the others unwatched
                    logging.getLogger(__name__).info("%s: %s", folder.name, error)
                    continue
                if over:
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
            return self._missing(api, folder, known, ear)
        ear.missed, ear.heard, stage = 0.0, time.monotonic(), str(getattr(job.status.stage, "value", job.status.stage))
        if stage in ("SCHEDULING", "RUNNING"):
            if cancel_file(folder).exists():
                api.cancel_job(**asked)
            if stage == "RUNNING" and "started" not in known:
                began = job.started_at.timestamp() if job.started_at else time.time()
                write_json(about_file(folder), known | {"started": began})
            if stage == "RUNNING":
                ear.listen(lambda: api.fetch_job_logs(follow=True, **asked), lambda: events(api, **asked))
            return False
        if stage not in ("COMPLETED", "ERROR", "CANCELED", "DELETED"):  # one that we do not know: it is not an end
            return False
        with suppress(LabError), in_words("a log"):  # what it left has all that counts
            ear.hear(api.fetch_job_logs(**asked))
        there = Brought(depot_of(api, known), known["place"], folder)
        left = there.ending(known["attempt"])
        if not left and (job.started_at or "started" in known):  # what its machine wrote last may still be on its way
            ear.ended = ear.ended or time.monotonic()
            if time.monotonic() < ear.ended + self._saving:
                return False
        self._settle(folder, known, there, left, _ending(folder, job, stage, left, _ran(folder, known, job, left)))
        return True

    def _missing(self, api: Any, folder: Path, known: dict[str, Any], ear: Ear) -> bool:
        """Look at a job that the Hub has no more: what it left tells how it ended. True once that is believed."""
        if api.whoami()["name"] != known["owner"]:  # it is hidden, and not gone
            return False
        ear.missed = ear.missed or time.monotonic()
        there = Brought(depot_of(api, known), known["place"], folder)
        left = there.ending(known["attempt"])
        if not left and time.monotonic() < ear.missed + self._saving:
            return False
        ran = _ran(folder, known, None, left)
        gone = JobState("failed", ran, "Hugging Face Jobs no longer knows it")
        self._settle(folder, known, there, left, _as_left(folder, left, ran) if left else gone)
        return True

    def _settle(
        self, folder: Path, known: dict[str, Any], there: Brought, left: dict[str, Any], over: JobState
    ) -> None:
        """Bring back what it made. Of one that was cut short and goes on nowhere, the best checkpoint becomes the model."""
        last = over.state != "done" and (over.signal is None or known["attempt"] >= ATTEMPTS)
        if left or last:
            there.fetch(whole=bool(left), checkpoints=last)
        if last:
            keep_best(folder, metrics(folder, 0)[0])
        _end(folder, over)


def about_file(folder: Path) -> Path:
    """Which job of the Hub it is, beside its folder. {"attempt", "id", "owner", "place", "flavor", "timeout", "started", "ended", "unsure", "repository"}"""
    return folder.with_name(f".{folder.name}.hf-job.json")


def _mounts(models: dict[str, str], revisions: Mapping[str, str]) -> list[Any]:
    from huggingface_hub import Volume

    return [
        Volume(type="model", source=model, mount_path=f"/{name}", revision=revisions.get(model), read_only=True)
        for name, model in models.items()
    ]


def _command(models: dict[str, str], cpu: bool) -> list[str]:
    wheels = ["--index", CPU_WHEELS, "--index-strategy", "unsafe-best-match"] if cpu else []
    run = ["uv", "run", "--no-project", *wheels, "--with-requirements", f"{MOUNT}/code/requirements.txt"]
    return [*run, "python", "-m", "recipes.remote", MOUNT, *(f"{name}=/{name}" for name in models)]


def _handed(command: list[str]) -> list[str]:
    """A command that has a secret of its job on its input, and not in its environment: what a process was started with
    stands in /proc for as long as it lives, and `uv` lives as long as the trainer."""
    hand = f'token=${JOB_TOKEN}; unset {JOB_TOKEN}; exec "$@" <<END\n$token\nEND\n'
    return ["sh", "-c", hand, "sh", *command]


def _hours(spec: JobSpec) -> float:
    """Run time after which a job ends: twice what was foretold of it, so that one that hangs does not cost all its hours."""
    return spec.hours if spec.takes_s is None else min(spec.hours, max(2 * spec.takes_s, LEAST) / 3600)


def _timeout(spec: JobSpec) -> int:
    """Seconds after which the Hub ends a job, should it not do so itself, with the time that its last save may take."""
    return int(_hours(spec) * 3600 + BOOT + LONGEST)


def _ran(folder: Path, known: dict[str, Any], job: Any | None, left: dict[str, Any]) -> float:
    """Seconds that a job ran, which is what it costs, however late we look.

    As the Hub counts them; where it does not say, as its exit.json does, else until the last sign of life that came here,
    and no more than the Hub's timeout.
    """
    took = job.durations.running_secs if job and job.durations else None
    if took is None and job and job.started_at and job.finished_at:
        took = (job.finished_at - job.started_at).total_seconds()
    if took is not None:
        return float(took)
    said = left.get("seconds")
    if not (isinstance(said, int | float) and 0 <= said < inf):
        signs = (folder / name for name in ("heartbeat", "log.txt"))
        said = max((path.lstat().st_mtime for path in signs if path.exists()), default=0.0) - known.get("started", inf)
    return min(max(0.0, said), known.get("timeout", inf))


def _ending(folder: Path, job: Any, stage: str, left: dict[str, Any], seconds: float) -> JobState:
    """How a job ended, by its stage and by what it left behind."""
    said = (job.status.message or "").strip().partition("\n")[0][:200]
    if left:
        return _as_left(folder, left, seconds)
    if stage == "COMPLETED":
        return JobState("failed", seconds, "it ended well, and what it made did not come back")
    if stage == "CANCELED":
        return JobState("cancelled", seconds, "cancelled" if cancel_file(folder).exists() else "cancelled on the Hub")
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


def _as_left(folder: Path, left: dict[str, Any], seconds: float) -> JobState:
    """How a job ended, by its own exit.json."""
    state, code = left["state"], left["code"]
    killed = Signals(-code) if state == "failed" and -code in set(Signals) else None
    if killed == SIGKILL and left.get("starved"):
        return JobState("failed", seconds, "out of memory: the kernel killed the trainer")
    reason = {"done": "", "cancelled": "cancelled", "timeout": OVERDUE}.get(state)
    return JobState(state, seconds, why(folder, killed, code) if reason is None else reason, signal=killed)


def _end(folder: Path, over: JobState, **more: Any) -> None:
    write_json(about_file(folder), read_json(about_file(folder)) | more | {"ended": asdict(over)})
