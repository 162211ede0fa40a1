"""A real Chromium for tests, and a port for a server of their own."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, Page, sync_playwright

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def browser_page(width: int, height: int) -> Iterator[tuple[Page, BrowserContext]]:
    """A page of the given size in pixels. The system's Chromium where there is one, else Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        context = browser.new_context(viewport={"width": width, "height": height})
        try:
            yield context.new_page(), context
        finally:
            browser.close()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
