"""The work panel in a real Chromium, over real HTTP, on real job folders: what it shows, and the one job it stops."""

import os
import time
from pathlib import Path

import httpx
import pytest

from lab.backend import JobSpec
from lab.backends.local import LocalBackend
from lab.backends.runner import cancel_file, holds_ticket
from lab.processes import identity
from lab.queue import Queue
from record import events as e
from tests.ui import long, story
from tests.ui.conftest import SHOTS, Site
from tests.ui.test_page import colours, ready

KEY = "hf_" + "Ab1" * 12


def lively(session: str) -> list[e.Event]:
    """The story without its question, with a job that runs and one that waits."""
    budget = e.Budget(hours=1.0, job_hours=0.5, dollars=0.24, tokens=None)
    facts = [fact for fact in story.beginning(session) if fact.kind not in ("asked", "opened")]
    running = [fact for fact in story.points("sft-3", 5.0) if fact.step <= 24]
    found = e.Found(
        rule="slow", level="warn", what="At 9 s a step it is slow.", advice="Use fewer steps.", job="sft-3", evidence={}
    )
    return [
        story.opened(session, budget=budget, driver="openai/some-model"), *facts, story.score("sft-2", "heldout", 0.64),
        story.launched("sft-3"), *running, found, story.launched("sft-4"),
    ]  # fmt: skip


def job_folder(site: Site, session: str, job: str, **files: str) -> Path:
    folder = site.settings.sessions / session / "jobs" / job
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def many(session: str, runs: int, steps: int) -> list[e.Event]:
    facts: list[e.Event] = [story.opened(session)]
    for run in range(1, runs + 1):
        facts.append(story.launched(f"sft-{run}"))
        facts += [
            e.Progressed(job=f"sft-{run}", step=s, steps=steps, values={"loss": 3 / (1 + s / 100) + run * 0.1 + (s * 7919 % 97) / 500})
            for s in range(1, steps + 1)
        ]  # fmt: skip
    return facts


def test_toggles_change_the_curves_by_keyboard(site: Site, visit):
    name, _ = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("Values as a table").wait_for()
    page.wait_for_timeout(400)
    label = page.locator(".plot").get_attribute("aria-label")
    assert label and label.startswith("Loss by step: sft-1 nan at step 60") and "sft-3" in label
    log = page.get_by_role("button", name="Log scale")
    log.focus()
    page.keyboard.press("Space")
    assert log.get_attribute("aria-pressed") == "true"
    page.get_by_label("Smoothing").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert page.locator(".smoothing output").inner_text() == "0.3"
    assert "(" in page.locator(".legend-run", has_text="sft-2").inner_text()
    assert colours(page) > 3
    page.get_by_role("button", name="sft-2").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    assert page.locator(".legend-run", has_text="sft-2").inner_text().endswith("hidden")
    assert page.evaluate("document.activeElement.dataset.job") == "sft-2"
    page.locator(".metric").select_option("mean_token_accuracy")
    page.wait_for_timeout(200)
    assert (page.locator(".plot").get_attribute("aria-label") or "").startswith("Token accuracy by step: sft-1")


