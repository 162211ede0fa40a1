"""Text that a model is writing: how it comes to every viewer, and how the fact takes its place. Real Chromium, real files."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from record import events as e
from record.log import Log
from record.typing import EVERY, NAME, Typing
from tests.ui import story
from tests.ui.conftest import SHOTS, Site
from tests.ui.test_page import hide
from ui.typed import Draft, Drafts

BEFORE = "As it was said before."


def working(session: str) -> list[e.Event]:
    return [story.opened(session, driver="x/y"), e.Replied(text=BEFORE, model="x/y")]


def writer(log: Log) -> Callable[..., None]:
    """Show a text as the brain does, no sooner than it may."""
    typing = Typing(log.path.parent)

    def show(text: str, thought: str = "") -> None:
        time.sleep(EVERY)
        typing.show(text, thought)

    return show


def typed(page) -> str:
    return page.locator(".typed").inner_text()


def told(url: str, session: str, count: int, after: int = 0, during: Callable[[], None] = lambda: None) -> list[str]:
    """The lines of the first `count` typing events of a stream, with what stands between them."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request("GET", f"/api/sessions/{session}/events?after={after}")
    lines = []
    answer = connection.getresponse()
    during()
    with suppress(TimeoutError):
        while sum(line == "event: typing" for line in lines) < count or lines[-1] != "":
            lines.append(answer.readline().decode().rstrip("\n"))
    connection.close()
    return lines


def test_an_answer_grows_and_its_fact_takes_its_place(site: Site, visit):
    name, log = site.session(working)
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text(BEFORE).wait_for()
    show = writer(log)
    show("It **grows** ")
    page.locator(".typed strong", has_text="grows").wait_for()
    show("It **grows** and grows.\n\n- one\n- two")
    page.locator(".typed li", has_text="two").wait_for()
    text = "It **grows** and grows.\n\n- one\n- two\n\nDone."
    page.evaluate(
        """() => { window.seen = []; const look = () => { const count = [...document.querySelectorAll('.reply')]
        .filter(one => one.checkVisibility() && one.textContent.includes('and grows.')).length;
        if (window.seen.at(-1) !== count) window.seen.push(count); requestAnimationFrame(look); }; look(); }"""
    )
    log.append(e.Replied(text=text, model="x/y"))
    page.locator(".feed .reply", has_text="Done.").wait_for()
    page.wait_for_timeout(200)  # the file is still there: it is old news
    assert page.locator(".typed").is_hidden()
    Typing(log.path.parent).clear()
    page.wait_for_timeout(200)
    assert page.evaluate("window.seen") == [1], "there was never a frame with none, or with two"
    assert page.locator(".feed .reply").count() == 2


def test_nothing_moves_when_the_fact_comes(site: Site, visit):
    name, log = site.session(working)
    page = visit(f"{site.url}/?session={name}")
    text = "A first paragraph.\n\n- one\n- two `x`\n\nAnd a last one."
    writer(log)(text)
    page.get_by_text("And a last one.").wait_for()
    where = """() => [...document.querySelectorAll('.reply :is(p, li)')].filter(one => one.checkVisibility()).map(one => Math.round(one.getBoundingClientRect().top))"""
    before = page.evaluate(where)
    log.append(e.Replied(text=text, model="x/y"))
    page.locator(".feed .reply", has_text="And a last one.").wait_for()
    assert page.evaluate(where) == before and len(before) == 5


def test_who_joins_late_or_comes_again_sees_all_of_it(site: Site, visit):
    name, log = site.session(working)
    show = writer(log)
    one = visit(f"{site.url}/?session={name}")
    show("The beginning ")
    one.locator(".typed", has_text="The beginning").wait_for()
    show("The beginning 🧪, and more")
    one.get_by_text("The beginning 🧪, and more").wait_for()
    other = visit(f"{site.url}/?session={name}")
    other.get_by_text("The beginning 🧪, and more").wait_for()
    one.reload()
    one.get_by_text("The beginning 🧪, and more").wait_for()
    show("The beginning 🧪, and more 🧪 of it")
    for page in (one, other):
        page.get_by_text("The beginning 🧪, and more 🧪 of it").wait_for()
    hide(one, True)
    show("The beginning 🧪, and more 🧪 of it. The end")
    hide(one, False)
    one.get_by_text("of it. The end").wait_for()
    assert typed(one) == typed(other)
    Typing(log.path.parent).clear()
    for page in (one, other):
        page.locator(".typed").wait_for(state="hidden")


