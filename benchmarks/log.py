"""What the log costs as a session grows: `python -m benchmarks.log [--facts 100 1000 10000]`.

One run, one table: append (with and without a flush to the disk), reload, full fold, and one more step (append, read in
a second process's stead, fold, messages) at each size. The last column is the ratio to the smallest size: flat is good.
Then the delay from an append in one process to a follower in another.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

from agent.context import Context
from record.events import Budget, Call, Event, Finished, Goal, Launched, Opened, Progressed, Replied, Said, Started
from record.journal import Journal
from record.log import Log

STEPS = 50  # repetitions of the one more step


def facts(count: int) -> list[Event]:
    """A session of `count` facts: turns of four facts, each with a run of 36 metrics behind it."""
    goal = Goal(text="Make it better", task="chains", model="starter", target=0.9)
    made: list[Event] = [Opened(session="benchmark", goal=goal, budget=Budget(hours=1), driver="autopilot")]
    turn = 0
    while len(made) < count:
        turn += 1
        call, job = f"c{turn}", f"sft-{turn}"
        made += [
            Replied(text="Next idea", calls=(Call(id=call, name="train", arguments={"lr": 0.001}),), model="m"),
            Started(call=call, name="train", arguments={"lr": 0.001}),
            Launched(
                job=job, recipe="sft", config={"lr": 0.001}, machine="cpu", hours=1, call=call, folder=f"jobs/{job}"
            ),
            Finished(call=call, name="train", ok=True, output='{"job": "sft"}', seconds=0.1),
        ]
        made += [
            Progressed(job=job, step=i, steps=36, values={"loss": 1.0 / i, "grad_norm": 0.5}) for i in range(1, 37)
        ]
    return made[:count]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(count: int, folder: Path) -> dict[str, float]:
    """Microseconds an append, milliseconds for the rest."""
    path = folder / f"{count}.jsonl"
    log, made = Log(path), facts(count)
    seconds = timed(lambda: [log.append(fact) for fact in made])
    flushed = [timed(lambda: log.append(Said(text="hello"))) for _ in range(STEPS)]
    reader, journal = Log(path), None
    reload = timed(reader.refresh)

    def fold() -> None:
        nonlocal journal
        journal = Journal(reader)
        assert journal.views.opened

    folded = timed(fold)
    context = Context(reader)
    messages = timed(context.messages)

    def step() -> None:
        log.append(Progressed(job="sft-1", step=1, values={"loss": 1.0}))
        assert journal and journal.views.spent.replies and context.messages()

    steps = [timed(step) for _ in range(STEPS)]
    return {
        "append µs": seconds / count * 1e6,
        "append and flush µs": median(flushed) * 1e6,
        "reload ms": reload * 1e3,
        "fold ms": folded * 1e3,
        "messages ms": messages * 1e3,
        "one more step ms": median(steps) * 1e3,
    }


WRITER = """
import sys, time
from pathlib import Path
from record.events import Said
from record.log import Log
log = Log(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    time.sleep(0.02)
    log.append(Said(text=repr(time.time())))
"""


def follow_delays(folder: Path, count: int = 200) -> list[float]:
    """Milliseconds from just before an append in one process to the fact's arrival in another."""
    path = folder / "follow.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(count)])
    delays = [
        (time.time() - float(fact.text)) * 1e3 for fact in islice(Log(path).follow(), count) if isinstance(fact, Said)
    ]
    writer.wait()
    return delays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, nargs="+", default=[100, 1000, 10000])
    sizes = parser.parse_args().facts
    with tempfile.TemporaryDirectory() as name:
        rows = {size: measure(size, Path(name)) for size in sizes}
        delays = follow_delays(Path(name))
    print("| " + " | ".join(["facts", *rows[sizes[0]], "ratio of a step"]) + " |")
    print("|" + "---|" * (len(rows[sizes[0]]) + 2))
    for size, row in rows.items():
        ratio = row["one more step ms"] / rows[sizes[0]]["one more step ms"]
        print("| " + " | ".join([f"{size:,}", *(f"{value:.2f}" for value in row.values()), f"{ratio:.2f}"]) + " |")
    print(f"\nfollower in another process: p50 {median(delays):.1f} ms, p95 {quantiles(delays, n=20)[18]:.1f} ms")


if __name__ == "__main__":
    main()