def test_the_cursor_tells_every_run_at_its_step(site: Site, visit):
    name, _ = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("Values as a table").wait_for()
    page.wait_for_timeout(400)
    page.locator(".plot").focus()
    for _ in range(20):  # the 20th step of 2, 4, 6 is 40
        page.keyboard.press("ArrowRight")
    assert page.locator(".curves .card-head").inner_text().endswith("step 40")
    loss = 7.0 / (1 + 40 / 8) + 0.02 * (40 % 3)
    rows = page.locator(".legend-run").all_inner_texts()
    assert [row.split("\n")[-1] for row in rows] == ["nan", f"{loss:.4g}", "–"]
    assert page.locator(".curves .sr[aria-live]").inner_text().startswith("Step 40: sft-1 nan, sft-2 1.1")
    box = page.locator(".plot .u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + 2, box["y"] + 90)
    page.wait_for_timeout(100)
    assert page.locator(".curves .card-head").inner_text().endswith("step 2")


def test_findings_stand_where_they_happened_and_speak(site: Site, visit):
    name, _ = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("Values as a table").wait_for()
    page.wait_for_timeout(400)
    flag = page.get_by_role("button", name="Finding at step 40")
    words = flag.locator(".flag-text")
    assert not words.is_visible()
    flag.focus()
    assert words.is_visible() and "Halve the learning rate." in words.inner_text()
    page.keyboard.press("Escape")
    assert not words.is_visible()
    assert page.get_by_text("Stopped by local").count() == 0
    plot, at = page.locator(".plot .u-over").bounding_box(), flag.bounding_box()
    assert plot and at
    expected = plot["x"] + plot["width"] * (40 - 2) / (60 - 2)  # steps 2 to 60 fill the axis
    assert abs(at["x"] + 4 - expected) < 3


def test_smoothing_is_debiased_and_keeps_gaps(site: Site, visit):
    page = visit(site.url)
    made = page.evaluate(
        """async () => { const base = document.querySelector('script[src*="main.js"]').src.replace('main.js', '');
        const s = await import(base + 'series.js');
        const points = [[1, 4], [2, 'nan'], [3, 8], [3, 6]].map(([step, loss]) => ({step, values: {loss}}));
        const one = s.series(points, 'loss'); points.push({step: 5, values: {loss: -1}});
        const t = s.table([{points}, {points: [{step: 2, values: {loss: 1}}]}], 'loss', true, 0);
        return {smooth: s.smoothed(one.values, 0.5), columns: t.columns.map(c => [...c].map(v => v === undefined ? 'none' : v)), breaks: s.breaks(t.each[0])}; }"""
    )
    # weight 0.5: after 4 the average is 2 / (1 - 0.5) = 4; after 6 it is (0.5 * 2 + 0.5 * 6) / (1 - 0.25) = 16 / 3; after -1 it is (0.5 * 4 - 0.5) / 0.875
    assert made["smooth"] == pytest.approx([4, "nan", 16 / 3, 1.5 / 0.875])
    assert made["columns"] == [[1, 2, 3, 5], [4, None, 6, None], ["none", 1, "none", "none"]]
    assert made["breaks"] == [2]


def test_of_many_runs_the_newest_and_the_best_are_drawn_until_a_person_asks_for_all(site: Site, visit):
    best = e.Promoted(model="sft-3", verdict="keep", against="base", reason="Better.")
    name, log = site.session(lambda session: [f for f in long.session(session, 30 * 45) if f.kind != "replied"])
    log.append(best)
    log.refresh()
    runs = sum(fact.kind == "launched" for fact in log)
    page = visit(f"{site.url}/?session={name}")
    page.get_by_text("Values as a table").wait_for()
    drawn = page.locator(".legend-run")
    page.locator(".legend-run[data-job='sft-3']").wait_for()
    newest = [f"sft-{n}" for n in range(runs - 9, runs + 1)]
    assert [one.get_attribute("data-job") for one in drawn.all()] == ["sft-3", *newest]
    colour = drawn.last.locator("path").get_attribute("style")
    page.get_by_role("button", name=f"Show {runs - 11} earlier runs").click()
    page.wait_for_function("count => document.querySelectorAll('.legend-run').length === count", arg=runs)
    assert drawn.last.locator("path").get_attribute("style") == colour
    page.get_by_role("button", name="Show the newest 10 only").click()
    page.wait_for_function("document.querySelectorAll('.legend-run').length === 11")
    for panel, line, count in (
        ("ideas", "li.idea", runs),
        ("scores", "tbody tr", runs - 1),
        ("findings", ".finding", runs - 1),
    ):
        section = page.locator(f".card.{panel}")
        section.wait_for()
        shown = section.locator(line).count()
        assert shown in (20, 21), panel  # and of the scores the best one
        button = section.locator(".rest")
        hidden = int(button.inner_text().split()[1])
        button.click()
        page.locator(f".card.{panel} .rest").wait_for(state="detached")
        assert page.locator(f".card.{panel} {line}").count() == shown + hidden >= count, panel
        assert page.evaluate("document.activeElement.className") == f"card {panel}"


def test_a_pane_that_nobody_sees_is_drawn_when_it_is_seen(site: Site, visit):
    name, log = site.session(lively)
    page = visit(f"{site.url}/?session={name}", 390, 844)
    page.locator(".feed .verdict").first.wait_for(state="attached")
    log.append(e.Said(text="hello"))
    page.locator(".bubble", has_text="hello").wait_for()
    page.wait_for_timeout(200)
    assert page.locator("#ml-work .card, #ml-work .tile").count() <= 1  # the frame of the curves
    page.get_by_role("button", name="Work").click()
    page.locator(".tiles").wait_for()
    page.get_by_text("Values as a table").wait_for()
    assert "0.640" in page.locator(".tiles").inner_text()


@pytest.mark.slow
def test_new_points_reach_a_plot_of_thousands(site: Site, visit):
    name, log = site.session(lambda session: many(session, 6, 5000))
    page = visit(f"{site.url}/?session={name}")
    page.wait_for_function("document.querySelector('.plot')?.ariaLabel?.endsWith('step 5000')", timeout=40_000)
    page.wait_for_timeout(1500)
    for step in range(5001, 5041):
        log.append(e.Progressed(job="sft-6", step=step, steps=6000, values={"loss": 0.5}))
        time.sleep(0.05)
    page.wait_for_function("document.querySelector('.plot').ariaLabel.endsWith('step 5040')", timeout=10_000)


def test_scores_compare_base_and_best_and_show_their_seals(site: Site, visit):
    name, _ = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    page.locator(".compares").wait_for()
    assert "+0.590, intervals apart" in page.locator(".compares").inner_text()  # 0.64 - 0.05
    row = page.locator(".scores tbody tr", has_text="sft-2").first
    assert "best" in row.inner_text() and "97 %" in row.inner_text()
    seal = row.locator(".tip")
    assert "aaaaaa·bbbbbb·cccccc" in seal.inner_text() and not seal.locator(".tip-text").is_visible()
    seal.focus()
    assert "a" * 64 in seal.locator(".tip-text").inner_text()


def test_a_job_in_the_queue_shows_its_place_and_is_stopped(site: Site, visit):
    """With a real runner, behind a machine that this test holds: no trainer is started."""
    name, log = site.session(lively)
    log.append(e.Queued(job="sft-3", place=0), e.Queued(job="sft-4", place=1))
    folder = job_folder(site, name, "sft-4")
    queue = Queue(site.settings.home / "queue", holds_ticket)
    ticket = queue.enter({"job": str(folder), "runner": identity(os.getpid())})
    backend = LocalBackend(site.settings.home / "queue", site.settings.job_env)
    backend.launch(JobSpec("sft-4", "sft", {}, folder))
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Jobs").click()
    card = page.get_by_role("region", name="sft-4")
    card.get_by_text("Queued, 1 before it").wait_for()
    running = page.get_by_role("region", name="sft-3").inner_text()
    assert "24 of 60" in running and "36 s" in running and "Use fewer steps." in running
    card.get_by_role("button", name="Stop").click()
    card.get_by_role("button", name="Stop it now?").click()
    until = time.monotonic() + 15
    while not backend.state(folder).ended and time.monotonic() < until:
        time.sleep(0.1)
    queue.leave(ticket)
    assert (backend.state(folder).state, backend.state(folder).reason) == ("cancelled", "left the queue")


def test_a_place_in_the_queue_comes_as_a_fact_and_costs_no_request(site: Site, visit):
    name, log = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Jobs").click()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    card = page.get_by_role("region", name="sft-4")
    row = page.locator(".job-row", has_text="sft-4").locator(".row-end")
    card.get_by_text("Queued", exact=True).wait_for()
    for place, label, end in ((2, "Queued, 2 before it", "queued, 2 before it"), (0, "Running", "starting")):
        log.append(e.Queued(job="sft-4", place=place))
        card.get_by_text(label, exact=True).wait_for()
        assert row.inner_text() == end
    page.wait_for_timeout(3500)  # one beat of the panel
    assert asked == []
    log.append(story.launched("sft-4", attempt=2), e.Queued(job="sft-4", place=1))
    card.get_by_text("Queued, 1 before it").wait_for()


def test_a_card_says_in_one_line_what_its_trainer_has_measured(site: Site, visit):
    name, log = site.session(
        lambda session: [story.opened(session), story.launched("sft-5").model_copy(update={"price": 2.0})]
    )
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Jobs").click()
    card = page.get_by_role("region", name="sft-5")
    seen = {"peak_mb": 3174, "usual_s": 1.2, "tokens_per_second_worst": 8199.6, "eta_s": 720.0}
    log.append(e.Progressed(job="sft-5", step=1, steps=600, values={"loss": 1.0}, measured=seen))
    log.append(e.Progressed(job="sft-5", step=2, steps=600, values={"loss": 0.9}))
    card.get_by_text("2 of 600").wait_for()
    said = card.locator(".job-measured").inner_text()
    assert said == "Measured: 3.1 GiB peak · 8,200 tokens/s · about 12 min · $0.40"


def test_an_open_log_and_the_focus_survive_new_facts(site: Site, visit):
    name, log = site.session(lively)
    folder = job_folder(site, name, "sft-3", log_txt=f"loading\n{story.MARKUP}\nHF_TOKEN={KEY}\n")
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Jobs").click()
    card = page.get_by_role("region", name="sft-3")
    card.locator("summary", has_text="Log").focus()
    page.keyboard.press("Enter")
    card.get_by_text("loading").wait_for()
    assert story.MARKUP in card.locator(".output").inner_text() and KEY not in card.inner_text()
    log.append(e.Progressed(job="sft-3", step=26, steps=60, values={"loss": 1.0}))
    card.get_by_text("26 of 60").wait_for()
    (folder / "log.txt").write_text("the end is near\n")
    card.get_by_text("the end is near").wait_for(timeout=6000)
    assert page.evaluate("document.activeElement.textContent") == "Log"
    assert page.evaluate("window.hacked") is None


def test_one_job_is_stopped_and_no_other(site: Site, http: httpx.Client, visit):
    name, log = site.session(lively)
    folders = {job: job_folder(site, name, job) for job in ("sft-3", "sft-4")}
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Jobs").click()
    card = page.get_by_role("region", name="sft-4")
    card.get_by_role("button", name="Stop").click()
    assert not cancel_file(folders["sft-4"]).exists(), "the first press asks"
    page.screenshot(path=SHOTS / "jobs_stop.png")
    card.get_by_role("button", name="Stop it now?").click()
    card.get_by_text("Stopping").wait_for()
    until = time.monotonic() + 5
    while not cancel_file(folders["sft-4"]).exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert cancel_file(folders["sft-4"]).exists() and not cancel_file(folders["sft-3"]).exists()
    page.locator(".feed .quiet", has_text="sft-4 is to stop, said local").wait_for()
    asked = story.last(log)
    assert (asked.kind, asked.what, asked.job, asked.by) == ("requested", "stop_job", "sft-4", "local")
    log.append(e.Ended(job="sft-4", state="cancelled", seconds=1.0))
    card.get_by_text("Cancelled").wait_for()
    assert card.get_by_role("button", name="Stop").count() == 0


def test_a_stop_is_refused_in_one_sentence(site: Site, http: httpx.Client, space: Site):
    name, _ = site.session(lively)
    at = f"/api/sessions/{name}/jobs"
    assert http.post(f"{at}/sft-2/stop", json={}).status_code == 409  # it has ended
    for strange in ("sft-9", "..%2f..", "a%00b"):
        assert http.post(f"{at}/{strange}/stop", json={}).status_code in (404, 405), strange
    job_folder(site, name, "sft-3")
    plain = {"content-type": "text/plain"}
    assert http.post(f"{at}/sft-3/stop", content="{}", headers=plain).status_code == 415
    assert http.post(f"{at}/sft-3/stop", json={}, headers={"origin": "https://evil.example"}).status_code == 403
    assert not cancel_file(site.settings.sessions / name / "jobs" / "sft-3").exists()
    other, _ = space.session(lively)
    assert httpx.post(f"{space.url}/api/sessions/{other}/jobs/sft-3/stop", json={}).status_code == 403


def test_a_job_whose_folder_leads_out_is_not_touched(site: Site, http: httpx.Client, tmp_path: Path):
    name, _ = site.session(lively)
    jobs = site.settings.sessions / name / "jobs"
    jobs.mkdir(exist_ok=True)
    (tmp_path / "log.txt").write_text("not yours")
    (jobs / "sft-3").symlink_to(tmp_path)
    assert http.post(f"/api/sessions/{name}/jobs/sft-3/stop", json={}).status_code == 404
    assert http.get(f"/api/sessions/{name}/jobs/sft-3/log").json()["text"] == ""
    assert not cancel_file(tmp_path).exists()


@pytest.mark.slow
def test_a_report_that_is_written_again_and_one_that_failed_once_are_read_again(site: Site, visit):
    name, log = site.session(lively)
    report = log.path.parent / "report.md"
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Report").click()
    page.get_by_text("There is no report yet").wait_for()
    log.append(e.Published(what="report", where="report.md"), e.Closed(outcome="done", reason="ok"))
    page.locator(".slot > .empty").wait_for()  # the file is not there: a fetch that fails
    report.write_text("# The first")
    page.get_by_role("heading", name="The first").wait_for()
    page.wait_for_timeout(10_000)  # every look at it is over
    log.append(*(e.Ended(job=job, state="cancelled", seconds=1.0) for job in ("sft-3", "sft-4")))
    page.wait_for_timeout(1000)
    report.write_text("# The second")  # a moment after the last fact, as the session does
    page.get_by_role("heading", name="The second").wait_for()


def test_a_replay_offers_no_stop_no_log_no_files_and_no_trackio(site: Site, visit):
    name, log = site.session(lively)
    log.append(e.Shared(public=True))
    asked = []
    page = visit(f"{site.url}/?replay={name}&speed=max")
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_role("region", name="sft-3").wait_for()
    assert page.get_by_role("button", name="Stop").count() == 0
    assert page.locator(".job-config:not([hidden])", has_text="Log").count() == 0
    assert page.get_by_role("tab", name="Files").count() == 0
    assert page.get_by_text("Open in Trackio").count() == 0
    assert [url for url in asked if "/api/" in url] == []


def test_the_link_leads_to_the_sessions_project(site: Site, visit):
    name, _ = site.session(lively)
    page = visit(f"{site.url}/?session={name}")
    link = page.get_by_role("link", name="Open in Trackio")
    link.wait_for()
    assert link.get_attribute("href") == f"/trackio/?project={name}"
    assert link.get_attribute("rel") == "noopener" and link.get_attribute("target") == "_blank"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 1400), (390, 844)])
def test_the_panel_is_drawn(site: Site, visit, theme: str, width: int, height: int):
    name, _ = site.session(lively)
    job_folder(site, name, "sft-3", log_txt="loading\n")
    page = visit(f"{site.url}/?session={name}&__theme={theme}", width, height)
    if width < 500:
        page.get_by_role("button", name="Work").click()
    ready(page, "Values as a table")
    page.get_by_text("Values as a table").click()
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS / f"panel_{theme}_{width}.png")
    page.locator(".pane:not([hidden])").evaluate("p => p.scrollTop = p.scrollHeight")
    page.wait_for_timeout(150)
    page.screenshot(path=SHOTS / f"panel_end_{theme}_{width}.png")
    page.get_by_role("tab", name="Jobs").click()
    page.wait_for_timeout(200)
    page.screenshot(path=SHOTS / f"jobs_{theme}_{width}.png")
    assert page.locator("body").evaluate("b => b.scrollWidth <= innerWidth && b.scrollHeight <= innerHeight")
    for pane in ("Live", "Jobs"):
        page.get_by_role("tab", name=pane).click()
        assert page.locator(".pane:not([hidden])").evaluate("p => p.scrollWidth <= p.clientWidth"), pane
