"""What a step of our loop costs beside a bare one: `python -m benchmarks.loop [--steps 300] [--rounds 2]`.

One run, in turns: our Session (log, gate, supervisor, all tools) and smolagents' own ToolCallingAgent with its
LiteLLMModel and one tool, as it comes and streaming, each in a process of its own, each on a fresh copy of the same
scripted chat server. A step is one answer with one call of `note`. Its overhead is the time from the last byte of an answer to the next request: wall
time less the server's own. "held over" is the share of a request's messages, in bytes, that repeat the beginning of the
request before, which is what a provider's prompt cache can serve. Memory is the process's peak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

from agent import settings as env
from agent.settings import ROOT
from agent.steering import say
from record.log import Log
from tests.chat.server import chat_server
from tests.chat.turns import Reply, Turn, says

EDGE = 50  # steps at either end that are compared: a flat loop costs the same at both
GOAL, GOAL_HELD = 0.5, 0.95  # of a bare step's overhead; share of bytes
MODEL = "openai/scripted"
PATIENCE = 1800.0  # seconds for one loop
QUIET = 35  # steps
NOTE = {"text": "Nothing has to be done here, and nothing is."}


@dataclass
class Run:
    """One loop, from its first request to its last."""

    overheads: list[float]  # ms, one a step
    held: float
    peak: float  # MB

    @property
    def first(self) -> float:
        return median(self.overheads[:EDGE])

    @property
    def last(self) -> float:
        return median(self.overheads[-EDGE:])


def ours(base: str, steps: int, home: str) -> None:
    """A whole session, opened and run as `python -m agent run` does."""
    from agent.session import Session
    from agent.sessions import Request

    settings = replace(env.read(), home=Path(home), api_base=base, keys={})
    request = Request(task="chains", driver=MODEL, calls=2 * steps + 10, hours=None)
    Session.open(settings, request).run()


def bare(base: str, steps: int, home: str, streams: bool = False) -> None:
    """smolagents as it comes."""
    from smolagents import LiteLLMModel, LogLevel, ToolCallingAgent, tool

    @tool
    def note(topic: str, text: str) -> str:
        """Note something that the person should find in the report.

        Args:
            topic: One or two words.
            text: The remark.
        """
        return json.dumps({"noted": topic})

    model = LiteLLMModel(model_id=MODEL, api_base=base, api_key="none")
    agent = ToolCallingAgent(
        tools=[note], model=model, max_steps=2 * steps, verbosity_level=LogLevel.OFF, stream_outputs=streams
    )
    agent.run("Make the model better.")


LOOPS: dict[str, Callable[[str, int, str], None]] = {
    "ours": ours,
    "bare smolagents": bare,
    "bare, streaming": partial(bare, streams=True),
}


def measure(name: str, steps: int, pieces: int) -> Run:
    """One loop in a process of its own, on a server here."""
    with tempfile.TemporaryDirectory() as home:
        script = [partial(step, i, pieces, Path(home)) for i in range(steps)]
        return _measured(name, steps, [*script, says("", ("final_answer", {"answer": "Done."})), says("Done.")], home)


def step(number: int, pieces: int, home: Path) -> Reply:
    """One answer. Now and then a person says something, or our loop would find that nothing new comes."""
    if number % QUIET == QUIET - 1:
        for path in home.glob("sessions/*/events.jsonl"):
            say(Log(path), "Go on.")
    return says("Next.", ("note", NOTE | {"topic": f"step {number}"}), pieces=pieces)


def _measured(name: str, steps: int, script: Sequence[Turn | Callable[[], Turn]], home: str) -> Run:
    with chat_server(script) as server:
        command = [sys.executable, "-m", "benchmarks.loop", "--loop", name, "--base", server.base]
        child = subprocess.run(
            [*command, "--steps", str(steps), "--home", home],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
    spans = server.spans[: steps + 1]
    if len(spans) <= steps:
        sys.exit(f"The loop {name!r} made {len(spans)} requests of at least {steps + 1}; run it by itself to see why.")
    overheads = [(after[0] - before[1]) * 1e3 for before, after in pairwise(spans)]
    return Run(overheads, held_over(server.requests[: steps + 1]), float(child.stdout.split()[-1]))


def held_over(requests: list[dict[str, Any]]) -> float:
    """Share of all bytes of messages, from the second request on, that the request before began with, too."""
    texts = ["".join(map(json.dumps, request["messages"])) for request in requests]
    return sum(shared(*pair) for pair in pairwise(texts)) / sum(map(len, texts[1:]))


def shared(one: str, other: str) -> int:
    """How far two texts are the same."""
    return bisect_left(range(min(len(one), len(other)) + 1), True, key=lambda n: one[:n] != other[:n]) - 1


def peak() -> float:
    """The most memory this process has held, in MB. (`getrusage` would count its parent's, too.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def table(runs: dict[str, list[Run]]) -> str:
    """A row for each loop and one of ratios; medians over a loop's steps, means over its rounds."""
    rows = {
        name: [
            mean(median(run.overheads) for run in made),
            mean(quantiles(run.overheads, n=20)[18] for run in made),
            mean(run.first for run in made),
            mean(run.last for run in made),
            mean(run.last / run.first for run in made),
            mean(run.held for run in made) * 100,
            mean(run.peak for run in made),
        ]
        for name, made in runs.items()
    }
    us, other = rows["ours"], rows["bare smolagents"]
    rows["ours / bare"] = [a / b for a, b in zip(us, other, strict=True)]
    heads = ["ms a step", "p95", f"first {EDGE}", f"last {EDGE}", "last / first", "held over %", "peak MB"]
    lines = ["| " + " | ".join(["loop", *heads]) + " |", "|" + "---|" * (len(heads) + 1)]
    lines += ["| " + " | ".join([name, *(f"{value:.2f}" for value in row)]) + " |" for name, row in rows.items()]
    share, held = us[0] / other[0], us[5] / 100
    verdicts = [
        f"overhead {share:.2f} of a bare step's (goal: at most {GOAL}): {_said(share <= GOAL)}",
        f"last {EDGE} steps / first {EDGE}: {us[4]:.2f} (bare: {other[4]:.2f})",
        f"held over {held:.1%} (goal: at least {GOAL_HELD:.0%}): {_said(held >= GOAL_HELD)}",
    ]
    return "\n".join([*lines, "", *verdicts])


def _said(met: bool) -> str:
    return "met" if met else "NOT met"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help=f"at least {2 * EDGE}")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pieces", type=int, default=3, help="in which a streamed answer comes")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    parser.add_argument("--home", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.steps < 2 * EDGE:
        parser.error(f"--steps is {told.steps}; give at least {2 * EDGE}, so that the ends can be compared")
    if told.loop:
        env.quiet_libraries()
        LOOPS[told.loop](told.base, told.steps, told.home)
        return print(f"{peak():.1f}")
    runs: dict[str, list[Run]] = {name: [] for name in LOOPS}
    for _ in range(told.rounds):
        for name, made in runs.items():
            made.append(measure(name, told.steps, told.pieces))
    print(table(runs))


if __name__ == "__main__":
    main()
