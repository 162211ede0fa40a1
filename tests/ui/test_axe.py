"""WCAG 2.1 A and AA by axe-core: every view of the page, in both themes, on a desk and on a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from record.events import Closed
from tests.ui import story
from tests.ui.conftest import SHOTS, Site

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
LOOKS = [(theme, width, height) for theme in ("light", "dark") for width, height in ((1440, 900), (390, 844))]


def clean(page: Page, what: str) -> None:
    """No violation. Moving parts are given their end first: a fade in the middle has no contrast."""
    page.evaluate(
        "Promise.all(document.getAnimations().filter(a => a.effect.getComputedTiming().iterations < 9).map(a => a.finished))"
    )
    found = Axe().run(page, options=RULES).response["violations"]
    assert [(v["id"], [node["html"][:160] for node in v["nodes"]]) for v in found] == [], what


@pytest.mark.parametrize(("theme", "width", "height"), LOOKS)
def test_nothing_on_the_page_violates_wcag(site: Site, visit, theme: str, width: int, height: int):
    name, _ = site.session(story.beginning)
    page = visit(f"{site.url}/?__theme={theme}", width, height)
    page.locator(".recorded a").first.wait_for()
    page.locator(".firstrun summary").click()
    clean(page, "start")
    page.screenshot(path=SHOTS / f"axe_start_{theme}_{width}.png")
    page.get_by_role("button", name="New session").click()
    clean(page, "new session")
    page.goto(f"{site.url}/?session={name}&__theme={theme}")
    page.locator(".ask").first.wait_for()
    page.locator(".ask-settings summary").click()
    clean(page, "session")
    for label, item in (("rename", "Rename"), ("terms", "Caps"), ("share", "Share")):
        page.get_by_role("button", name="more about this session").click()
        clean(page, "menu") if label == "rename" else None
        page.get_by_role("menuitem", name=item).click()
        clean(page, label)
        page.keyboard.press("Escape")
    if width < 500:
        page.get_by_role("button", name="Work").click()
    for tab in page.get_by_role("tab").all():
        tab.click()
        clean(page, f"tab {tab.inner_text()}")
    page.get_by_role("button", name="sessions", exact=True).click()
    page.locator(".session").first.wait_for()
    clean(page, "drawer")


@pytest.mark.parametrize(("theme", "width", "height"), LOOKS)
def test_an_ended_session_and_its_replay_violate_nothing(site: Site, visit, theme: str, width: int, height: int):
    name, log = site.session(lambda name: [*story.beginning(name), *story.ending()])
    log.append(Closed(outcome="provider_failed", reason="the key is refused; check it"))
    page = visit(f"{site.url}/?session={name}&__theme={theme}", width, height)
    page.locator(".notice button").wait_for()
    clean(page, "ended")
    page.goto(f"{site.url}/?replay=demo-chains&__theme={theme}&speed=max")
    page.locator(".ending").first.wait_for()
    clean(page, "replay")
    page.screenshot(path=SHOTS / f"axe_replay_{theme}_{width}.png")


def test_the_check_itself_finds_what_is_wrong(site: Site, visit):
    page = visit(site.url)
    page.evaluate("document.querySelector('.hero').append(document.createElement('button'))")
    with pytest.raises(AssertionError, match="button-name"):
        clean(page, "a button without a name")
