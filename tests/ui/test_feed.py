"""The transcript in a real Chromium: long sessions, tools' bodies, formulas and code, and markup of strangers as text."""

import json

import pytest
from playwright.sync_api import expect

from record import events as e
from tests.ui import long, story
from tests.ui.conftest import SHOTS, Site

LOADED = 400  # rows and blocks: far below the 5,000 of the session, above what two tall screens need
END = "the very end"


def tried(command: str, output: str, code: int = 0) -> list[e.Event]:
    answer = {"ended": f"exit code {code}", "seconds": 0.5, "output": output}
    return story.call(
        "shell", 77, {"command": command}, json.dumps(answer, ensure_ascii=False, separators=(", ", ": "))
    )


def gap(page) -> float:
    """Pixels between what the person sees and the end."""
    return page.locator(".scroller").evaluate("s => s.scrollHeight - s.scrollTop - s.clientHeight")


@pytest.fixture
def opened(site: Site, visit):
    """Open a session that begins with these facts, and wait until its end is shown."""

    def go(*facts: e.Event, width: int = 1440, theme: str = "light"):
        name, log = site.session(lambda name: [story.opened(name), *facts, e.Said(text=END)])
        page = visit(f"{site.url}/?session={name}&__theme={theme}", width)
        page.locator(".bubble", has_text=END).wait_for(timeout=15_000)
        return page, log

    return go


@pytest.fixture
def endless(site: Site, visit):
    """A session of 10,000 facts, at its end."""
    name, log = site.session(lambda name: [*long.session(name, 9999), e.Said(text=END)])
    page = visit(f"{site.url}/?session={name}")
    page.locator(".bubble", has_text=END).wait_for(timeout=15_000)
    return page, log


def test_ten_thousand_facts_open_with_few_elements_and_at_their_end(endless):
    page, _ = endless
    page.wait_for_timeout(300)
    assert page.locator(".feed > *, .feed .row").count() < LOADED
    assert gap(page) < 3
    assert page.locator(".feed > :last-child").inner_text() == END


def test_every_fact_is_reached_once_by_scrolling_up(site: Site, visit):
    facts = [e.Said(text=f"message {i}") for i in range(400)]
    name, _ = site.session(lambda name: [story.opened(name), *facts])
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("message 399").wait_for()
    assert page.locator(".bubble").count() < 200
    for _ in range(120):
        page.mouse.move(300, 400)
        page.mouse.wheel(0, -2500)
        page.wait_for_timeout(40)
        if page.locator(".earlier").is_hidden() and page.locator(".scroller").evaluate("s => s.scrollTop") == 0:
            break
    shown = page.evaluate("[...document.querySelectorAll('.bubble')].map(one => one.textContent)")[1:]
    assert shown == [f"message {i}" for i in range(400)]


def test_what_a_person_reads_stays_in_place_while_older_facts_are_made(endless):
    page, _ = endless
    scroller = page.locator(".scroller")
    page.wait_for_timeout(400)
    mark = scroller.evaluate(
        """s => { s.scrollTop = 900; window.seen = [...document.querySelectorAll('.feed > *')].find(one => one.getBoundingClientRect().top > 200);
        return [window.seen.getBoundingClientRect().top, document.querySelectorAll('.feed > *').length]; }"""
    )
    page.wait_for_timeout(700)
    top, count = scroller.evaluate(
        "() => [window.seen.getBoundingClientRect().top, document.querySelectorAll('.feed > *').length]"
    )
    assert count > mark[1], "older ones were made"
    assert abs(top - mark[0]) <= 2


def test_the_beginning_is_one_button_away(endless):
    page, _ = endless
    page.locator(".earlier").focus()
    page.keyboard.press("Enter")
    page.locator(".earlier").wait_for(state="hidden", timeout=20_000)
    page.wait_for_function("document.querySelector('.scroller').scrollTop === 0")
    assert page.locator(".feed > :first-child").inner_text() == "Teach the starter model chains of sums."
    numbers = page.evaluate(
        "[...document.querySelectorAll('.bubble')].map(one => one.textContent).filter(t => t.startsWith('message'))"
    )
    assert numbers == [f"message {i}" for i in range(1, len(numbers) + 1)] and len(numbers) > 200


