"""How Spaces run: nothing runs here, but they build after a commit, pause, sleep, and keep variables and secrets.

On demand: `hub.spaces.build_s` is how long a build takes, `hub.spaces.broken[id] = "BUILD_ERROR"` is a stage to stay in, `hub.spaces.sha[id]` the commit that it says it runs, and
`hub.spaces.say(id, line, "run")` writes a line to a log.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import asked, find, iso, parsed, taking, writable
from tests.hub.jobs import follow, stream
from tests.hub.machines import MACHINES
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Repo

APPS = ("app.py", "Dockerfile", "index.html")
NAPS = 48 * 3600  # seconds after which a Space on free hardware sleeps


@dataclass
class Spaces:
    hub: Hub
    build_s: float = 0.2
    broken: dict[str, str] = field(default_factory=dict)
    sha: dict[str, str] = field(default_factory=dict)

    def stage(self, repo: Repo) -> str:
        tree = self.hub.repos.tree(repo, self.hub.repos.resolve(repo, "main"))
        if not set(APPS) & tree.keys():
            return "NO_APP_FILE"
        if repo.more.get("paused"):
            return "PAUSED"
        if repo.id in self.broken:
            return self.broken[repo.id]
        built, naps = self._since(repo) + self.build_s, self._naps(repo)
        if time.time() < built:
            return "BUILDING"
        return "SLEEPING" if naps and time.time() > built + naps else "RUNNING"

    def _naps(self, repo: Repo) -> int | None:
        """Seconds without a visitor, of which there are none here, after which it sleeps."""
        free = (repo.more.get("hardware") or "cpu-basic") == "cpu-basic"
        return repo.more.get("sleepTimeSeconds") or (NAPS if free else None)

    def _since(self, repo: Repo) -> float:
        return max(self.hub.repos.commits("space", repo.id)[0].at, repo.more.get("restarted", 0))

    def runtime(self, repo: Repo) -> dict:
        more, stage = repo.more, self.stage(repo)
        wanted = more.get("hardware") or "cpu-basic"
        about = {"stage": stage, "hardware": {"current": wanted if stage == "RUNNING" else None, "requested": wanted}}
        about |= {
            "gcTimeout": self._naps(repo),
            "storage": None,
            "devMode": more.get("devMode", False),
            "replicas": {"requested": 1},
        }
        about["volumes"] = more.get("volumes") or []
        about |= {"sha": self.sha[repo.id]} if repo.id in self.sha else {}
        return about | ({"errorMessage": "it was told to fail"} if repo.id in self.broken else {})

    def change(self, repo: Repo, **more) -> dict:
        """Set what the Space keeps, and say how it runs now."""
        self.hub.repos.change(repo, more={**repo.more, **more})
        return self.runtime(self.hub.repos.repo("space", repo.id))

    def log(self, repo: Repo, kind: str) -> Path:
        folder = self.hub.folder / "spaces"
        folder.mkdir(exist_ok=True)
        file = folder / f"{repo.key}-{kind}.log"
        if not file.exists():
            file.write_text(
                json.dumps({"data": f"===== {kind} of {repo.id} =====\n", "timestamp": iso(time.time())}) + "\n"
            )
        return file

    def say(self, id: str, line: str, kind: str = "run") -> None:
        with self.log(self.hub.repos.repo("space", id), kind).open("a") as file:
            file.write(json.dumps({"data": line, "timestamp": iso(time.time())}) + "\n")


def _names(repo: Repo, kind: str) -> dict[str, dict]:
    """Variables or secrets by key."""
    return {one["key"]: one for one in repo.more.get(kind) or []}


def _told(known: dict[str, dict], kind: str) -> Response:
    """A secret's value is never told."""
    hidden = {"key"} if kind == "variables" else {"key", "value"}
    return JSONResponse({key: {k: v for k, v in one.items() if k not in hidden} for key, one in known.items()})


def routes(hub: Hub) -> list[Route]:
    if not hasattr(hub, "spaces"):  # routes() may be called again
        hub.spaces = Spaces(hub)  # type: ignore[attr-defined]
    spaces: Spaces = hub.spaces  # type: ignore[attr-defined]

    def runtime(request: Request) -> Response:
        return JSONResponse(spaces.runtime(asked(hub, request, "space")[0]))

    def act(request: Request, body: bytes) -> Response:
        (repo, _), asks = writable(hub, request, "space"), parsed(body)
        flavor = asks.get("flavor", "cpu-basic")
        if flavor not in MACHINES:
            raise Refusal(400, f"Invalid flavor: {flavor}")
        now = time.time()
        changes = {
            "hardware": {"hardware": flavor, "restarted": now} | _if(asks, "sleepTimeSeconds"),
            "sleeptime": {"sleepTimeSeconds": asks.get("seconds")},
            "pause": {"paused": True},
            "restart": {"paused": False, "restarted": now},
            "dev-mode": {"devMode": asks.get("enabled", False)},
        }
        return JSONResponse(spaces.change(repo, **changes[request.url.path.rpartition("/")[2]]))

    def settings(request: Request, body: bytes) -> Response:
        repo, kind, asks = writable(hub, request, "space")[0], request.url.path.rpartition("/")[2], parsed(body)
        known = _names(repo, kind)
        if request.method == "POST":
            known[asks["key"]] = asks | {"updatedAt": iso(time.time())}
        elif request.method == "DELETE":
            known.pop(asks["key"], None)
        if request.method != "GET":
            spaces.change(repo, **{kind: list(known.values())}, restarted=time.time())
        return _told(known, kind)

    def volumes(request: Request, body: bytes) -> Response:
        repo, wanted = writable(hub, request, "space")[0], (parsed(body) if body else {}).get("volumes") or []
        if repo.more.get("sdk") == "static":
            raise Refusal(400, "Volumes are not supported on static Spaces")
        for one in wanted:
            if one["type"] != "bucket":  # nobody mounts what they may not read
                find(hub, request, one["type"], one["source"])
        return JSONResponse(spaces.change(repo, volumes=wanted, restarted=time.time()))

    def hardware(_: Request) -> Response:
        return JSONResponse(list(MACHINES.values()))

    def logs(request: Request) -> Response:
        repo, kind = writable(hub, request, "space")[0], param(request, "kind")
        if kind not in ("build", "run"):
            raise Refusal(404, f"There is no log {kind!r}.")

        def ended() -> bool:
            return kind == "build" and spaces.stage(hub.repos.repo("space", repo.id)) != "BUILDING"

        return stream(follow(spaces.log(repo, kind), ended, request, 30.0))

    at = "/api/spaces/{ns}/{name}"
    acts = ("hardware", "sleeptime", "pause", "restart", "dev-mode")
    return [
        Route("/api/spaces/hardware", hardware),
        Route(f"{at}/runtime", runtime),
        *(Route(f"{at}/{name}", taking(act), methods=["POST"]) for name in acts),
        Route(f"{at}/secrets", taking(settings), methods=["GET", "POST", "DELETE"]),
        Route(f"{at}/variables", taking(settings), methods=["GET", "POST", "DELETE"]),
        Route(f"{at}/volumes", taking(volumes), methods=["PUT", "DELETE"]),
        Route(f"{at}/logs/{{kind}}", logs),
    ]


def _if(asks: dict, name: str) -> dict:
    return {name: asks[name]} if name in asks else {}
