"""Trackio's dashboard at /trackio, for reading only: the first visit starts its process, and we pass on what we know.

What is passed on is listed, not what is held back, so that a new route of Trackio's is closed until somebody looks at
it. Left out on purpose: everything that writes; `query_project`, which takes SQL; registries, which ask the Hub; and
`/file`, which serves what a trainer wrote under a type that its name chooses.
"""

import hashlib
import re
import socket
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
        self._folder = tempfile.TemporaryDirectory(prefix="ml-intern-")  # 0700, and a path short enough for a socket
        self._path = Path(self._folder.name, "trackio")
        transport = httpx.AsyncHTTPTransport(uds=str(self._path))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://trackio", timeout=60)
        self._process: subprocess.Popen | None = None

    async def ask(self, method: str, path: str, query: str, body: bytes | None = None) -> httpx.Response:
        """Its answer. Raises HTTPException 503 when it cannot be started, or stops answering."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            return await self._client.request(method, f"{PREFIX}/{quote(path)}?{query}", content=body, headers=headers)
        except httpx.HTTPError as error:
            raise HTTPException(503, "Trackio's dashboard does not answer; try again.") from error

    def _start(self) -> None:
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as door:  # who comes before it answers waits
            door.bind(str(self._path))
            door.listen()
            at = door.fileno()
            command = [sys.executable, "-m", "ui.trackio_process", str(at)]
            self._process = subprocess.Popen(command, env=self._env, cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[at])


def mount_trackio(app: FastAPI, settings: Settings) -> None:
    """Trackio under /trackio; not on a public Space, where its one database would show every project to everybody."""
    if settings.space is not None:
        return
    dashboard = Dashboard(settings)

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
        hashes = [hashlib.sha256(script.encode()).digest() for script in INLINE.findall(answer.text)]
        own = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in hashes)
        headers["content-security-policy"] = (
            f"default-src 'self'; script-src 'self' 'unsafe-eval' {own}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'self'"
        )
    elif answer.url.path.startswith(f"{PREFIX}/assets/"):
        headers["cache-control"] = "public, max-age=86400"  # their names hold a hash
    return Response(answer.content, answer.status_code, headers, media_type=kind)