def test_a_thought_is_folded_and_stays_open_for_who_reads_it(site: Site, visit):
    name, log = site.session(working)
    page = visit(f"{site.url}/?session={name}")
    show = writer(log)
    show("", "Is it the rate?")
    page.get_by_text("Thinking").wait_for()
    assert not page.get_by_text("Is it the rate?").is_visible()
    page.get_by_text("Thinking").click()
    page.get_by_text("Is it the rate?").wait_for()
    show("So it", "Is it the rate? It is.")
    page.get_by_text("Is it the rate? It is.").wait_for()
    log.append(e.Replied(text="So it is.", thought="Is it the rate? It is.", model="x/y"))
    page.locator(".feed .reply", has_text="So it is.").wait_for()
    assert page.locator(".feed .thought", has_text="Is it the rate? It is.").get_attribute("open") == ""


def test_what_a_scout_says_ends_nothing_that_the_driver_writes(site: Site, visit):
    name, log = site.session(working)
    page = visit(f"{site.url}/?session={name}")
    writer(log)("The driver writes on")
    page.locator(".typed", has_text="The driver writes on").wait_for()
    page.evaluate(
        """() => { window.gone = 0; const look = () => { window.gone += document.querySelector('.typed').hidden; requestAnimationFrame(look); }; look(); }"""
    )
    log.append(e.Replied(text="I looked.", model="x/y", who="scout-1"))
    page.locator(".feed > .scout").wait_for()
    page.wait_for_timeout(300)
    assert typed(page) == "The driver writes on" and page.evaluate("window.gone") == 0
    log.append(e.Replied(text="The driver is done.", model="x/y"))
    page.locator(".typed").wait_for(state="hidden")


def test_markup_in_it_is_text(site: Site, visit):
    name, log = site.session(working)
    page = visit(f"{site.url}/?session={name}")
    text = f"{story.MARKUP} [x](javascript:alert(1))\n\n```\n{story.MARKUP}\n```\n\n{story.MARKUP}"
    writer(log)(text, story.MARKUP)
    page.locator(".typed").wait_for()
    page.get_by_text("Thinking").click()
    page.wait_for_timeout(200)
    assert typed(page).count("<img src=x") == 4
    assert page.evaluate("window.hacked") is None
    assert page.locator(".typed :is(img, script), .typed a[href^=javascript]").count() == 0


def test_whole_paragraphs_are_made_once_and_all_of_it_is_what_the_fact_will_be(site: Site, visit):
    page = visit(site.url)
    text = "# A\n\nb $x^2$\n\n- c\n\n  of c\n- d\n\n```py\n1\n\n2\n```\n\n| e |\n|---|\n| f |\n\n> g\n\n$$\ny\n$$\n\nh"
    made = page.evaluate(
        """async text => { const base = document.querySelector('script[src*="main.js"]').src.replace('main.js', '');
        const [{ Typed }, { markdown }] = await Promise.all(['typed', 'markdown'].map(n => import(`${base}${n}.js`)));
        const box = document.createElement('div'); const all = document.createElement('div'); const typed = new Typed(box);
        let kept = 0, odd = [];
        for (let end = 4; end <= text.length; end += 1) {
          const before = [...typed.reply.children]; typed.show(text.slice(0, end), '');
          kept = Math.max(kept, before.filter(one => one.isConnected || typed.reply.contains(one)).length);
          all.replaceChildren(...markdown(text.slice(0, end), undefined, false));
          const shape = (root) => [...root.querySelectorAll('*')].filter(one => !one.closest('math, .maths, pre')).map(one => one.tagName).join(' ');
          if (shape(typed.reply) !== shape(all)) odd.push([end, shape(typed.reply), shape(all)]);
        }
        return { kept, odd }; }""",
        text,
    )
    assert made["odd"] == []
    assert made["kept"] == 6, (
        "h2, p, ul, pre, table and quote stayed when the last letter came; before it the formula was not sure"
    )


def test_an_update_of_a_long_answer_draws_only_what_is_new(site: Site, visit):
    name, log = site.session(working)
    page = visit(f"{site.url}/?session={name}")
    words = "Some **words**, `code` and more of them for a whole line of text. " * 5
    text = f"{words}\n\n- {words}\n- {words}\n\n```python\nx = 1\n```\n\n" * 30
    assert len(text) > 20_000
    show = writer(log)
    show(text[:20_000])
    page.locator(".typed pre").first.wait_for()
    page.wait_for_timeout(1000)
    page.evaluate(
        """() => { window.kept = document.querySelector('.typed pre'); window.drawn = 0; new MutationObserver(() => window.drawn += 1).observe(document.querySelector('.typed'), {childList: true, subtree: true}); }"""
    )
    for n in range(1, 31):
        show(text[: 20_000 + 40 * n])
    page.wait_for_timeout(300)
    drawn, kept = page.evaluate("[window.drawn, window.kept.isConnected]")
    assert drawn > 0 and kept, "an update draws what is new and leaves the rest in place"
    assert page.locator(".scroller").evaluate("s => s.scrollHeight - s.scrollTop - s.clientHeight") < 3


