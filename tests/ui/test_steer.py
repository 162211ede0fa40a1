"""What a person can do to a session from the page: in a real Chromium, against a real server."""

import pytest
from playwright.sync_api import Locator, Page, expect

from record.events import Closed, Ended, Published, Replied, Requested, Said, Tuned
from record.log import Log
from record.views import Views
from tests.ui import story
from tests.ui.conftest import SHOTS, Site
from tests.ui.test_axe import clean


def ready(page: Page) -> None:
    page.locator(".feed .ask, .feed .ending").first.wait_for()


def menu(page: Page, item: str) -> None:
    page.get_by_role("button", name="more about this session").click()
    page.get_by_role("menuitem", name=item).click()


def views(log) -> Views:
    log.refresh()
    return Views(log)


def test_a_session_is_renamed_and_the_list_finds_it(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    menu(page, "Rename")
    page.locator("[open] input[name=title]").fill("A very odd title")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="A very odd title").wait_for()
    assert views(log).title == "A very odd title"
    page.get_by_role("button", name="sessions").click()
    page.get_by_role("searchbox").fill("odd tit")
    page.locator(".session", has_text="A very odd title").wait_for()
    assert page.locator(".session").count() == 1
    page.get_by_role("searchbox").fill("nothing like this")
    page.get_by_text("No session matches.").wait_for()


