"""Trackio's own dashboard under /trackio, on a real database: it shows the curves, and lets nobody change anything."""

import re
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
import pytest

from agent.settings import ROOT
from tests.ui import story
from tests.ui.conftest import SHOTS, Site

LOGGED = """
import sys, trackio
trackio.init(project=sys.argv[1], name=sys.argv[2], auto_log_gpu=False)
for step in range(20): trackio.log({"loss": 3 / (1 + step)}, step=step)
trackio.finish()
"""
PARENT = """
import socket, subprocess, sys, time
door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1])
door.listen()
command = [sys.executable, "-m", "ui.trackio_process", str(door.fileno())]
child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[door.fileno()])
print(child.pid, flush=True)
time.sleep(60)
"""
WRITES = ("bulk_log", "delete_run", "rename_run", "log", "force_sync", "upload", "bulk_upload_media")
CLOSED = ("query_project", "get_registries", "get_registry_buckets", "get_registry_details", "no_such_thing")


@pytest.fixture(scope="module")
def project(site: Site) -> str:
    """A session with a run that a real trainer's process logged, as sft.py does."""
    name, _ = site.session(story.beginning)
    command = [sys.executable, "-c", LOGGED, name, f"sft-1 {story.MARKUP}"]
    subprocess.run(command, env=site.settings.job_env, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return name


def missed(address: str) -> bool:
    """What it looks for and may miss: its logo at the root before it knows better, and the settings of an exported copy."""
    return "_logo_" in address or address.endswith("/config.json")


def test_the_dashboard_shows_the_runs_of_a_session(site: Site, project: str, browser):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "console", lambda m: troubles.append(m.text) if m.type == "error" and not missed(m.location["url"]) else None
    )
    page.goto(f"{site.url}/trackio/?project={project}")
    page.locator("canvas, svg.marks").first.wait_for(timeout=30_000)
    page.wait_for_timeout(1000)
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / "trackio.png")
    shown, hacked = page.locator("body").inner_text(), page.evaluate("window.hacked")
    page.close()
    assert troubles == []
    assert hacked is None and "sft-1" in shown


def test_it_reads_and_never_writes(project: str, http: httpx.Client):
    runs = http.post("/trackio/api/get_runs_for_project", json={"project": project}).json()["data"]
    assert len(runs) == 1
    for name in WRITES + CLOSED:
        answer = http.post(f"/trackio/api/{name}", json={"project": project, "run": runs[0]["name"]})
        assert answer.status_code == 403, name
    assert http.post("/trackio/api/get_run_mutation_status", json={}).json()["data"]["allowed"] is False
    assert http.post("/trackio/api/get_runs_for_project", json={"project": project}).json()["data"] == runs


def test_it_serves_no_file_of_the_machine(site: Site, project: str, http: httpx.Client):
    (site.settings.home / "trackio" / "media").mkdir(parents=True, exist_ok=True)
    media = site.settings.home / "trackio" / "media" / "x.html"
    media.write_text("<script>window.hacked=1</script>")
    for path in (
        f"file?path={media}",
        "file?path=/etc/passwd",
        "artifact_blob/a/b",
        "oauth/hf/start",
        "..%2fapi/health",
        "assets/..%2f..%2fx",
    ):
        answer = http.get(f"/trackio/{path}")
        assert "hacked" not in answer.text and "root:" not in answer.text, path
        assert answer.status_code in (404, 405), path


@pytest.mark.parametrize(
    "path",
    [
        "assets/../file",
        "assets/%2e%2e/file",
        "assets/..%2ffile",
        "assets/%2e%2e%2ffile",
        "assets/..%5cfile",
        "assets/.%2f../file",
        "assets/%252e%252e%252ffile",
        "assets/..%252ffile",
        "static/trackio/..%2f..%2ffile",
        "static/trackio/../../file",
        "assets/..%2foauth/hf/start",
        "assets/x%3f/../../file",
    ],
)
def test_no_spelling_of_a_path_leads_out_of_what_is_shown(site: Site, project: str, path: str):
    media = site.settings.home / "trackio" / "media" / "y.html"
    media.parent.mkdir(parents=True, exist_ok=True)
    media.write_text("<script>window.hacked=1</script>")
    wire = HTTPConnection("127.0.0.1", site.settings.port, timeout=60)  # httpx would tidy the path before it is sent
    wire.putrequest("GET", f"/trackio/{path}?path={media}")
    wire.endheaders()
    answer = wire.getresponse()
    text = answer.read().decode()
    wire.close()
    assert (answer.status, answer.getheader("location")) == (404, None)
    assert "hacked" not in text and "sha256-" not in answer.getheader("content-security-policy", "")


def test_markup_comes_from_the_pages_alone(project: str, http: httpx.Client):
    assert http.get("/trackio/runs").headers["content-type"].startswith("text/html")
    for path in ("assets/", "assets/no-such-file.html", "static/trackio/", "static/trackio/no-such-file"):
        answer = http.get(f"/trackio/{path}")
        assert answer.status_code == 404 and "html" not in answer.headers["content-type"], path
    page = http.get("/trackio/").text
    for asset in re.findall(r'/trackio/(assets/[^"]+)', page) or re.findall(r'(assets/[^"]+)', page):
        assert http.get(f"/trackio/{asset}").is_success, asset


def test_only_our_own_page_may_ask(project: str, http: httpx.Client):
    path, question = "/trackio/api/get_all_projects", {"project": project}
    assert http.post(path, json=question, headers={"origin": "https://evil.example"}).status_code == 403
    assert http.post(path, content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert http.post("/trackio/login", json={}).status_code == 405
    policy = http.get("/trackio/").headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-eval' 'sha256-" in policy and "unsafe-inline" not in policy.split("style-src")[0]


def test_its_process_has_no_keys_and_ends_with_ours(site: Site, project: str, http: httpx.Client, tmp_path: Path):
    http.get("/trackio/version").raise_for_status()
    child = next(c for c in psutil.Process().children() if "ui.trackio_process" in c.cmdline())
    assert not [name for name in child.environ() if name.endswith(("_KEY", "_TOKEN", "_SECRET"))]
    command = [sys.executable, "-c", PARENT, str(tmp_path / "socket")]
    parent = subprocess.Popen(command, env=site.settings.job_env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    orphan = psutil.Process(int(parent.stdout.readline()))
    way = httpx.HTTPTransport(uds=str(tmp_path / "socket"))
    with httpx.Client(transport=way, base_url="http://trackio", timeout=30) as client:
        client.get("/trackio/version").raise_for_status()
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([orphan], timeout=15)[1] == []


def test_a_public_space_has_no_dashboard(space: Site):
    answer = httpx.get(f"{space.url}/trackio/")
    assert "Trackio Dashboard" not in answer.text
    assert httpx.post(f"{space.url}/trackio/api/get_all_projects", json={}).status_code == 403
