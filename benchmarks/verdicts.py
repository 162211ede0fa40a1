"""How well the rules of lab.diagnose tell the recorded runs of benchmarks.gallery apart, and all of them in one table.

python -m benchmarks.verdicts    replay what is recorded; print precision and recall, write docs/diagnosis.md
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gallery import CASES, HEALTHY, ROOT, RUNS, SEEDS
from lab.backend import JobSpec, Point
from lab.diagnose import RULES, diagnose
from lab.rules import Life

PAGE = """# What is said of a running job, and how often it is right

The supervisor reads a job's metrics as they come and puts them to the rules of `lab/diagnose.py`. A `stop` keeps the best
checkpoint as the job's model, ends the job and wakes the agent; a `warn` wakes the agent. Thresholds marked [H] are ours.

## On real runs

`python -m benchmarks.gallery` trains these runs on a CPU, broken ones on purpose, and `python -m benchmarks.verdicts`
replays them line by line and writes this page. A finding counts when it has the right rule and level within the
allowed number of log lines (0: before the first step). Everything else that was said of any run is in the last column.
The thresholds were set while looking at these very runs, so the numbers describe them and promise nothing: the models
are tiny (0.5 to 0.9 million parameters) and the runs short. {seeds}

{results}

## The rules

A number is in the unit that the second column says. Tests with curves made by hand hold what no recorded run
shows: {unseen}.

{rules}
"""


@dataclass(frozen=True)
class Run:
    """A recorded run."""

    case: str
    seed: int
    spec: JobSpec
    probe: dict[str, Any]
    points: list[Point]
    life: Life


def read_run(path: Path) -> Run:
    head, *lines = map(json.loads, path.read_text().splitlines())
    points = [Point(row.pop("step"), row, row.pop("steps"), row.pop("at")) for row in lines]
    points = [replace(p, values={name: float(value) for name, value in p.values.items()}) for p in points]
    return Run(
        head["case"],
        head["seed"],
        JobSpec(path.stem, "sft", head["config"], path),
        head["probe"],
        points,
        Life(**head["life"]),
    )


def replay(run: Run) -> dict[tuple[str, str], int]:
    """(rule, level) of every finding, and after how many log lines it came: as the supervisor meets them, line by line."""
    found: dict[tuple[str, str], int] = {}
    for seen in range(len(run.points) + 1):
        last = seen == len(run.points)
        for finding in diagnose(run.points[:seen], run.spec, run.probe, run.life if last else None):
            found.setdefault((finding.rule, finding.level), seen)
    return found


def seeds() -> str:
    """How often each kind was run."""
    broken = Counter(len(case.seeds) for case in CASES.values() if case.broken)
    said = ", ".join(f"{kinds} with {n} seed{'s' * (n > 1)}" for n, kinds in sorted(broken.items()))
    return f"Each of the {len(HEALTHY)} healthy kinds was run with {len(SEEDS)} seeds; of the {broken.total()} broken ones {said}."


def results() -> str:
    """Every case with what was found on its runs, and the rates with their n."""
    lines = [
        "| run | seeds | must be found | found in time | after log lines (allowed) | also found |",
        "|---|---|---|---|---|---|",
    ]
    hits = broken = right = wrong = quiet = healthy = 0
    for case in CASES.values():
        found = [replay(read_run(path)) for path in sorted(RUNS.glob(f"{case.name}-[0-9].jsonl"))]
        after = [seen[case.rule, case.level] for seen in found if (case.rule, case.level) in seen]
        serious = Counter(key for seen in found for key in seen if key[1] != "info")
        others = {key: count for key, count in serious.items() if key[0] != case.rule}
        right += sum(count for key, count in serious.items() if key[0] in (case.rule, *case.also))
        wrong += sum(count for key, count in others.items() if key[0] not in case.also)
        in_time = sum(line <= case.within for line in after)
        if case.broken:
            hits, broken = hits + in_time, broken + len(found)
        else:
            healthy, quiet = (
                healthy + len(found),
                quiet + sum(all(level == "info" for _, level in seen) for seen in found),
            )
        when = f"{min(after)}–{max(after)} ({case.within})" if after else "–"
        must = (f"`{case.rule}`, {case.level}", in_time, when) if case.broken else ("nothing", "–", "–")
        said = ", ".join(
            f"`{rule}` ({level}) × {n}{'' if rule in case.also else ' **wrong**'}"
            for (rule, level), n in others.items()
        )
        lines.append(f"| {case.name} | {len(found)} | {' | '.join(map(str, must))} | {said or '–'} |")
    rates = (
        f"- **Recall**: {hits} of {broken} broken runs were found, by their rule, at their level, in time.",
        f"- **Precision**: {right} of {right + wrong} warnings and stops on all {broken + healthy} runs name what is wrong there.",
        f"- **Healthy runs** without any warning: {quiet} of {healthy}; with a stop: {healthy_stops()} of {healthy}.",
    )
    return "\n".join([*lines, "", *rates])


def healthy_stops() -> int:
    names = {case.name for case in HEALTHY}
    runs = [read_run(path) for path in RUNS.glob("*.jsonl") if path.stem.rpartition("-")[0] in names]
    return sum(any(level == "stop" for _, level in replay(run)) for run in runs)


def unseen() -> str:
    """Rules that found nothing on any recorded run."""
    found = {rule for path in RUNS.glob("*.jsonl") for rule, _ in replay(read_run(path))}
    return ", ".join(f"`{rule.name}`" for rule in RULES if rule.name not in found)


def rule_table() -> str:
    """The table of lab.diagnose for people; units are in the first sentence of each measure."""
    lines = [
        "| rule | says | stop from (log lines) | warn from | info from | source | advice |",
        "|---|---|---|---|---|---|---|",
    ]
    for rule in RULES:
        limits = [
            f"{rule.limits[level][0]:g} ({rule.limits[level][1]})" if level in rule.limits else ""
            for level in ("stop", "warn", "info")
        ]
        maker = getattr(import_module(rule.measure.__module__), rule.measure.__qualname__.split(".")[0])
        unit = maker.__doc__.strip().split("\n")[0]
        lines.append(f"| `{rule.name}` | {unit} | {' | '.join(limits)} | {rule.source} | {rule.advice} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(results())
    (ROOT / "docs" / "diagnosis.md").write_text(
        PAGE.format(seeds=seeds(), results=results(), unseen=unseen(), rules=rule_table())
    )