def test_the_end_is_followed_only_by_a_person_who_is_there(endless):
    page, log = endless
    page.wait_for_timeout(400)
    log.append(e.Said(text="news one"))
    page.locator(".bubble", has_text="news one").wait_for()
    page.wait_for_timeout(100)
    assert gap(page) < 3
    page.mouse.move(300, 400)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(300)
    before = gap(page)
    log.append(*(e.Said(text=f"news {i}") for i in range(5)))
    page.locator(".bubble", has_text="news 4").wait_for(state="attached")
    page.wait_for_timeout(200)
    assert gap(page) > before > 100


def test_a_live_burst_loses_and_doubles_nothing(opened):
    page, log = opened()
    log.append(*(e.Said(text=f"message {i}") for i in range(700)))
    page.get_by_text("message 699").wait_for(timeout=10_000)
    page.locator(".earlier").click()
    page.locator(".earlier").wait_for(state="hidden")
    texts = page.evaluate("[...document.querySelectorAll('.bubble')].map(one => one.textContent)")
    assert [t for t in texts if t.startswith("message")] == [f"message {i}" for i in range(700)]


def test_a_terminal_shows_the_tail_and_all_of_it_on_demand(opened):
    bars = "\r".join(f"{i}%" for i in range(0, 101, 10))
    text = "\n".join(
        [*(f"line {i}." for i in range(100)), bars, "\x1b[1;31mboom\x1b[0m \x1b[2K\x1b]0;title\x07fine", ""]
    )
    page, _ = opened(*tried("python train.py", text, code=3))
    row = page.locator(".row.error")
    shown = row.locator(".term").inner_text()
    assert "line 99." in shown and "line 3." not in shown and "\n100%\nboom fine" in shown and "90%" not in shown
    assert row.locator(".ansi-red.ansi-bold").inner_text() == "boom"
    assert row.locator(".command").inner_text() == "$ python train.py" and "exit code 3" in row.inner_text()
    row.get_by_role("button", name="Show all").click()
    assert "line 3." in row.locator(".term").inner_text()


def test_a_wish_to_end_that_is_not_granted_is_no_error(opened):
    why = "It is too early to end: the target of 0.9 is not reached. Try another idea."
    page, _ = opened(
        *story.call("final_answer", 1, {"answer": "I am done."}, why, ok=False),
        *story.call("shell", 2, {"command": "false"}, "no such file", ok=False),
    )
    assert page.locator(".row.error").count() == 1, "the one that broke"
    row = page.locator(".row", has_text="Not finished yet")
    assert row.get_attribute("open") is None and "too early" in row.locator(".row-about").inner_text()
    row.locator("summary").click()
    row.locator(".row-body", has_text="I am done.").wait_for()


def test_a_written_file_shows_what_changed(opened):
    first, then = "a = 1\nb = 2\nc = 3\n", "a = 1\nb = 5\nc = 3\nd = 4\n"
    page, _ = opened(
        *story.call("write_file", 1, {"path": "x.py", "text": first}, "{}"),
        *story.call("write_file", 2, {"path": "x.py", "text": then}, "{}"),
    )
    for row in page.locator("details.row").all():
        row.locator("summary").click()
    page.locator(".diff").nth(1).wait_for()
    new, changed = (pre.text_content() for pre in page.locator(".diff").all())
    assert new.splitlines() == ["+a = 1", "+b = 2", "+c = 3"]
    assert changed.splitlines() == [" a = 1", "-b = 2", "+b = 5", " c = 3", "+d = 4"]
    assert "+2 −1" in page.locator(".body-line").last.inner_text()


def test_code_is_coloured_and_says_what_it_said(opened):
    code = 'def f(x):  # <b>why</b>\n    return f"{x}" + "</code><script>"'
    page, _ = opened(
        *story.call("read_file", 1, {"path": "a/f.py"}, code), e.Replied(text=f"```python\n{code}\n```", model="m")
    )
    page.locator("details.row summary").click()
    page.locator(".reply .hl-keyword").first.wait_for()
    page.locator(".row-body .hl-keyword").first.wait_for()
    assert [one.text_content() for one in page.locator("pre code").all()] == [code, code]


def test_formulas_become_mathml_and_prices_do_not(opened):
    text = "It costs $5 and $7, or 3$, \\$9; $x^2$ and \\(y_1\\).\n\n$$\\frac{a}{b}$$\n\n\\[ z \\]\n\nBad: $\\nosuch{$"
    page, _ = opened(e.Replied(text=text, model="m"))
    page.locator("math").nth(3).wait_for()
    assert page.locator("math").count() == 4
    assert "It costs $5 and $7, or 3$, $9;" in page.locator(".reply p").first.inner_text()
    assert "\\nosuch{" in page.locator(".reply").inner_text()