def test_the_stream_sends_what_is_new_and_no_id(site: Site):
    name, log = site.session(working)
    show = writer(log)
    show("The beginning ", "a thought ")

    def during() -> None:
        time.sleep(0.3)
        show("The beginning 🧪", "a thought ")
        time.sleep(0.3)
        show("The beginning 🧪, and more", "a thought ")
        time.sleep(0.3)
        log.append(e.Replied(text="The beginning, and more", model="x/y"))

    lines = told(site.url, name, 4, during=during)
    data = [json.loads(lines[i + 1][6:]) for i, line in enumerate(lines) if line == "event: typing"]
    assert data == [
        {"from": 0, "text": "The beginning ", "thought_from": 0, "thought": "a thought "},
        {"from": 14, "text": "🧪", "thought_from": 10, "thought": ""},
        {"from": 16, "text": ", and more", "thought_from": 10, "thought": ""},  # 🧪 is two units of JavaScript
        {"from": 0, "text": "", "thought_from": 0, "thought": ""},
    ]
    events = "\n".join(lines).split("\n\n")
    assert not [event for event in events if "event: typing" in event and "id:" in event]
    order = [i for i, line in enumerate(lines) if line.startswith("id: 3") or line == "event: typing"]
    assert lines[order[-2]] == "id: 3", "the fact comes before the news that nothing is being written"


def test_old_news_is_no_news(site: Site):
    _, log = site.session(working)
    typing = Typing(log.path.parent)
    typing.show("killed in the middle")
    drafts = Drafts(log.path.parent)
    drafts.look()
    assert drafts.after(log[:]).text == "killed in the middle"
    log.append(e.Halted())
    drafts.look()
    assert drafts.after([log[-1]]).text == ""
    assert drafts.after([]).text == ""
    again = Drafts(log.path.parent)  # somebody opens it later
    again.look()
    assert again.after(log[:]).text == ""
    typing.clear()
    typing.show("the next answer")
    again.look()
    assert again.after([]).text == "the next answer"
    os.utime(log.path.parent / NAME, (time.time() - 300,) * 2)
    again.look()
    assert again.after([]).text == ""


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("", "a", (0, "a")),
        ("key hf_AbCd", "key [redacted] ", (4, "[redacted] ")),
        ("🧪🧪", "🧪x", (2, "x")),
        ("abc", "", (0, "")),
    ],
)
def test_a_step_keeps_what_stayed(before: str, now: str, said: tuple[int, str]):
    news = json.loads(Draft(now, now).since(Draft(before, before)))
    assert news == {"from": said[0], "text": said[1], "thought_from": said[0], "thought": said[1]}


def test_files_downloads_and_replays_have_none_of_it(site: Site, http: httpx.Client, visit):
    name, log = site.session(lambda session: [*working(session), e.Shared(public=True)])
    writer(log)("not for strangers")
    assert [one["path"] for one in http.get(f"/api/sessions/{name}/files").json()["files"]] == []
    for verb in ("download", "preview", "image"):
        for path in (NAME, f"{NAME}.part", f"workspace/../{NAME}", f"jobs/x/../../{NAME}"):
            assert http.get(f"/api/sessions/{name}/{verb}/{path}").status_code == 404, (verb, path)
    assert "strangers" not in http.get(f"/api/replays/{name}").text + http.get(f"/api/sessions/{name}/log").text
    page = visit(f"{site.url}/?replay={name}&speed=max")
    page.locator(".feed .reply", has_text=BEFORE).wait_for()
    page.wait_for_timeout(300)
    assert page.locator(".typed").is_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_it_is_drawn(site: Site, visit, theme: str, width: int, height: int):
    name, log = site.session(lambda session: story.beginning(session)[:-1])
    page = visit(f"{site.url}/?session={name}&__theme={theme}", width, height)
    page.locator(".feed .verdict").first.wait_for()
    writer(log)(
        "The base model has **no format** at all. Next:\n\n- halve the learning rate of `sft-1`;\n- try 2,000 ro", "Hm."
    )
    page.locator(".typed li").first.wait_for()
    page.screenshot(path=SHOTS / f"typing_{theme}_{width}.png")
    assert page.locator("body").evaluate("b => b.scrollWidth <= innerWidth && b.scrollHeight <= innerHeight")
