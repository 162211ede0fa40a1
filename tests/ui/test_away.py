"""Nobody looks for a while: a laptop sleeps, the server restarts, every tab is closed, or a tab is hidden and is told. Real Chromium."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from agent.settings import ROOT, Settings
from record import events as e
from tests.ui import story
from tests.ui.conftest import Site, own_settings, served
from tests.ui.test_live import Viewer, seqs
from tests.ui.test_page import hide, leave, ready

CUT = "The connection is cut"
MEANWHILE = 300  # facts that come while nobody looks
KEPT = """
window.asked = [];
const Own = EventSource;
window.EventSource = class extends Own { constructor(url) { super(url); window.asked.push(url); } };
"""
NOTES = """
window.notes = [];
const Own = Notification;
window.Notification = class {
  constructor(title, { body, tag }) { window.notes.push([title, body, tag]); }
  static get permission() { return Own.permission; }
  static requestPermission() { return Own.requestPermission(); }
};
"""


def news(count: int = MEANWHILE) -> list[e.Event]:
    return [e.Said(text=f"message {i}") for i in range(count)]


def everything(page: Page, last: str) -> list[str]:
    """What the transcript says from its first entry to its last, once the last is there."""
    page.locator(".bubble", has_text=last).last.wait_for(state="attached", timeout=20_000)
    page.wait_for_timeout(300)
    if page.locator(".earlier").is_visible():
        page.locator(".earlier").click()
        page.locator(".earlier").wait_for(state="hidden")
    texts = page.evaluate("[...document.querySelectorAll('.bubble')].map(one => one.textContent)")
    return [text for text in texts if text.startswith("message")]


@pytest.fixture
def restarts() -> Iterator["Restarts"]:
    made = Restarts()
    yield made
    made.stop()


class Restarts:
    """A server that can be stopped and started again on the same port."""

    def __init__(self):
        self._running: Iterator[Site] | None = None

    def start(self, settings: Settings) -> Site:
        self._running = served(settings)
        return next(self._running)

    def stop(self) -> None:
        if self._running:
            next(self._running, None)
        self._running = None


def test_a_laptop_that_slept_gets_everything_once_and_in_order(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(site.url)
    page.add_init_script(KEPT)
    page.goto(f"{site.url}/?session={name}")
    ready(page)
    past = len(log)
    page.context.set_offline(True)
    page.get_by_text(CUT).wait_for()
    log.append(*news())
    page.wait_for_timeout(2500)  # it tries again each second, and is refused
    assert page.locator(".bubble", has_text="message").count() == 0
    page.context.set_offline(False)
    assert everything(page, f"message {MEANWHILE - 1}") == [f"message {i}" for i in range(MEANWHILE)]
    assert page.get_by_text(CUT).is_hidden()
    assert page.evaluate("window.asked.at(-1)").endswith(f"after={past}"), "it asks for what it has not seen"
    log.append(e.Said(text="message 300"))
    page.locator(".bubble", has_text="message 300").wait_for()


def test_a_hidden_tab_comes_back_after_hundreds_of_facts(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    leave(site, page, name)
    log.append(*news())
    hide(page, False)
    assert everything(page, f"message {MEANWHILE - 1}") == [f"message {i}" for i in range(MEANWHILE)]


def test_a_server_that_restarted_meanwhile_goes_on_where_the_viewer_was(restarts: Restarts, visit, tmp_path: Path):
    settings = own_settings(tmp_path)
    site = restarts.start(settings)
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    past = len(log)
    log.append(e.Said(text="message 0"))
    page.locator(".bubble", has_text="message 0").wait_for()
    restarts.stop()
    page.get_by_text(CUT).wait_for()
    log.append(*news()[1:])
    page.wait_for_timeout(1200)
    assert restarts.start(settings).url == site.url
    assert everything(page, f"message {MEANWHILE - 1}") == [f"message {i}" for i in range(MEANWHILE)]
    assert page.get_by_text(CUT).is_hidden()
    with Viewer(site.url, name, last_seen=past + 1) as viewer:  # as a browser's own reconnect would ask
        assert seqs(viewer.wait(MEANWHILE - 1)) == list(range(past + 2, past + MEANWHILE + 1))


@pytest.mark.slow
def test_a_log_that_was_broken_for_a_while_is_followed_again(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b'{"kind": "nonsense"}\n')
    page.get_by_text("is not a fact").wait_for()
    page.wait_for_timeout(4500)  # it has tried once more, and is told the same
    trouble = page.get_by_text("is not a fact")
    assert trouble.is_visible() and trouble.evaluate("one => one.scrollWidth <= one.clientWidth")
    log.path.write_bytes(whole)
    log.append(e.Said(text="message 0"))
    page.locator(".bubble", has_text="message 0").wait_for()
    trouble.wait_for(state="hidden")


def test_a_job_that_ran_with_every_tab_closed_is_there_as_a_whole(site: Site, visit):
    name, log = site.session(lambda session: story.beginning(session)[:-1])
    page = visit(f"{site.url}/?session={name}")
    page.locator(".feed .verdict").first.wait_for()
    page.close()
    code = (
        "import sys; from pathlib import Path; from record.log import Log; from record.events import Queued, Ended\n"
        "from tests.ui import story\n"
        "log = Log(Path(sys.argv[1]))\n"
        "log.append(story.launched('sft-3'), Queued(job='sft-3', place=0))\n"
        "for point in story.points('sft-3', 4.0): log.append(point)\n"
        "log.append(Ended(job='sft-3', state='done', seconds=33.0), story.score('sft-3', 'dev', 0.7))"
    )
    subprocess.run([sys.executable, "-c", code, str(log.path)], cwd=ROOT, check=True, timeout=30)
    gone = time.monotonic() + 10  # a server sees a closed tab when it next writes to it
    while name in site.app.state.live.watched and time.monotonic() < gone:
        time.sleep(0.05)
    assert name not in site.app.state.live.watched, "nobody looks"
    page = visit(f"{site.url}/?session={name}")
    row = page.locator(".job-row", has_text="sft-3")
    row.wait_for()
    assert row.locator(".row-end").inner_text() == "33 s"
    page.locator(".legend-run", has_text="sft-3").wait_for()
    last = 4.0 / (1 + 60 / 8)  # the loss of step 60
    assert page.locator(".legend-run", has_text="sft-3").inner_text().endswith(f"{last:.4g}")
    assert page.locator(".row.scored", has_text="sft-3 on dev").count() == 1
    page.get_by_role("tab", name="Jobs").click()
    card = page.get_by_role("region", name="sft-3").inner_text()
    assert "Done" in card and "60 of 60" in card and "33 s" in card


def test_a_hidden_tab_is_told_once_that_it_is_needed_and_once_of_the_end(site: Site, visit):
    name, log = site.session(lambda session: story.beginning(session)[:-1])
    page = visit(site.url)
    page.context.grant_permissions(["notifications"], origin=site.url)
    page.add_init_script(NOTES)
    page.clock.install()
    page.goto(f"{site.url}/?session={name}")
    page.locator(".feed .verdict").first.wait_for()
    page.get_by_role("button", name="more about this session").click()
    page.get_by_role("menuitemcheckbox", name="Notify me").click()
    asked = story.beginning(name)[-1]

    def later() -> list:
        for _ in range(3):  # the tab looks every 10 s
            page.clock.fast_forward(10_500)
            page.wait_for_timeout(250)
        return page.evaluate("window.notes")

    log.append(e.Said(text="still seen"))
    page.locator(".bubble", has_text="still seen").wait_for()
    assert later() == [], "whoever looks at the page sees it"
    hide(page, True)
    page.wait_for_timeout(250)
    log.append(asked)
    title = "Teach the starter model chains of sums."
    needed = [title, "Waiting for you", name]
    assert later() == [needed]
    log.append(e.Decided(call="c9", allow=True))
    assert later() == [needed]
    log.append(e.Replied(text="All is done.", model="autopilot"), e.Closed(outcome="done", reason="ok"))
    assert later() == [needed, [title, "Done", name]]
    hide(page, False)
    page.locator(".feed .ending").wait_for()
    assert later() == [needed, [title, "Done", name]]


def test_a_browser_that_allows_no_notifications_says_so(site: Site, visit):
    name, _ = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.context.clear_permissions()
    page.get_by_role("button", name="more about this session").click()
    page.get_by_role("menuitemcheckbox", name="Notify me").click()
    page.get_by_role("alert").get_by_text("The browser does not allow notifications here").wait_for()
    page.get_by_role("button", name="more about this session").click()
    assert page.get_by_role("menuitemcheckbox", name="Notify me").get_attribute("aria-checked") == "false"
