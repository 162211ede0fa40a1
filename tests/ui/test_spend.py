"""The budget card in a real Chromium: what is used of each cap, by the clocks that the caps are counted with."""

from record import events as e
from tests.ui import story
from tests.ui.conftest import Site
from tests.ui.test_work import lively

HOUR = 3600.0


def cap(page, name: str) -> str:
    return page.locator(".cap", has_text=name).locator("dd").inner_text()


def rested(session: str, driver: str = "x/y") -> list[tuple[float, e.Event]]:
    """A minute of work, five hours of rest in which it is renamed and a job leaves the queue, and 20 s more of work."""
    waits = story.launched("sft-2")
    return [
        (0, story.opened(session, driver=driver, budget=e.Budget(hours=1.0, job_hours=0.5))),
        (5, e.Replied(text="one", model="x/y")),
        (5, story.launched("sft-1")), (5, e.Queued(job="sft-1", place=1)), (20, e.Queued(job="sft-1", place=0)),
        (25, waits), (25, e.Queued(job="sft-2", place=1)),
        (50, e.Ended(job="sft-1", state="done", seconds=30.0)),
        (60, e.Closed(outcome="needs_person", reason="what now?")),
        (5 * HOUR, e.Renamed(title="later")), (5 * HOUR, e.Ended(job="sft-2", state="cancelled", seconds=0.0)),
        (5 * HOUR + 10, e.Said(text="go on")), (5 * HOUR + 20, e.Replied(text="two", model="x/y")),
        (5 * HOUR + 30, e.Closed(outcome="done", reason="ok")), (6 * HOUR, e.Renamed(title="much later")),
    ]  # fmt: skip


def test_the_budget_says_what_is_used_and_what_is_unknown(site: Site, visit):
    name, _ = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    page.locator(".spend").wait_for()
    shown = page.locator(".spend").inner_text()
    assert "$0.21 of $0.24" in shown  # 0.11 + 0.1, the jobs cost nothing
    assert "980, no cap" in shown and "not counted: 1 of 2 answers" in shown
    assert "1 min 35 s of 30 min" in shown, (
        shown
    )  # 31 s + 64 s; of the two others no fact says that they have the machine
    assert page.locator(".cap.tight", has_text="Dollars").count() == 1  # 0.21 / 0.24 = 88 %
    name, _ = site.session(lambda s: [story.opened(s, driver="x/y"), e.Replied(text="hi", model="x/y")])
    page.goto(f"{site.url}/?session={name}")
    page.locator(".spend").wait_for()
    shown = page.locator(".spend").inner_text()
    assert "unknown of $2.00" in shown and "unknown, no cap" in shown
    assert page.locator(".tile", has_text="Spent").inner_text() == "Spent\n–\nprice unknown", "unknown is not $0.00"
    assert page.locator(".top .num").inner_text() == "price unknown of $2.00"


def test_the_clock_stands_still_while_nobody_works(site: Site, visit):
    name, log = site.session(lambda s: [story.opened(s)])
    story.written(log.path, rested(name))
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("Done", exact=True).first.wait_for()
    assert cap(page, "Wall clock") == "80 s of 60 min"  # 60 s, and 20 s after the message
    assert cap(page, "Job time") == "30 s of 30 min"
    assert page.locator(".top .num").inner_text() == "1:20 of 60 min"


def test_a_job_costs_time_from_when_it_has_the_machine(site: Site, visit):
    name, log = site.session(lambda s: [story.opened(s, budget=e.Budget(job_hours=0.5))])
    log.append(story.launched("sft-1"), e.Queued(job="sft-1", place=1))
    page = visit(f"{site.url}/?session={name}")
    page.locator(".spend").wait_for()
    page.wait_for_timeout(3500)  # one beat of the panel, in which a job in the queue costs nothing
    assert cap(page, "Job time") == "0 s of 30 min"
    log.append(e.Queued(job="sft-1", place=0))
    page.wait_for_function("[...document.querySelectorAll('.cap')].some(one => /^Job time[1-9]/.test(one.textContent))")


def test_model_calls_have_a_cap_even_where_nobody_gave_one(site: Site, visit):
    name, log = site.session(lambda s: [story.opened(s, driver="x/y"), e.Replied(text="one", model="x/y")])
    page = visit(f"{site.url}/?session={name}")
    page.locator(".spend").wait_for()
    assert cap(page, "Model calls") == "1 of 300"
    log.append(e.Tuned(budget=e.Budget(calls=2)), e.Replied(text="two", model="x/y"))
    page.locator(".cap.full", has_text="Model calls").wait_for()
    assert cap(page, "Model calls") == "2 of 2"
    log.append(e.Tuned(budget=e.Budget(hours=1.0), driver="autopilot"))
    page.locator(".cap", has_text="Model calls").wait_for(state="detached")


def test_calls_of_scouts_count_and_are_told_apart(site: Site, visit):
    scouted = e.Replied(text="I looked.", model="x/y", who="scout-1")
    name, _ = site.session(
        lambda s: [story.opened(s, driver="x/y"), e.Replied(text="one", model="x/y"), scouted, scouted]
    )
    page = visit(f"{site.url}/?session={name}")
    page.locator(".spend").wait_for()
    assert cap(page, "Model calls") == "3 of 300\n2 by scouts", "the cap counts every call"
    assert "not counted: 3 of 3 answers, 2 of them by scouts" in cap(page, "Tokens")
    assert "price unknown: 3 of 3 answers, 2 of them by scouts" in cap(page, "Dollars")


def test_a_replay_shows_the_clock_of_its_log(site: Site, visit):
    name, log = site.session(lambda s: [story.opened(s)])
    facts = [fact for fact in rested(name) if fact[1].kind not in ("closed", "renamed")][:6]
    story.written(log.path, [*facts, (40, e.Shared(public=True)), (40, e.Said(text="still at work"))])
    page = visit(f"{site.url}/?replay={name}&speed=max")
    page.locator(".bubble", has_text="still at work").wait_for()
    assert page.locator(".top .num").inner_text() == "0:40 of 60 min"
    assert cap(page, "Wall clock") == "40 s of 60 min"


def test_what_running_jobs_may_still_cost_is_said(site: Site, visit):
    name, log = site.session(lambda s: [story.opened(s, budget=e.Budget(dollars=2.0))])
    priced = story.launched("sft-1").model_copy(update={"price": 0.4, "hours": 2.0})
    log.append(priced, e.Queued(job="sft-1", place=1))
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("running jobs may cost $0.80 more").wait_for()
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_text("at most $0.80").wait_for()
    page.get_by_role("tab", name="Live").click()
    log.append(e.Ended(job="sft-1", state="done", seconds=3600.0, dollars=0.4))
    page.get_by_text("running jobs may cost").wait_for(state="detached")
    assert cap(page, "Dollars") == "$0.40 of $2.00"
