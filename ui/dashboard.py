"""Trackio's dashboard at /trackio, for reading only: the first visit starts its process, and we pass on what we know.

What is passed on is listed, not what is held back, so that a new route of Trackio's is closed until somebody looks at
it. Left out on purpose: everything that writes; `query_project`, which takes SQL; registries, which ask the Hub; and
`/file`, which serves what a trainer wrote under a type that its name chooses.
"""

import asyncio
import hashlib
import re
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import httpx
from fastapi import FastAPI, HTTPException
from fastapi import Request as Http
from fastapi.responses import Response

from agent.settings import ROOT, Settings
from ui.trackio_process import PREFIX

PATIENCE = 30.0  # seconds until its process answers; it needs about 3
LARGEST = 2**20  # bytes of a question to it
READS = (
    "get_alerts", "get_all_projects", "get_artifact_consumers", "get_artifact_lineage", "get_artifact_manifest",
    "get_logs", "get_logs_batch", "get_metric_values", "get_metrics_for_run", "get_project_summary",
    "get_project_files", "get_run_artifact_counts", "get_run_artifacts", "get_run_configs", "get_run_mutation_status",
    "get_run_summary", "get_runs_for_project", "get_settings", "get_snapshot", "get_system_logs",
    "get_system_logs_batch", "get_system_metrics_for_run", "get_tab_availability", "get_trace_steps", "get_traces",
    "list_artifacts",
)  # fmt: skip
FILES = ("assets/", "static/trackio/")
PAGES = (  # its views are one page under several names; the last is asked for every few seconds
    "", "traces", "system", "media", "reports", "runs", "run", "files", "artifacts", "settings", "version",
    "__trackio/frontend_version",
)  # fmt: skip
NOT_SHOWN = "This part of Trackio is not shown here."
INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
LOGOS = {
    f"TRACKIO_LOGO_{theme.upper()}_URL": f"{PREFIX}/static/trackio/trackio_logo_type_{theme}_transparent.png"
    for theme in ("light", "dark")
}


class Dashboard:
    """The process and the way to it."""

    def __init__(self, settings: Settings):
        # no keys are in a job's environment, and offline it asks nobody for anything
        self._env = settings.job_env | LOGOS | {"HF_HUB_OFFLINE": "1"}
        self._process: subprocess.Popen | None = None
        self._folder: tempfile.TemporaryDirectory | None = None
        self._client: httpx.AsyncClient | None = None
        self._starting = asyncio.Lock()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def ask(self, method: str, path: str, query: str, body: bytes | None = None) -> httpx.Response:
        """Its answer. Raises HTTPException 503 when it cannot be started, or stops answering."""
        client = await self._ready()
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            return await client.request(method, f"{PREFIX}/{quote(path)}?{query}", content=body, headers=headers)
        except httpx.HTTPError as error:
            raise HTTPException(503, "Trackio's dashboard does not answer; try again.") from error

    async def _ready(self) -> httpx.AsyncClient:
        async with self._starting:
            if not self.running or self._client is None:
                self._client = await self._start()
            return self._client

    async def _start(self) -> httpx.AsyncClient:
        self._folder = tempfile.TemporaryDirectory(prefix="ml-intern-")  # 0700, and a path short enough for a socket
        socket = Path(self._folder.name, "trackio")
        command = [sys.executable, "-m", "ui.trackio_process", str(socket)]
        self._process = subprocess.Popen(command, env=self._env, cwd=ROOT, stdin=subprocess.PIPE)
        for _ in range(int(PATIENCE / 0.1)):
            await asyncio.sleep(0.1)
            if socket.exists() or not self.running:
                break
        if not (socket.exists() and self.running):
            self._process.kill()
            raise HTTPException(503, "Trackio's dashboard could not be started; see what the server printed.")
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        return httpx.AsyncClient(transport=transport, base_url="http://trackio", timeout=60)


def mount_trackio(app: FastAPI, settings: Settings) -> None:
    """Trackio under /trackio; not on a public Space, where its one database would show every project to everybody."""
    if settings.space is not None:
        return
    dashboard = app.state.trackio = Dashboard(settings)

    @app.get(PREFIX, include_in_schema=False)
    @app.get(PREFIX + "/{path:path}", include_in_schema=False)
    async def look(http: Http, path: str = "") -> Response:
        if not (path in PAGES or _is_file(path)):
            raise HTTPException(404, NOT_SHOWN)
        return _passed_on(await dashboard.ask("GET", path, http.url.query), path in PAGES)

    @app.post(PREFIX + "/api/{name}", include_in_schema=False)
    async def read(http: Http, name: str) -> Response:
        if name not in READS:
            raise HTTPException(403, "Here Trackio is for reading only.")
        if int(http.headers.get("content-length", LARGEST + 1)) > LARGEST:
            raise HTTPException(413, "The question is too long.")
        return _passed_on(await dashboard.ask("POST", f"api/{name}", "", await http.body()))


def _is_file(path: str) -> bool:
    """Whether a path, as the server decoded it, is below FILES whoever reads it: httpx takes dot segments out."""
    return path.startswith(FILES) and not (set(path) & set("%\\") or {".", ".."} & set(path.split("/")))


def _passed_on(answer: httpx.Response, page: bool = False) -> Response:
    """Status, type and body; and for a page a policy under which only its own scripts run, whatever a run's name holds.
    Markup from anywhere but a page of PAGES is not passed on: HTTPException 404.

    Its charts (Vega) compile their expressions, so that it needs 'unsafe-eval'; markup that got in would still not run.
    """
    kind = answer.headers.get("content-type", "application/octet-stream")
    headers = {"cache-control": "no-store"}
    if "html" in kind.lower():
        if not page:
            raise HTTPException(404, NOT_SHOWN)
        own = " ".join(f"'sha256-{_hash(script)}'" for script in INLINE.findall(answer.text))
        headers["content-security-policy"] = (
            f"default-src 'self'; script-src 'self' 'unsafe-eval' {own}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'self'"
        )
    elif answer.url.path.startswith(f"{PREFIX}/assets/"):
        headers["cache-control"] = "public, max-age=86400"  # their names hold a hash
    return Response(answer.content, answer.status_code, headers, media_type=kind)


def _hash(script: str) -> str:
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()
