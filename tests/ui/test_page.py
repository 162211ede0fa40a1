"""The page in a real Chromium, on hand-appended facts. Screenshots go to tests/shots/ for a person to look at."""

import re
import typing

import pytest

from agent.sessions import DEMO
from record.events import Event, Published, Replied, Said
from tests.ui import story
from tests.ui.conftest import SHOTS, Site
from tests.ui.wire import Wire
from ui.server import STATIC


def ready(page, text: str = "Approve"):
    page.get_by_text(text).first.wait_for(timeout=8000)
    page.wait_for_timeout(250)


def colours(page) -> int:
    """How many different colours the curve's canvas shows: an empty one has one."""
    return page.evaluate(
        """() => { const c = document.querySelector('.plot canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const seen = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) seen.add(`${d[i]},${d[i+1]},${d[i+2]}`); return seen.size; }"""
    )


def messages(page) -> list[str]:
    return [text for text in page.locator(".bubble").all_inner_texts() if text.startswith("message")]


def hide(page, hidden: bool) -> None:
    """What a browser tells a page when its tab goes to the back, or comes to the front."""
    page.evaluate(
        """hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange')); }""",
        hidden,
    )


def leave(site: Site, page, name: str) -> None:
    """The tab goes to the back, and its page lets go of its connection."""
    hide(page, True)
    page.wait_for_timeout(300)
    assert site.app.state.live.watched.get(name, 0) == 0


def test_every_kind_of_fact_has_a_reader_on_the_page():
    kinds = {kind.model_fields["kind"].default for kind in typing.get_args(Event)}
    feed = (STATIC / "feed.js").read_text()
    readers = feed[feed.index("const READERS = {") : feed.index("\n};\n", feed.index("const READERS"))]
    assert set(re.findall(r"^  (\w+): \(", readers, re.MULTILINE)) == kinds


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_a_session_is_drawn(site: Site, visit, theme: str, width: int, height: int):
    name, _ = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}&__theme={theme}", width, height)
    ready(page)
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"session_{theme}_{width}.png")
    if width < 500:
        page.get_by_role("button", name="Work").click()
        page.wait_for_timeout(200)
        page.screenshot(path=SHOTS / f"work_{theme}_{width}.png")
    assert colours(page) > 3
    assert page.locator(".legend").inner_text().split("\n")[:2] == ["sft-1", "nan"]
    assert page.locator(".tiles").inner_text().startswith("Best on dev\n0.620")
    assert page.locator("body").evaluate("b => b.scrollWidth <= innerWidth && b.scrollHeight <= innerHeight")
    assert page.locator(".driver").text_content() == "Autopilot: a fixed policy, no LLM"


