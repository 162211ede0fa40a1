"""Jobs: started, watched, ended, listed. What runs is a real process (`runs`); the image is ignored.

What goes wrong on demand: `hub.jobs.stuck = True` keeps new jobs in SCHEDULING until it is False again, `boot_s` is how long
that takes anyway, `close_logs_early = True` closes every log stream after what there is, `delete(id)` and `fail(id, message)`
do what only the Hub itself can do.
"""

import asyncio
import json
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lab.backend import read_json, write_json
from tests.hub.access import iso, paged, parsed, sees, writes
from tests.hub.machines import MACHINES
from tests.hub.people import Person
from tests.hub.runs import Run, sweep
from tests.hub.server import Hub, Refusal, param
from tests.hub.volumes import Mount, mount

KEPT = ("id", "namespace", "by", "spec", "created", "stage", "message", "started", "finished")
PAGE = 100  # jobs of one answer of the list


@dataclass
class Jobs:
    """Every job of this Hub, the ended ones too."""

    hub: Hub
    stuck: bool = False
    close_logs_early: bool = False
    boot_s: float = 0.05  # of SCHEDULING
    grace_s: float = 10.0  # between SIGTERM and SIGKILL
    sync_s: float = 2.0  # between two looks at what changed in a mounted bucket
    keep_alive_s: float = 30.0
    metrics_s: float = 1.0
    gpu_percent: int = 90  # what every GPU says of itself
    runs: dict[str, Run] = field(default_factory=dict)
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder = self.hub.folder / "jobs"
        self.folder.mkdir(exist_ok=True)
        for file in sorted(self.folder.glob("*.json")):
            known = read_json(file)
            run = Run(folder=self.folder / known["id"], log=file.with_suffix(".log"), **known)
            if run.settle("ERROR", "The machine of this job was lost."):
                sweep(run.id)
                shutil.rmtree(run.folder, ignore_errors=True)
                self.hub.people.revoke(f"hf_mount_{run.id}")
                self.keep(run)
            run.gone.set()
            self.runs[run.id] = run
        self.hub.closers.insert(0, self.close)  # before the store that volumes are kept in

    def close(self) -> None:
        """End everything that runs, as a power cut does."""
        for run in self.runs.values():
            run.settle("ERROR", "The machine of this job was lost.", grace_s=0)
        for run in self.runs.values():
            if not run.gone.is_set():
                sweep(run.id)  # also one that still has its time after SIGTERM
                run.gone.wait(10)
                self.keep(run)

    def start(self, namespace: str, person: Person, spec: dict) -> Run:
        if spec.setdefault("flavor", "cpu-basic") not in MACHINES:
            raise Refusal(400, f"Invalid flavor: {spec['flavor']}")
        if not spec.get("command") or not (spec.get("dockerImage") or spec.get("spaceId")):
            raise Refusal(400, "A job has a command, and dockerImage or spaceId.")
        hidden = {name: str(value) for name, value in (spec.get("secrets") or {}).items()}
        spec["secrets"] = dict.fromkeys(hidden, "")
        spec["labels"] = {"name": spec["command"][0].replace("/", "-"), **(spec.get("labels") or {})}
        for volume in spec.get("volumes") or []:
            self._mountable(person, volume)
        id = secrets.token_hex(12)
        folder = self.folder / id
        folder.mkdir()
        run = Run(id, namespace, person.name, spec, folder, self.folder / f"{id}.log", time.time())
        run.log.touch()
        run.mounts = self._mounts(run, person)
        self.keep(run)
        self.runs[id] = run
        threading.Thread(target=self._live, args=(run, hidden), daemon=True).start()
        return run

    def _mountable(self, person: Person, volume: dict) -> None:
        """Raises Refusal for a volume that the person may not mount."""
        repo = self.hub.repos.get(volume["type"], volume["source"])
        if repo is None or not sees(person, repo):
            raise Refusal(404, f"There is no {volume['type']} {volume['source']} to mount.", "RepoNotFound")
        if repo.kind == "bucket" and not volume.get("readOnly") and not writes(person, repo):
            raise Refusal(403, f"You may mount {repo.id} read-only.")

    def _mounts(self, run: Run, person: Person) -> list[Mount]:
        volumes = run.spec.get("volumes") or []
        spaces = tuple(one["source"].split("/")[0] for one in volumes)
        token = self.hub.people.add(person.name, f"hf_mount_{run.id}", orgs=spaces).token if volumes else None
        api = HfApi(endpoint=self.hub.url, token=token)
        return [mount(one, self.hub.repos, api, run.folder / "mounts") for one in volumes]

    def _live(self, run: Run, hidden: dict[str, str]) -> None:
        while (self.stuck or time.time() < run.created + self.boot_s) and not run.over:
            time.sleep(0.01)
        run.live(hidden, self.hub.url, self.sync_s, lambda: self.keep(run))
        self.hub.people.revoke(f"hf_mount_{run.id}")
        self.keep(run)

    def keep(self, run: Run) -> None:
        with self._keeping:
            write_json(self.folder / f"{run.id}.json", {name: getattr(run, name) for name in KEPT})

    def delete(self, id: str) -> None:
        """The Hub takes a job away, even one that is over."""
        self.runs[id].settle("DELETED", grace_s=0)
        self.runs[id].stage = "DELETED"
        self.keep(self.runs[id])

    def fail(self, id: str, message: str) -> None:
        """The Hub's own machines fail: killed at once. What the Hub says: "Job failed with exit code: 137. Reason: OOMKilled"."""
        self.runs[id].settle("ERROR", message, grace_s=0)


