"""A session from its goal to its report: the whole demo through the command line, and its beginning and its end through
the page in a real Chromium while the process that drives it is killed. Both must tell the same story."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import pytest

from agent.settings import ROOT, Settings
from lab.backend import read_json
from lab.backends.runner import run_file
from lab.processes import alive
from record.events import Ended, Event, Launched, Progressed, Promoted
from record.journal import Journal
from record.log import Log
from record.views import Views
from tests.conftest import cli_environment, free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # a loaded machine trains several times slower
MINUTES = 60.0
WATCHED = ("progressed", "ended", "found")  # what the supervisor writes beside the agent


def story(facts: Sequence[Event]) -> list[tuple]:
    """What happened, without the when and how long: kinds, jobs, calls, verdicts and scores, in order.

    The supervisor writes what jobs do beside what the agent does, so each of the two is told by itself.
    """
    agent = [_told(f) for f in facts if f.kind not in WATCHED]
    jobs = sorted(_told(f) for f in facts if f.kind in WATCHED)
    return agent + jobs


def up_to_the_first_verdict(facts: Sequence[Event]) -> Sequence[Event]:
    return facts[: 1 + next(i for i, f in enumerate(facts) if isinstance(f, Promoted))]


def after_the_last_verdict(facts: Sequence[Event]) -> list[str]:
    """The kinds of what the agent does, whatever its best model is called."""
    last = max(i for i, f in enumerate(facts) if isinstance(f, Promoted))
    return [f.kind for f in facts[last + 1 :] if f.kind not in WATCHED]


def _told(fact: Event) -> tuple:
    keep = {
        "kind",
        "job",
        "name",
        "call",
        "ok",
        "recipe",
        "step",
        "state",
        "verdict",
        "split",
        "value",
        "n",
        "level",
        "rule",
    }
    plain = fact.model_dump(include=keep)
    return tuple(f"{key}={plain[key]}" for key in sorted(plain))


@contextmanager
def process(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen]:
    """A process of ours on the test's home; killed at the end with its children, trainers included."""
    started = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=cli_environment(settings))
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()


@pytest.fixture(scope="module")
def told_by_the_command_line(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], str, float]:
    """The demo, headless: its facts, its report, and the most memory that all its processes had together, in GiB."""
    home = tmp_path_factory.mktemp("cli")
    environment = dict(os.environ) | {"ML_INTERN_HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "demo"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as demo:
        peak = 0
        while demo.poll() is None:
            peak = max(peak, _memory(demo.pid))
            time.sleep(0.5)
        assert demo.returncode == 0, demo.stdout.read()  # type: ignore[union-attr]
    (folder,) = (home / "sessions").iterdir()
    log = Log(folder / "events.jsonl")
    log.refresh()
    return list(log), (folder / "report.md").read_text(), peak / 2**30


def test_the_demo_makes_the_model_better_and_its_report_proves_it(told_by_the_command_line):
    facts, report, peak = told_by_the_command_line
    views = Views(facts)
    base, best = views.score("base", "heldout"), views.score(views.best, "heldout")
    assert views.closed and views.closed.outcome == "done"
    assert base and best and views.best != "base"
    assert min(base.n, best.n) >= 300
    assert best.low > base.high and best.value >= 0.9
    verdicts = {p.verdict for p in views.promotions}
    assert verdicts == {"keep", "discard"}
    assert all(p.reason for p in views.promotions)
    assert peak <= 3
    for score in views.scores:
        assert f"[{score.items}]({score.items})" in report
    printed = re.findall(r"\d\.\d{3}", report.split("## Ideas tried")[0])
    measured = {f"{v:.3f}" for s in views.scores for v in (s.value, s.low, s.high)}
    assert set(printed) <= measured  # no number of the report comes from anywhere else


def test_the_page_tells_the_same_story_through_a_killed_worker_a_reload_and_in_two_tabs(
    settings, browser, told_by_the_command_line
):
    """The target is one that the first idea reaches: what the second and third add, the command line has shown."""
    port = free_port()
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    with process(settings, "app.py", "--port", str(port)) as app:
        until(lambda: _answers(page, port), MINUTES)
        page.get_by_role("button", name="New session").click()
        page.get_by_label("What do you want?").fill("Make it solve some chains.")
        page.get_by_label("Target").fill("0.02")
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**session=**")
        session = page.url.split("session=")[1].split("&")[0]
        folder = settings.sessions / session
        journal = Journal(Log(folder / "events.jsonl"))
        until(lambda: journal.views.jobs.get("sft-1") and journal.views.jobs["sft-1"].step >= 20, 3 * MINUTES)
        trainer = read_json(run_file(folder / "jobs" / "sft-1"))["trainer"]
        workers = [child.pid for child in psutil.Process(app.pid).children()]
        os.kill(workers[0], signal.SIGKILL)
        assert alive(trainer)  # it goes on by itself
        page.reload()
        other = context.new_page()
        other.goto(page.url)
        until(lambda: journal.views.closed, 8 * MINUTES)
        assert read_json(run_file(folder / "jobs" / "sft-1"))["trainer"] == trainer  # adopted, not started again
        assert psutil.Process(app.pid).children()[0].pid not in workers
        score = journal.views.score(journal.views.best, "heldout")
        assert score
        for tab in (page, other):
            tab.get_by_text("Done", exact=True).first.wait_for(timeout=15_000)
            assert f"{score.value:.3f}" in tab.inner_text("body")
        until(lambda: page.inner_text("body") == other.inner_text("body"), 15)
        page.screenshot(path=ROOT / "tests" / "shots" / "story.png")
    context.close()
    facts = list(journal.log)
    launched = [f.job for f in facts if isinstance(f, Launched)]
    assert len(launched) == len(set(launched)) == sum(isinstance(f, Ended) for f in facts)
    steps = [(f.job, f.step, tuple(sorted(f.values))) for f in facts if isinstance(f, Progressed)]
    assert len(steps) == len(set(steps))
    whole = told_by_the_command_line[0]
    assert story(up_to_the_first_verdict(facts)) == story(up_to_the_first_verdict(whole))
    assert after_the_last_verdict(facts) == after_the_last_verdict(whole)


def _memory(pid: int) -> int:
    """Resident bytes of a process and all that it started."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _answers(page, port: int) -> bool:
    from playwright.sync_api import Error

    try:
        page.goto(f"http://127.0.0.1:{port}/")
    except Error:
        return False
    return True