def test_lists_nest_and_a_fence_holds_a_fence(opened):
    page, _ = opened(e.Replied(text="- a\n  - b\n- c\n\n3. d\n\n> said\n\n````\n```\nx\n```\n````", model="m"))
    assert page.locator(".reply > ul > li > ul > li").inner_text() == "b"
    assert page.locator(".reply > ul > li").count() == 2
    assert page.locator(".reply > ol").get_attribute("start") == "3"
    assert page.locator(".reply > pre").inner_text() == "```\nx\n```"
    assert page.locator("blockquote").inner_text() == "said"


ELSEWHERE = "https://elsewhere.example"
BAD = f'<img src="{ELSEWHERE}/x.png" onerror="window.hacked=1"><script>window.hacked=1;alert(1)</script><svg onload=alert(1)>'
LINKS = f"[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,{1}) [d](//elsewhere.example/x) ![e]({ELSEWHERE}/y.png) [f](vbscript:x)"
FORMULAS = (
    f"$\\href{{javascript:alert(1)}}{{x}}$ $\\includegraphics{{{ELSEWHERE}/z.png}}$ $\\text{{{BAD}}}$ "
    f"$\\htmlStyle{{background:url({ELSEWHERE})}}{{x}}$ $\\color{{red;background:url({ELSEWHERE})}}x$ $\\def\\a{{\\a\\a}}\\a$"
)


def attacks() -> list[e.Event]:
    """Markup of a stranger in every place that a fact has for text."""
    rows = json.dumps({"rows": [{"text": BAD, BAD: 1}]})
    return [
        e.Replied(text=f"{BAD}\n\n{LINKS}\n\n{FORMULAS}\n\n$$\\text{{{BAD}}}$$", thought=f"{BAD} {LINKS}", model="m"),
        e.Replied(text=f"```html\n{BAD}\n```\n\n```{BAD}\n{BAD}\n```\n\n| {BAD} |\n|---|\n| {BAD} |\n\n> {BAD}\n- {BAD}\n  - {BAD}", model="m"),
        *story.call(BAD, 1, {"command": BAD, BAD: BAD}, BAD),
        *story.call("shell", 2, {"command": BAD}, BAD, ok=False),
        *tried(BAD, f"\x1b[31m{BAD}\x1b[0m"),
        *story.call("write_file", 4, {"path": f"{BAD}.html", "text": BAD}, "{}"),
        *story.call("write_file", 5, {"path": f"{BAD}.html", "text": BAD + "\n" + BAD}, "{}"),
        *story.call("read_file", 6, {"path": f"{BAD}.html"}, BAD),
        *story.call("audit_data", 7, {"path": BAD}, rows),
        e.Launched(job="j", recipe=BAD, config={BAD: BAD}, machine=BAD, hours=1, idea=BAD, folder="jobs/j"),
        e.Ended(job="j", state="failed", seconds=1.0, reason=BAD),
        e.Found(rule=BAD, level="stop", what=BAD, advice=BAD, job=BAD),
        e.Promoted(model=BAD, verdict="crash", against="base", reason=BAD, idea=BAD),
        e.Noted(topic=BAD, text=BAD), e.Published(what="model", where=BAD), e.Said(text=BAD, by=BAD),
        e.Asked(call="c9", name=BAD, arguments={BAD: BAD}, reason=BAD, dollars=1.0),
        e.Renamed(title=BAD, by=BAD), e.Replied(text=BAD, model="m", who=BAD),
    ]  # fmt: skip


def test_markup_of_strangers_is_text_wherever_it_stands(site: Site, visit, browser):
    name, _ = site.session(lambda name: [story.opened(name), *attacks(), e.Said(text=END)])
    page = visit(site.url)
    troubles, asked = [], []
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site.url}/?session={name}")
    page.locator(".bubble", has_text=END).wait_for()
    page.evaluate("document.querySelectorAll('.feed details').forEach(one => (one.open = true))")
    page.locator("math").first.wait_for()
    page.locator(".hl-name").first.wait_for()
    page.wait_for_timeout(400)
    assert page.evaluate("window.hacked") is None and troubles == []
    assert (
        page.locator("#ml-feed :is(img, script, iframe, object, embed, style, link, form, [onerror], [onload])").count()
        == 0
    )
    hrefs = page.evaluate("[...document.querySelectorAll('#ml-feed [href]')].map(one => [one.href, one.rel])")
    assert hrefs == [[f"{ELSEWHERE}/y.png", "noopener noreferrer"]] * 2, (
        "the image, as a link; in the reply and the thought"
    )
    assert [url for url in asked if not url.startswith((site.url, "data:", "blob:"))] == []
    assert page.locator(".feed").inner_text().count("<script>window.hacked=1") > 40
    assert page.locator("#ml-feed [style*=url]").count() == 0