def info(run: Run) -> dict:
    """JobInfo."""
    now = run.finished or time.time()
    spec = {name: run.spec.get(name) for name in ("dockerImage", "spaceId", "command", "flavor", "labels", "volumes")}
    spec |= {"arguments": run.spec.get("arguments") or [], "environment": run.spec.get("environment") or {}}
    kind = "user" if run.namespace == run.by else "org"
    return spec | {
        "id": run.id, "secrets": run.spec["secrets"], "timeout": run.spec.get("timeoutSeconds"),
        "createdAt": iso(run.created), "startedAt": iso(run.started) if run.started else None, "finishedAt": iso(run.finished) if run.finished else None,
        "status": {"stage": run.stage, "message": run.message, "failureCount": 0},
        "durations": {
            "schedulingSecs": int(run.started - run.created) if run.started else None,
            "runningSecs": int(now - run.started) if run.started else None,
            "totalSecs": int(now - run.created),
        },
        "owner": {"id": f"id-{run.namespace}", "name": run.namespace, "type": kind},
        "initiator": {"id": f"id-{run.by}", "name": run.by, "type": "user"},
    }  # fmt: skip


def routes(hub: Hub) -> list[Route]:
    if not hasattr(hub, "jobs"):  # routes() may be called again
        hub.jobs = Jobs(hub)  # type: ignore[attr-defined]
    jobs: Jobs = hub.jobs  # type: ignore[attr-defined]

    def person(request: Request) -> Person:
        asker = hub.known(request, "jobs")
        if not asker.writes(param(request, "namespace")):
            raise Refusal(403, f"You may not run jobs in the namespace {param(request, 'namespace')}.")
        return asker

    def one(request: Request) -> Run:
        asker = hub.known(request, "jobs")
        run = jobs.runs.get(param(request, "id"))
        if run is None or run.namespace != param(request, "namespace") or not asker.writes(run.namespace):
            raise Refusal(404, "Job not found")
        return run

    async def start(request: Request) -> Response:
        asker = person(request)
        return JSONResponse(info(jobs.start(param(request, "namespace"), asker, parsed(await request.body()))))

    def listed(request: Request) -> Response:
        person(request)
        stages = request.query_params.getlist("stage")
        labels = [label.partition("=")[::2] for label in request.query_params.getlist("label")]
        found = [run for run in reversed(list(jobs.runs.values())) if run.namespace == param(request, "namespace")]
        found = [run for run in found if not stages or run.stage in stages]
        found = [run for run in found if all(run.spec["labels"].get(key) == value for key, value in labels)]
        return paged(hub, request, found, PAGE, info)

    def inspected(request: Request) -> Response:
        return JSONResponse(info(one(request)))

    def cancel(request: Request) -> Response:
        run = one(request)
        run.settle("CANCELED", grace_s=jobs.grace_s)
        return JSONResponse(info(run))

    def hardware(_: Request) -> Response:
        return JSONResponse(list(MACHINES.values()))

    def logs(request: Request) -> Response:
        run, tail = one(request), request.query_params.get("tail")
        return stream(_lines(jobs, run, request, int(tail) if tail else None))

    def metrics(request: Request) -> Response:
        run = one(request)
        if run.over:
            raise Refusal(500, "Internal Error: the job is over")
        return stream(_metrics(jobs, run, request))

    at = "/api/jobs/{namespace}"
    return [
        Route("/api/jobs/hardware", hardware),
        Route(at, start, methods=["POST"]),
        Route(at, listed),
        Route(at + "/{id}", inspected),
        Route(at + "/{id}/cancel", cancel, methods=["POST"]),
        Route(at + "/{id}/logs", logs),
        Route(at + "/{id}/metrics", metrics),
    ]