def test_caps_model_and_approval_change_while_it_works(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.get_by_label("approval", exact=True).select_option("always")
    page.get_by_text("Changed by local: approval always").wait_for()
    page.get_by_role("button", name="model and caps").click()
    page.locator("[open] input[name=dollars]").fill("7.5")
    page.locator("[open] input[name=hours]").fill("")
    page.locator("select[name=effort]").select_option("high")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("effort high").wait_for()
    now = views(log)
    assert (now.approval, now.effort, now.budget.dollars, now.budget.hours) == ("always", "high", 7.5, None)
    page.get_by_role("button", name="model and caps").click()
    page.locator("[open] input[name=driver]").fill("anthropic/claude-sonnet-4-5")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("ANTHROPIC_API_KEY").wait_for()  # and the form stays
    assert page.locator("[open] input[name=dollars]").input_value() == "7.5"


def test_a_session_is_shared_watched_by_a_stranger_and_taken_back(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("dialog").get_by_role("button", name="Share").click()
    link = page.get_by_label("Link").input_value()
    assert "<iframe" in page.get_by_label("Embed").input_value()
    assert views(log).public
    stranger = visit(link)
    stranger.locator(".player").wait_for()
    page.get_by_role("button", name="Make it private").click()
    page.get_by_text("Made private by local").wait_for()
    stranger.reload()
    stranger.get_by_text("There is no such replay").wait_for()


def test_a_fork_opens_and_goes_on_only_when_spoken_to(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    menu(page, "Fork")
    page.wait_for_url(lambda url: name not in url)
    page.get_by_role("heading", name="(fork)").wait_for()
    page.locator(".notice", has_text="Stopped").wait_for()
    assert views(log).active


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_session_is_forked_from_a_message(site: Site, visit, theme: str):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}&__theme={theme}")
    ready(page)
    message = page.locator(".said", has_text="Try more rows, please.")
    button = message.get_by_role("button", name="Fork from here")
    assert button.evaluate("one => getComputedStyle(one).opacity") == "0"
    page.locator(".scroller").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if button.evaluate("one => one === document.activeElement"):
            break
    expect(button).to_have_css("opacity", "1")
    page.screenshot(path=SHOTS / f"fork_{theme}.png")
    clean(page, "a fork")
    with page.expect_request("**/fork") as sent:
        page.keyboard.press("Enter")
    at = next(fact.seq for fact in log if fact.kind == "said")
    assert sent.value.post_data_json == {"at": at}
    page.get_by_role("heading", name="(fork)").wait_for()
    new = Log(site.settings.sessions / page.url.partition("session=")[2].partition("&")[0] / "events.jsonl")
    assert [fact.upto for fact in new[: new.refresh()] if fact.kind == "undone"] == [at]
    assert views(log).active


def test_where_nobody_may_fork_there_is_no_button(site: Site, visit):
    page = visit(f"{site.url}/?replay=demo-chains&speed=max")
    page.locator(".ending").wait_for()
    assert page.locator(".bubble").count() > 0 and page.locator(".fork").count() == 0


@pytest.mark.parametrize(
    ("outcome", "reason", "action"),
    [
        ("provider_failed", "the key is refused; check it", "Resume"),
        ("out_of_budget", "the wall clock budget is used up", "Raise the caps"),
        ("needs_person", "the model wants to know which data", "Answer"),
    ],
)
def test_an_ending_says_the_one_thing_to_do(site: Site, visit, outcome, reason, action):
    name, log = site.session(story.beginning)
    log.append(Closed(outcome=outcome, reason=reason))
    page = visit(f"{site.url}/?session={name}")
    notice = page.locator(".notice")
    expect(notice).to_contain_text(reason)
    notice.get_by_role("button", name=action).click()
    if action == "Resume":
        page.get_by_text("Go on where you stopped.").wait_for()
        assert isinstance(story.last(log), Said)
        expect(notice).not_to_contain_text(reason)
    elif action == "Answer":
        expect(page.get_by_label("message")).to_be_focused()
    else:
        page.get_by_role("dialog", name="Caps, model and approval").wait_for()


def test_a_turn_is_taken_back_and_a_session_deleted(site: Site, visit):
    name, log = site.session(story.beginning)
    log.append(Closed(outcome="done", reason="ok"), Said(text="one more"), Replied(text="fine", model="m"))
    log.append(Closed(outcome="done", reason="ok"))
    for job in views(log).running:
        log.append(Ended(job=job.id, state="done", seconds=1.0))
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    menu(page, "Take back")
    page.get_by_text("The last turn was taken back").wait_for()
    menu(page, "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Run the demo").wait_for()
    assert not log.path.exists()


def test_the_memory_is_compacted_on_demand(site: Site, visit):
    name, log = site.session(lambda s: [story.opened(s, driver="x/y"), Replied(text="hi", model="x/y")])
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("hi", exact=True).wait_for()
    menu(page, "Compact now")
    line = page.locator(".quiet", has_text="local asked to shorten the model's memory")
    line.wait_for()
    assert views(log).wants_compaction == story.last(log).seq
    log.append(Requested(what="stop_job", job="sft-1", by="ada"))
    stopped = page.locator(".quiet", has_text="sft-1 is to stop, said ada")
    stopped.wait_for()
    shape = "one => one.querySelector('path').getAttribute('d')"
    assert line.evaluate(shape) != stopped.evaluate(shape)
    menu(page, "Compact now")  # it is asked for already
    page.wait_for_timeout(300)
    assert page.locator(".toast").count() == 0 and line.count() == 1


def test_a_memory_that_is_none_is_not_compacted(site: Site, visit):
    name, _ = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.get_by_role("button", name="more about this session").click()
    item = page.get_by_role("menuitem", name="Compact now")
    expect(item).to_be_disabled()
    assert (item.get_attribute("title") or "").startswith("Autopilot is a fixed policy")
    page.screenshot(path=SHOTS / "menu.png")
    name, log = site.session(lambda s: [story.opened(s, driver="x/y")])
    page.goto(f"{site.url}/?session={name}")
    page.locator(".bubble").wait_for()
    menu(page, "Compact now")
    page.locator(".toast", has_text="the model has not answered once").wait_for()
    log.refresh()
    assert len(log) == 1


def stands(page: Page, log) -> None:
    """Nothing has stopped the session of the page, also not a moment later."""
    page.wait_for_timeout(400)
    log.refresh()
    assert [fact.kind for fact in log if fact.kind == "halted"] == []


def test_the_menu_is_driven_by_keys(site: Site, visit):
    name, log = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.get_by_role("button", name="more about this session").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Share")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_be_hidden()
    stands(page, log)  # Esc closed the menu and stopped nothing
    page.get_by_role("button", name="more about this session").click()
    page.mouse.move(400, 500)
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_be_hidden()
    stands(page, log)


def escape(at: Locator) -> None:
    at.focus()
    at.press("Escape")


def test_escape_leaves_what_is_open_and_stops_only_from_the_transcript(site: Site, visit):
    name, log = site.session(story.beginning)
    (log.path.parent / "report.md").write_text("# A report")
    (log.path.parent / "workspace" / "a.txt").write_text("some text")
    log.append(Published(what="report", where="report.md"))
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    for opener in ("Share", "model and caps", "sessions"):
        page.get_by_role("button", name=opener, exact=True).click()
        page.locator("dialog[open]").wait_for()
        page.keyboard.down("Escape")
        page.keyboard.down("Escape")  # held for long
        page.keyboard.up("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
        stands(page, log)
    escape(page.get_by_label("approval", exact=True))
    page.locator(".ask-settings summary").click()
    escape(page.locator(".ask-edit"))
    stands(page, log)
    page.get_by_role("tab", name="Files").click()
    escape(page.locator(".files-filter"))
    page.locator("[data-path='workspace/a.txt']").click()
    page.get_by_text("some text").click()
    page.keyboard.press("Escape")
    stands(page, log)
    page.get_by_role("tab", name="Report").click()
    page.locator(".report").click()
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    stands(page, log)
    escape(page.locator(".scroller"))
    page.get_by_text("Stopped by local").wait_for()


def test_an_effort_is_taken_back_by_its_name(site: Site, visit):
    name, log = site.session(story.beginning)
    log.append(Tuned(effort="high"))
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("effort high").wait_for()
    page.get_by_role("button", name="model and caps").click()
    effort = page.locator("select[name=effort]")
    assert effort.locator("option").all_inner_texts() == ["The model's own", "Low", "Medium", "High"]
    expect(effort).to_have_value("high")
    with page.expect_request("**/tune") as kept:
        page.get_by_role("button", name="Save").click()
    assert "effort" not in kept.value.post_data_json  # what nobody changed is not said again
    page.get_by_role("button", name="model and caps").click()
    effort.select_option(label="The model's own")
    with page.expect_request("**/tune") as sent:
        page.get_by_role("button", name="Save").click()
    assert sent.value.post_data_json["effort"] == "default"


def test_whoever_shares_is_told_that_file_contents_are_shown(site: Site, visit):
    name, _ = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    ready(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_role("dialog").get_by_text("wrote or read, file contents too, is shown as it is").wait_for()


def test_the_first_page_checks_the_machine_and_shows_recorded_sessions(site: Site, visit):
    page = visit(site.url)
    page.locator(".firstrun summary").click()
    page.get_by_text("ANTHROPIC_API_KEY").wait_for()
    page.screenshot(path=SHOTS / "start_light_1440.png")
    page.locator(".recorded a").first.click()
    page.locator(".player").wait_for()


def test_a_stranger_on_a_space_watches_and_steers_nothing(space: Site, visit):
    page = visit(space.url)
    page.locator(".recorded a").first.wait_for()
    assert page.locator(".firstrun, .steer").count() == 0
