"""A real server on a free port, and a real Chromium."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page

from agent import settings as env
from agent.settings import Settings
from record.events import Event
from record.log import Log
from tests.conftest import free_port

SHOTS = Path(__file__).parent.parent / "shots"
OWN = re.compile(
    r"status of 422|status of 404 .* http\S+/api/(sessions|replays)/|^Failed to load resource: net::ERR_|404 .*/favicon.ico$"
)


@dataclass
class Site:
    """A running page and the folder of its sessions."""

    settings: Settings
    url: str
    app: object
    made: int = 0

    def session(self, facts: Callable[[str], list[Event]]) -> tuple[str, Log]:
        """A session whose log begins with these facts."""
        self.made += 1
        name = f"20260101-0000{self.made:02d}-story"
        folder = self.settings.sessions / name
        (folder / "workspace").mkdir(parents=True)
        log = Log(folder / "events.jsonl")
        log.append(*facts(name))
        return name, log


def served(settings: Settings) -> Iterator[Site]:
    env.quiet_libraries()
    from ui.server import build_app  # Gradio reads what the line above sets

    app = build_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    yield Site(settings, f"http://127.0.0.1:{settings.port}", app)
    server.should_exit = True
    thread.join(timeout=5)


def own_settings(home: Path) -> Settings:
    environ = {name: value for name, value in os.environ.items() if name not in (*env.KEY_NAMES, "SPACE_ID")}
    made = env.read(environ | {"ML_INTERN_HOME": str(home), "ML_INTERN_PORT": str(free_port())})
    return replace(made, keys={}, host="127.0.0.1")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from served(own_settings(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same as a public Space."""
    yield from served(replace(own_settings(tmp_path_factory.mktemp("space")), space="ada/ml-intern"))


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, timeout=10) as client:
        yield client


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address in a fresh browser profile. After the test: nothing was written to the console as an error."""
    contexts, troubles = [], []

    def go(address: str, width: int = 1440, height: int = 900) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(12_000)
        contexts.append(context)
        page = context.new_page()
        # Chromium itself logs a refusal or a cut; the page shows a sentence for each
        page.on(
            "console", lambda m: troubles.append(_said(m)) if m.type == "error" and not OWN.search(_said(m)) else None
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-ready]", timeout=20_000)
        return page

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


def _said(message: ConsoleMessage) -> str:
    return f"{message.text} {message.location.get('url', '')}"