def test_what_is_published_is_named_and_linked(opened):
    """A model at its commit, for nobody reads forty digits; a Space as what it shows now."""
    hub, commit = "https://huggingface.co", "4c13d55c119ef0afb2b8d5003bbc96b33a68d68c"
    where = {"model": f"{hub}/ada/m/commit/{commit}", "demo": f"{hub}/spaces/ada/d/commit/{commit}"}
    page, _ = opened(*(e.Published(what=what, where=place) for what, place in where.items()))
    links = [page.get_by_role("link", name=name, exact=True) for name in ("ada/m at 4c13d55", "ada/d at 4c13d55")]
    assert [link.get_attribute("href") for link in links] == [where["model"], f"{hub}/spaces/ada/d"]
    assert links[0].get_attribute("title") == where["model"]


def test_text_that_is_being_written_gives_way_to_the_reply(opened):
    page, _ = opened()
    page.evaluate(
        """async () => { const base = [...document.scripts].find(s => s.src.endsWith('/main.js')).src.replace('main.js', '');
        const [{ Feed }, { Transcript }, { State }] = await Promise.all(['feed', 'transcript', 'fold'].map(n => import(`${base}${n}.js`)));
        const scroller = document.querySelector('.scroller'); const list = document.createElement('div'); list.className = 'feed';
        const feed = new Feed(new Transcript(scroller, list), {}); feed.typing('It **grows**');
        window.before = scroller.innerText;
        feed.add({ kind: 'replied', seq: 1, text: 'It has grown', thought: '', who: 'main' }, new State()); feed.settle();
        window.after = scroller.innerText; }"""
    )
    assert "It grows" in page.evaluate("before")
    assert "It grows" not in page.evaluate("after") and "It has grown" in page.evaluate("after")


def test_a_pane_that_nobody_sees_makes_no_older_facts_and_keeps_its_place(site: Site, visit):
    name, log = site.session(lambda name: [*long.session(name, 2999), e.Said(text=END)])
    page = visit(f"{site.url}/?session={name}", 390, 844)
    page.locator(".bubble", has_text=END).wait_for()
    page.get_by_role("button", name="Work").click()
    log.append(e.Said(text="news"))
    page.locator(".bubble", has_text="news").wait_for(state="attached")
    page.wait_for_timeout(300)
    assert page.locator(".feed > *").count() < 100
    page.get_by_role("button", name="Chat").click()
    page.locator(".bubble", has_text="news").wait_for()
    page.wait_for_timeout(200)
    assert gap(page) < 3


def test_a_long_live_session_does_not_grow_the_page(opened):
    page, log = opened()
    for part in range(20):
        log.append(*(e.Said(text=f"message {part * 30 + i}") for i in range(30)))
        page.get_by_text(f"message {part * 30 + 29}", exact=True).wait_for()
    assert page.locator(".feed > *").count() <= 240
    page.locator(".earlier").click()
    page.locator(".earlier").wait_for(state="hidden")
    texts = page.evaluate("[...document.querySelectorAll('.bubble')].map(one => one.textContent)")
    assert [t for t in texts if t.startswith("message")] == [f"message {i}" for i in range(600)]


@pytest.mark.parametrize(
    "hostile",
    [
        "|\n" + " " * 50_000 + "|" * 50_000 + "x",
        "|\n" + " |" * 50_000 + "x",
    ],
)
def test_a_line_that_is_almost_a_table_takes_no_time(opened, hostile: str):
    page, _ = opened()
    took = page.evaluate(MEASURED, ["markdown", "markdown", hostile])
    assert took < 1000, took
    table = "| a | b |\n|:--|--:|\n| 1 | 2 |\n\n a | b\n\n| c\n|--\n| 3"
    assert page.evaluate(SHAPE, table) == ["DIV", "P", "DIV"]
    assert page.evaluate(SHAPE, "| a | b |\n| - x | - |") == ["P"]


