"""From a fact to a pixel, and what a viewer costs: `python -m benchmarks.live [--quick]`, at most four minutes.

Our page and the two stock Gradio patterns, in one run on loopback, one server each. A writer in a process of its own
appends facts that carry their time. One real Chromium page says when each was painted (MutationObserver, the next
animation frame, and the task after it). The other viewers are plain HTTP clients in one more process, so that their
work is not counted as the server's; but all share this machine's cores. Server CPU is of one core, children included.
Then a page behind a wire that is cut for four seconds while facts go on: none may be lost, none shown twice.

"late" counts facts that were not painted 5 s after the last one was written; they are in no percentile.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import httpx
import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

from agent.settings import ROOT
from benchmarks.actors import PATTERNS, SESSION, old, opened
from record.log import Log
from tests.conftest import QUIET, free_port
from tests.ui.wire import Wire

RATE = 10  # facts a second
PATIENCE = 30.0  # seconds for a page, or for the viewers, to come up
GRACE = 5.0  # seconds after the last fact
CUT = 4.0  # seconds
WATCH = """
window.painted = [];
(() => {
  const seen = new Set();
  const look = (node) => {
    for (const [, t] of (node.textContent ?? "").matchAll(/t=(\\d{13}\\.\\d\\d)/g)) {
      if (seen.has(t)) continue;
      seen.add(t);
      requestAnimationFrame(() => setTimeout(() => painted.push([t, performance.timeOrigin + performance.now() - t]), 0));
    }
  };
  new MutationObserver((records) => {
    for (const record of records) {
      if (record.type === "characterData") look(record.target);
      else record.addedNodes.forEach(look);
    }
  }).observe(document, { childList: true, subtree: true, characterData: true });
})();
"""


@dataclass
class Case:
    """One row of the table."""

    pattern: str
    facts: int
    viewers: int
    delays: list[float]  # ms
    written: int
    doubled: int
    cpu: float  # percent of a core

    @property
    def late(self) -> int:
        return self.written - len(self.delays)

    def percentile(self, p: int) -> float:
        return quantiles(self.delays, n=100, method="inclusive")[p - 1] if len(self.delays) > 1 else float("nan")


@contextmanager
def actor(*arguments: str, **options) -> Iterator[subprocess.Popen]:
    """A process of benchmarks.actors, killed at the end together with its children."""
    command = [sys.executable, "-m", "benchmarks.actors", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def server(pattern: str, home: Path) -> Iterator[tuple[int, psutil.Process, Log]]:
    """A server of one pattern over a new log: its port, its process, and the log."""
    folder = home / "sessions" / SESSION
    (folder / "workspace").mkdir(parents=True)
    log, port = Log(folder / "events.jsonl"), free_port()
    log.append(opened())
    with actor("serve", pattern, str(home), str(port), stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid), log


def fill(log: Log, facts: int) -> None:
    """Let the log hold so many facts."""
    log.refresh()
    log.append(*(old(i) for i in range(len(log) + 1, facts + 1)))


def visit(browser: Browser, pattern: str, port: int, last: str) -> Page:
    """A fresh page that shows the whole past. Raises BrowserError when it does not come up."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.add_init_script(WATCH)
    page.goto(f"http://127.0.0.1:{port}/{f'?session={SESSION}' if pattern == 'sse' else ''}", timeout=PATIENCE * 1e3)
    page.wait_for_function("last => document.body.textContent.includes(last)", arg=last, timeout=PATIENCE * 1e3)
    page.wait_for_timeout(500)
    return page


def painted(page: Page, since: float, count: int) -> list[float]:
    """Milliseconds from fact to pixel of the facts written since then, once there are `count`, or after GRACE."""
    until = time.monotonic() + GRACE
    while True:
        found = [delay for t, delay in page.evaluate("window.painted") if float(t) >= since]
        if len(found) >= count or time.monotonic() > until:
            return found
        page.wait_for_timeout(100)


def doubled(page: Page) -> int:
    """How many facts the transcript shows more than once at the end."""
    text = page.evaluate("document.querySelector('.feed, [role=log], .chatbot')?.textContent ?? ''")
    return sum(n > 1 for n in Counter(re.findall(r"t=\d{13}\.\d\d", text)).values())


def cpu_s(process: psutil.Process) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children(recursive=True)))


