"""What the transcript costs as a session grows: `python -m benchmarks.feed [--facts 100 1000 5000 10000]`.

Opens sessions in a real Chromium and prints, for each size, milliseconds:
open     from the navigation until the end of the transcript is painted and in view (the page's own start included)
filled   the same, from the moment at which the page's script asked for the facts
new p50, p95     from the message with a new fact to the frame that shows it (what the page takes)
seen p50, p95    from the append to the log to that frame (the server's poll and coalescing included)
longest  the longest main-thread task while new facts came; `at open` the longest while the session opened
With --feed-only the right pane is an empty one, so that the figures are the transcript's own.
Every size gets a fresh browser profile. The clock is that of this machine: run it with nothing else on.
"""

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles

import uvicorn
from playwright.sync_api import Browser, sync_playwright

from record import events as e
from record.log import Log
from tests.conftest import QUIET
from tests.ui import long
from tests.ui.conftest import own_settings

NEWS = 30  # new facts a size, each waited for
WATCH = """
window.tasks = [];
new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((t) => [t.startTime, t.duration]))).observe({ type: "longtask", buffered: true });
const Own = EventSource;
window.EventSource = class extends Own {
  constructor(...given) { super(...given); window.asked ??= performance.now(); this.addEventListener("message", () => (window.heard = performance.now())); }
};
window.shown = (text) => new Promise((done) => {
  const look = () => {
    const scroller = document.querySelector(".scroller");
    const list = document.querySelector(".feed");
    const there = list && !list.hidden && list.lastElementChild?.textContent.includes(text);
    if (there && scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 3) {
      requestAnimationFrame(() => setTimeout(() => done([performance.now(), Date.now()]), 0));
    } else requestAnimationFrame(look);
  };
  look();
});
"""


EMPTY = "export class Work { draw() {} show() {} }"


def measure(browser: Browser, url: str, name: str, log: Log, feed_only: bool) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    if feed_only:
        page.route("**/work.js", lambda route: route.fulfill(body=EMPTY, content_type="text/javascript"))
    log.append(e.Said(text="the very end"))
    page.goto(f"{url}/?session={name}", wait_until="commit")
    opened = page.evaluate("shown('the very end')")[0]
    asked = page.evaluate("window.asked")
    page.wait_for_timeout(1500)
    at_open = page.evaluate("Math.max(0, ...tasks.filter(([at]) => at > asked).map(([, took]) => took))")
    page.evaluate("tasks.length = 0")
    fresh, seen = [], []
    for number in range(NEWS):
        text = f"news {number}."
        waiting = f"window.wait = shown({text!r}).then(([mine, all]) => [mine - heard, all])"
        page.evaluate(f"() => {{ {waiting}; }}")
        started = time.time() * 1000
        kind = e.Said(text=text) if number % 2 else e.Replied(text=f"**{text}**", model="m")
        log.append(*(e.Progressed(job="sft-1", step=number, values={"loss": 1.0}) for _ in range(3)), kind)
        mine, when = page.evaluate("wait")
        fresh.append(mine)
        seen.append(when - started)
    longest = page.evaluate("Math.max(0, ...tasks.map(([, took]) => took))")
    context.close()
    return {
        "open": opened, "filled": opened - asked, "at open": at_open,
        "new p50": median(fresh), "new p95": quantiles(fresh, n=20)[-1],
        "seen p50": median(seen), "seen p95": quantiles(seen, n=20)[-1], "longest": longest,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, nargs="+", default=[100, 1000, 5000, 10_000])
    parser.add_argument("--feed-only", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, sync_playwright() as driver:
        settings = own_settings(Path(home))
        from ui.server import build_app  # Gradio reads the environment that own_settings has made quiet

        server = uvicorn.Server(uvicorn.Config(build_app(settings), port=settings.port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = driver.chromium.launch(executable_path=found, args=list(QUIET))
        for number, size in enumerate(given.facts):
            name = f"20260101-{number:06d}-long"
            log = Log(settings.sessions / name / "events.jsonl")
            (settings.sessions / name / "workspace").mkdir(parents=True)
            log.append(*long.session(name, size - 1))
            figures = measure(browser, f"http://127.0.0.1:{settings.port}", name, log, given.feed_only)
            if number == 0:
                print("  facts", *(f"{key:>9}" for key in figures))
            print(f"{size:7}", *(f"{value:9.0f}" for value in figures.values()), flush=True)
        browser.close()
        server.should_exit = True
        thread.join(timeout=5)


if __name__ == "__main__":
    main()