@pytest.mark.parametrize("hostile", ["\r" * 100_000 + "x", "\x1b]" * 50_000, "\x1b[0" * 33_000, "\x1b]a\x1b" * 25_000])
def test_hostile_output_of_a_command_takes_no_time(opened, hostile: str):
    page, _ = opened()
    assert page.evaluate(MEASURED, ["terminal", "screen", hostile]) < 1000
    assert page.evaluate(MEASURED, ["terminal", "colours", hostile]) < 1000


MODULE = """const base = document.querySelector('script[src*="main.js"]').src.replace('main.js', '');
  const load = (name) => import(`${base}${name}.js`);"""
MEASURED = f"""async ([name, which, text]) => {{
  {MODULE} const made = (await load(name))[which], start = performance.now();
  made(text);
  return performance.now() - start;
}}"""
SHAPE = f"async (text) => {{ {MODULE} return (await load('markdown')).markdown(text).map((one) => one.tagName); }}"


def scouted() -> list[e.Event]:
    """Two scouts at work at the same time, and the driver's own words around them."""
    made: list[e.Event] = [e.Replied(text="I send two scouts.", model="m"), e.Started(call="s1", name="scout", arguments={"task": "Why is the loss flat?"})]  # fmt: skip
    for step in range(8):
        who = f"scout-{1 + step % 2}"
        made += [fact.model_copy(update={"who": who}) for fact in (
            e.Replied(text=f"I look at part {step}.", model="m"),
            *story.call("read_file", 900 + step, {"path": f"log-{step}.txt"}, "line\n" * 3),
        )]  # fmt: skip
    made += story.call("read_skill", 990, {"name": "grpo"}, "Reward first.")
    made += [e.Finished(call="s1", name="scout", ok=True, output="The rate is too low.", seconds=3.0)]
    return [*made, e.Replied(text="The rate is too low.", model="m")]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_scouts_do_is_told_apart_and_folded(opened, theme: str):
    page, log = opened(*scouted(), theme=theme)
    cards = page.locator(".feed > .scout")
    expect(cards.locator("summary .who")).to_have_text(["scout-1", "scout-2"])
    expect(cards.locator("> summary .row-about")).to_have_text(["looked 4 times", "looked 4 times"])
    expect(page.locator(".feed > .reply")).to_have_text(["I send two scouts.", "The rate is too low."])
    assert page.locator(".feed .reply").count() == 2, "what is folded is not made"
    page.screenshot(path=SHOTS / f"scouts_folded_{theme}.png")
    cards.first.locator("> summary").click()
    expect(cards.first.locator(".reply")).to_have_text([f"I look at part {i}." for i in (0, 2, 4, 6)])
    cards.first.locator(".row summary").first.click()
    cards.first.get_by_text("line").first.wait_for()
    log.append(e.Started(call="late", name="read_file", arguments={"path": "late.txt"}, who="scout-1"))
    cards.first.locator(".row.running", has_text="late.txt").wait_for()
    log.append(e.Finished(call="late", name="read_file", ok=True, output="x", seconds=1.0, who="scout-1"))
    cards.first.locator(".row.ok", has_text="late.txt").wait_for()
    expect(cards.first.locator("> summary .row-about")).to_have_text("looked 5 times")
    page.screenshot(path=SHOTS / f"scouts_{theme}.png")
    marks = page.locator(".feed > .rows .row", has_text="skill").locator(".row-mark path")
    assert marks.first.get_attribute("d") != "M4 10.5l4 4 8-9"


def test_the_card_of_a_finding_lists_what_it_offers_in_words(opened):
    evidence = {"step": 20, "ablation": [{"lr": 1e-5}, {"beta": 0.04}]}
    fact = e.Found(rule="reward_collapse", level="stop", what="It fell.", advice="Lower it.", evidence=evidence)
    bare = fact.model_copy(update={"evidence": {"step": 20}})  # as in a replay, which has numbers only
    page, _ = opened(fact, bare)
    cards = page.locator(".feed .finding")
    assert [one.locator(".finding-offer").all_inner_texts() for one in cards.all()] == [
        [
            "Offered 1: the same run with a learning rate of 1.0e-5",
            "Offered 2: the same run with a KL penalty (beta) of 0.04",
        ],
        [],
    ]