def measure(
    browser: Browser, pattern: str, place: tuple[int, psutil.Process, Log], facts: int, viewers: int, seconds: float
) -> Case:
    """One row: write for some seconds, and see when it is painted and what the server works."""
    port, process, log = place
    fill(log, facts)
    size, count = len(log), int(seconds * RATE)
    others = [] if viewers == 1 else [actor("view", pattern, str(port), str(viewers - 1), stdout=subprocess.PIPE)]
    page = None
    with others[0] if others else actor("view", pattern, str(port), "0", stdout=subprocess.PIPE) as crowd:
        ready(crowd)
        try:
            page = visit(browser, pattern, port, log[-1].text.split(":")[0])
            used, start, since = cpu_s(process), time.monotonic(), time.time() * 1000
            with actor("write", str(log.path), str(count), str(RATE)) as writer:
                page.wait_for_timeout(seconds * 1e3)
                writer.wait(timeout=PATIENCE)
            cpu = (cpu_s(process) - used) / (time.monotonic() - start) * 100
            return Case(pattern, size, viewers, painted(page, since, count), count, doubled(page), cpu)
        except BrowserError:
            return Case(pattern, size, viewers, [], count, 0, float("nan"))
        finally:
            if page:
                page.context.close()


def ready(crowd: subprocess.Popen) -> None:
    """Wait until every viewer has got something; give up after PATIENCE, and measure with those who have."""
    assert crowd.stdout
    os.set_blocking(crowd.stdout.fileno(), False)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not crowd.stdout.read():
        time.sleep(0.05)


def cut(browser: Browser, pattern: str, place: tuple[int, psutil.Process, Log], seconds: float) -> Case:
    """The same through a wire that is cut for CUT seconds in the middle."""
    port, _, log = place
    log.refresh()
    size, count = len(log), int((seconds + CUT) * RATE)
    wire = Wire(port)
    page = visit(browser, pattern, wire.port, log[-1].text.split(":")[0])
    since = time.time() * 1000
    with actor("write", str(log.path), str(count), str(RATE)) as writer:
        page.wait_for_timeout(seconds / 2 * 1e3)
        wire.cut()
        page.wait_for_timeout(CUT * 1e3)
        wire.mend()
        writer.wait(timeout=PATIENCE)
    case = Case(pattern, size, 1, painted(page, since, count), count, doubled(page), 0.0)
    page.context.close()
    wire.close()
    return case


def table(cases: list[Case]) -> str:
    """Markdown. The ratios are to our own row of the same size and viewers."""
    ours = {(c.facts // 100, c.viewers): c for c in cases if c.pattern == "sse"}
    rows = [
        "| pattern | facts in the transcript | viewers | fact → pixel p50 ms | p95 ms | ratio of p95 | server CPU % | ratio | late | doubled |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in cases:
        base = ours.get((c.facts // 100, c.viewers))
        ratios = [c.percentile(95) / base.percentile(95), c.cpu / base.cpu] if base else [float("nan")] * 2
        numbers = [
            f"{c.percentile(50):.0f}",
            f"{c.percentile(95):.0f}",
            f"{ratios[0]:.1f}",
            f"{c.cpu:.0f}",
            f"{ratios[1]:.1f}",
        ]
        late = f"{c.late} of {c.written}" if c.late else "0"
        rows.append(
            "| "
            + " | ".join([PATTERNS[c.pattern], f"{c.facts:,}", str(c.viewers), *numbers, late, str(c.doubled)])
            + " |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke of half a minute")
    quick = parser.parse_args().quick
    seconds = 2.0 if quick else 5.0
    plan = [(100, 1), (100, 5)] if quick else [(100, 1), (200, 20), (300, 50), (1000, 1), (5000, 1)]
    start, cases = time.monotonic(), []
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        for pattern in PATTERNS:
            with server(pattern, Path(folder) / pattern) as place:
                cases += [measure(browser, pattern, place, facts, viewers, seconds) for facts, viewers in plan]
                if pattern == "sse":
                    through = cut(browser, pattern, place, seconds)
        browser.close()
    print(table(cases))
    print(
        f"\nA cut of {CUT:.0f} s with {through.facts:,} facts on the page: {through.written} written, {through.late} lost, "
        f"{through.doubled} shown twice, the longest delay {max(through.delays, default=float('nan')):.0f} ms."
    )
    print(
        f"{psutil.cpu_count()} cores, {RATE} facts a second, {seconds:.0f} s a row, {time.monotonic() - start:.0f} s in all."
    )


if __name__ == "__main__":
    main()