def test_new_facts_arrive_and_a_reload_shows_the_same(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    log.append(*story.ending())
    ready(page, "stopped by the person")
    page.locator(".findings", has_text="has not moved").wait_for()  # the last panel that is drawn
    feed, work = page.locator(".feed").inner_text(), page.locator(".pane").first.inner_text()
    page.reload()
    ready(page, "stopped by the person")
    page.locator(".findings", has_text="has not moved").wait_for()
    assert page.locator(".feed").inner_text() == feed
    assert page.locator(".pane").first.inner_text() == work


def test_markup_in_facts_is_text(site: Site, visit):
    name, log = site.session(story.beginning)
    log.append(
        Said(text=story.MARKUP),
        Replied(text=f"## {story.MARKUP}\n- [x](javascript:alert(1)) {story.MARKUP}", thought=story.MARKUP, model="m"),
        Published(what="report", where="report.md"),
    )
    (log.path.parent / "report.md").write_text(
        f"# {story.MARKUP}\n\n| a |\n|---|\n| {story.MARKUP} |\n\n```\n{story.MARKUP}\n```\n"
    )
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.get_by_role("tab", name="Report").click()
    page.locator(".report").wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator(".ml-view :is(img, script)").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0
    assert "<img src=x" in page.locator(".feed").inner_text() and "<img src=x" in page.locator(".report").inner_text()


def test_a_person_steers_with_the_keyboard(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.keyboard.press("Control+Enter")
    page.get_by_text("Approved by local").wait_for()
    assert story.last(log).kind == "decided"
    page.keyboard.press("/")
    page.keyboard.type("more rows")
    page.keyboard.press("Enter")
    page.locator(".bubble").get_by_text("more rows", exact=True).wait_for()
    assert story.last(log).text == "more rows"
    page.keyboard.press("Escape")
    page.get_by_text("Stopped by local").wait_for()
    assert story.last(log).kind == "halted"
    page.get_by_role("button", name="stop the session").wait_for(state="hidden")


def test_an_approval_can_be_edited_or_denied(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.locator(".ask-settings summary").click()
    page.locator(".ask-edit").fill('{"recipe": "sft"')
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("not a JSON object").wait_for()
    page.locator(".ask-edit").fill('{"recipe": "sft", "config": {"lr": 0.001}}')
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("with changes").wait_for()
    assert story.last(log).arguments == {"recipe": "sft", "config": {"lr": 0.001}}


def test_a_session_begins_at_the_first_page_and_is_found_again(site: Site, visit):
    page = visit(site.url)
    page.screenshot(path=SHOTS / "start_light_1440.png")
    page.get_by_role("button", name="New session").click()
    page.get_by_label("Target").fill("7")
    page.get_by_role("combobox", name="Task").fill("no such task")
    page.screenshot(path=SHOTS / "new_light_1440.png")
    page.get_by_label("Target").fill("0.9")
    with page.expect_response("**/api/sessions") as refused:
        page.get_by_role("button", name="Start").click()
    assert refused.value.status == 422
    page.locator(".form .problem").wait_for()
    page.get_by_role("combobox", name="Task").fill("chains")
    page.get_by_label("What do you want?").fill("Learn to add.")
    page.get_by_role("button", name="Start").click()
    page.locator(".bubble", has_text="Learn to add.").wait_for()
    assert "session=" in page.url
    page.keyboard.press("Escape")
    page.get_by_text("Stopped by local").wait_for()
    page.evaluate("delete Map.groupBy")  # Firefox before 119 and Safari before 17.4 have none
    page.get_by_role("button", name="sessions").click()
    page.get_by_role("searchbox").fill("learn to add")
    page.locator(".session").first.wait_for()
    page.screenshot(path=SHOTS / "drawer_light_1440.png")
    assert page.locator(".session").count() == 1


def test_the_demo_begins_with_one_click(site: Site, visit):
    page = visit(site.url)
    page.get_by_role("button", name="Run the demo").first.click()
    page.locator(".bubble", has_text=DEMO.text).wait_for()
    assert "session=" in page.url
    page.keyboard.press("Escape")
    page.get_by_text("Stopped by local").wait_for()


def test_a_cut_wire_loses_and_doubles_nothing(site: Site, visit):
    name, log = site.session(story.beginning)
    wire = Wire(site.settings.port)
    page = visit(f"http://127.0.0.1:{wire.port}/?session={name}")
    ready(page)
    wire.cut()
    page.get_by_text("The connection is cut").wait_for()
    log.append(*(Said(text=f"message {i}") for i in range(20)))
    page.wait_for_timeout(1200)
    wire.mend()
    page.locator(".bubble", has_text="message 19").wait_for(timeout=10_000)
    log.append(Said(text="message 20"))
    page.locator(".bubble", has_text="message 20").wait_for()
    assert messages(page) == [f"message {i}" for i in range(21)]
    assert page.get_by_text("The connection is cut").is_hidden()
    wire.close()


def test_a_hidden_tab_holds_no_connection_and_misses_nothing(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    leave(site, page, name)
    log.append(*(Said(text=f"message {i}") for i in range(20)))
    hide(page, False)
    page.locator(".bubble", has_text="message 19").wait_for()
    assert messages(page) == [f"message {i}" for i in range(20)]


def test_a_public_space_says_that_it_is_read_only(space: Site, visit):
    name, _ = space.session(story.beginning)
    page = visit(f"{space.url}/?session={name}")
    page.get_by_text("This Space is read-only").wait_for()
    page.get_by_text("There is no such session, or it is not yours.").wait_for()
    assert page.locator(".composer").is_hidden()


def test_what_is_drawn_follows_the_theme_whoever_changes_it(site: Site, visit):
    page = visit(site.url)
    page.evaluate("window.told = 0; document.addEventListener('ml-intern:theme', () => window.told += 1)")
    page.emulate_media(color_scheme="dark")  # the system, at dusk
    page.wait_for_function("window.told === 1 && document.body.classList.contains('dark')")
    page.get_by_role("button", name="switch between dark and light").click()
    page.wait_for_function("window.told === 2 && !document.body.classList.contains('dark')")
