"""What must not pass: other sites, other machines, other files; and on a public Space, any change."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from record.events import Noted
from tests.ui import story
from tests.ui.conftest import Site

POSTS = ("/api/sessions", "/api/demo", "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/run/predict")


def test_the_mounted_page_counts_as_launched(site: Site):
    assert site.app.state.page.has_launched is True


def test_gradio_serves_no_file_of_the_machine(site: Site, http: httpx.Client):
    for path in ("/etc/passwd", "/proc/self/environ", str(site.settings.home)):
        for address in (f"/gradio_api/file={path}", f"/gradio_api/file/{path}", f"/file={path}"):
            answer = http.get(address)
            assert answer.status_code >= 400 and "root:" not in answer.text, address
    named = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for address in (
        "/gradio_api/queue/join",
        "/gradio_api/run/predict",
        "/gradio_api/component_server",
        "/gradio_api/upload",
    ):
        answer = http.post(
            address, json={"fn_index": 0, "fn_name": "load", "component_id": 1, "data": [named], "session_hash": "x"}
        )
        assert answer.status_code == 405, address


def test_there_is_no_gradio_component_that_takes_a_file(site: Site):
    config = site.app.state.page.get_config_file()
    assert {c["type"] for c in config["components"]} <= {"html", "column", "row"}
    assert config["dependencies"] == []


def test_another_origin_gets_no_preflight_and_no_post(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    before = len(log)
    evil = {"origin": "https://evil.example"}
    preflight = http.options(f"/api/sessions/{name}/say", headers=evil | {"access-control-request-method": "POST"})
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert (
            http.post(f"/api/sessions/{name}/say", json={"text": "hi"}, headers={"origin": origin}).status_code == 403
        )
    own = http.post(f"/api/sessions/{name}/say", json={"text": "hi"}, headers={"origin": site.url})
    assert own.is_success
    log.refresh()
    assert len(log) == before + 1
    answer = http.get("/gradio_api/info", headers=evil)
    assert "access-control-allow-origin" not in answer.headers


def test_a_form_of_another_site_is_no_json(site: Site, http: httpx.Client):
    name, _ = site.session(story.beginning)
    answer = http.post(f"/api/sessions/{name}/say", content='{"text": "hi"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_name_that_resolves_to_this_machine_is_not_this_machine(http: httpx.Client):
    answer = http.get("/api/sessions", headers={"host": "evil.example:7860"})
    assert answer.status_code == 421 and "error" in answer.json()


@pytest.mark.parametrize("host", ["[", "127.0.0.1]", "[::1", ""])
def test_a_host_or_an_origin_that_is_none_is_refused(site: Site, space: Site, http: httpx.Client, host: str):
    for one in (site, space):
        answer = httpx.get(f"{one.url}/api/health", headers={"host": host})
        assert answer.status_code in ((421, 400) if host else (421,)), answer.text
    name, log = site.session(story.beginning)
    before = len(log)
    answer = http.post(f"/api/sessions/{name}/say", json={"text": "x"}, headers={"origin": f"http://{host}"})
    assert answer.status_code == 403
    log.refresh()
    assert len(log) == before


@pytest.mark.parametrize("path", POSTS)
def test_a_public_space_is_read_only(space: Site, path: str):
    answer = httpx.post(f"{space.url}{path}", json={})
    assert answer.status_code == 403
    assert "read-only" in answer.json()["error"]


def test_on_a_public_space_nobody_sees_or_steers_a_session(space: Site):
    name, log = space.session(story.beginning)
    before = len(log)
    for verb in ("say", "stop", "decide"):
        assert httpx.post(f"{space.url}/api/sessions/{name}/{verb}", json={"text": "x"}).status_code == 403
    assert httpx.get(f"{space.url}/api/sessions").json() == []
    for path in (
        "",
        "/events",
        "/log",
        "/report",
        "/files",
        "/jobs/sft-1/log",
        "/files/report.md",
        "/download/report.md",
    ):
        assert httpx.get(f"{space.url}/api/sessions/{name}{path}").status_code == 404, path
    log.refresh()
    assert len(log) == before


def test_every_answer_has_the_security_headers(http: httpx.Client):
    for path in ("/", "/api/health", "/config"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]


def test_assets_stay_in_their_folder(site: Site, http: httpx.Client):
    from ui.server import version

    base = f"/assets/{version()}"
    script = http.get(f"{base}/main.js")
    assert script.is_success and "immutable" in script.headers["cache-control"]
    for path in ("..%2fapi.py", "%2e%2e/api.py", "vendor/..%2f..%2fapi.py", "..%2f..%2fapp.py"):
        assert http.get(f"{base}/{path}").status_code in (400, 404)


def test_gradio_refuses_a_path_that_nobody_uploaded(site: Site):
    """What a component with a file would do with it; on a mounted page that is not "launched" this copies /etc/passwd."""
    from gradio.context import LocalContext
    from gradio.exceptions import InvalidPathError
    from gradio.processing_utils import async_move_files_to_cache

    blocks = site.app.state.page

    async def moved():
        LocalContext.blocks.set(blocks)
        named = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
        component = next(b for b in blocks.blocks.values() if b.get_block_name() == "html")
        await async_move_files_to_cache(named, component, check_in_upload_folder=True)

    with ThreadPoolExecutor(1) as aside, pytest.raises(InvalidPathError):  # the browser's loop runs in this thread
        aside.submit(asyncio.run, moved()).result()


def test_a_request_that_is_too_large_is_refused_with_and_without_its_length(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    before = len(log)
    told = http.post(f"/api/sessions/{name}/say", json={"text": "x" * 3 * 2**20})
    assert told.status_code == 413 and "2 MiB" in told.json()["error"]

    def endless():
        yield b'{"text": "'
        for _ in range(48):
            yield b"x" * 2**16
        yield b'"}'

    with suppress(httpx.HTTPError):  # the server may cut it
        untold = http.post(f"/api/sessions/{name}/say", content=endless(), headers={"content-type": "application/json"})
        assert not untold.is_success
    log.refresh()
    assert len(log) == before and http.get("/api/health").is_success


def test_viewers_that_never_read_hold_up_nobody(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    log.append(*[Noted(topic="t", text="x" * 2000) for _ in range(1500)])  # 3 MB: more than any buffer on the way
    port = site.settings.port
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    for door in stalled[:30]:
        door.sendall(f"GET /api/sessions/{name}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    for door in stalled[30:]:
        door.sendall(b"GET /api/sessions HTTP/1.1\r\nHost: 127.")  # and these never finish asking
    with http.stream("GET", f"/api/sessions/{name}/events?after={len(log) - 1}") as fresh:
        assert any(f'"seq":{len(log)}' in line for line in _until_data(fresh))
    for door in stalled:
        door.close()


def _until_data(stream: httpx.Response):
    for line in stream.iter_lines():
        yield line
        if line.startswith("data:"):
            return