def stream(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def follow(
    file: Path, ended, request: Request, keep_alive_s: float, tail: int | None = None
) -> AsyncIterator[str]:
    """The events of a growing file of JSON lines, until `ended()`, the reader goes, or nothing is left."""
    at, said = 0, time.monotonic()
    if tail is not None:
        lines = file.read_bytes().splitlines(keepends=True)
        at = sum(map(len, lines[: max(0, len(lines) - tail)]))
    while True:
        last = ended()
        with file.open("rb") as source:
            source.seek(at)
            whole, newline, _ = source.read().rpartition(b"\n")
        if newline:
            at, said = at + len(whole) + 1, time.monotonic()
            yield "".join(f"data: {line}\n\n" for line in whole.decode().split("\n"))
        elif time.monotonic() > said + keep_alive_s:
            said = time.monotonic()
            yield ": keep-alive\n\n"
        if last or await request.is_disconnected():
            return
        await asyncio.sleep(0.03)


def _lines(jobs: Jobs, run: Run, request: Request, tail: int | None) -> AsyncIterator[str]:
    return follow(run.log, lambda: run.gone.is_set() or jobs.close_logs_early, request, jobs.keep_alive_s, tail)


async def _metrics(jobs: Jobs, run: Run, request: Request) -> AsyncIterator[str]:
    """An event a second. As on the Hub, the stream does not end with the job: it only says nothing more."""
    row = MACHINES[run.spec["flavor"]]
    cores, memory = int(row["cpu"].split()[0]), int(row["ram"].split()[0]) * 10**9
    gpu = row["accelerator"]
    many = int(gpu["quantity"]) if gpu else 0
    while not await request.is_disconnected():
        if run.stage == "RUNNING":
            used = list(run.usage())
            each = int(gpu["vram"].split()[0]) // many * 10**9 if gpu else 0
            about = {"utilization": jobs.gpu_percent, "memory_used_bytes": each // 2, "memory_total_bytes": each}
            event = {
                "cpu_usage_pct": int(sum(cpu for cpu, _ in used) / cores), "cpu_millicores": cores * 1000,
                "memory_used_bytes": sum(size for _, size in used), "memory_total_bytes": memory, "rx_bps": 0, "tx_bps": 0,
                "gpus": {f"{index:08x}": about for index in range(many)}, "replica": run.id[:5],
            }  # fmt: skip
            yield f"event: metric\ndata: {json.dumps(event)}\n\n"
        await asyncio.sleep(jobs.metrics_s)
