"""Facts as a report for people, in Markdown. Pure. Every score is a sealed one; what is not known is said to be unknown."""

from collections.abc import Sequence
from typing import Any

from record.events import Event, Opened, Promoted, Scored
from record.views import Job, Views
from record.words import duration, task_text

WORDS = {
    "done": "finished",
    "needs_person": "waits for a person",
    "out_of_budget": "ended by its budget",
    "provider_failed": "ended: the model's provider failed",
    "stopped": "stopped by a person",
    "failed": "ended by an error of ours",
}

_UNCHECKED = "Written by what drove the session, and not checked: numbers that count stand under Scores."


def report(facts: Sequence[Event]) -> str:
    """The whole report of a session. `facts` begin with Opened."""
    views = Views(facts)
    opened = views.opened
    assert opened, "a session's first fact is Opened"
    parts = [
        f"# {_inline(opened.goal.text)}",
        _outcome(views, opened),
        _scores(views),
        _ideas(views),
        _forecasts(views),
        _data(views),
        _findings(views),
        _notes(views),
        _words(views),
        _spent(views, facts),
        _provenance(views, opened),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def score_text(score: Scored) -> str:
    """A score with its interval and n."""
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}], n = {score.n}"


def _outcome(views: Views, opened: Opened) -> str:
    closed = None if views.active else views.closed
    state = f"**{WORDS[closed.outcome].capitalize()}.**" if closed else "**Still running.**"
    if closed and closed.outcome != "done":  # then the reason is ours; of a finished session it is the driver's words
        state += f" {_inline(closed.reason)}"
    base, best = views.score("base", "heldout"), views.score(views.best, "heldout")
    lines = [
        state,
        "",
        f"Task {task_text(opened.goal.task)}, metric {opened.goal.metric}, base model `{opened.goal.model}`.",
    ]
    if best is None or base is None:
        lines.append("There is no held-out score of both the base and the best model: nothing is claimed here.")
    elif (base.seal.judge, base.seal.split) != (best.seal.judge, best.seal.split):
        lines.append(
            "The base and the best model were measured by different judges or on different items: "
            "their scores below cannot be compared, and nothing is claimed here."
        )
        return "\n".join(lines)
    elif views.best == "base":
        lines.append(f"No candidate was better than the base model, which has {score_text(base)} on held-out items.")
    else:
        apart = "do not overlap" if best.low > base.high or best.high < base.low else "overlap"
        lines.append(
            f"On held-out items the best model, `{views.best}`, has **{score_text(best)}**; "
            f"the base model has **{score_text(base)}**. The 95 % intervals {apart}."
        )
    if opened.goal.target is not None and best is not None:
        word = "reached" if best.value >= opened.goal.target else "missed"
        lines.append(f"The target of {opened.goal.target:g} is {word}.")
    return "\n".join(lines)


def _scores(views: Views) -> str:
    if not views.scores:
        return "## Scores\n\nNothing was measured."
    rows = []
    for s in views.scores:
        share = "unknown" if s.finished_share is None else f"{s.finished_share:.0%}"
        seal = f"judge `{s.seal.judge[:8]}` split `{s.seal.split[:8]}` model `{s.seal.model[:8]}`"
        link, interval = f"[{s.items}]({s.items})", f"{s.low:.3f} to {s.high:.3f}"
        rows.append((s.model, s.split, f"{s.value:.3f}", interval, s.n, share, link, seal))
    table = as_table("model | split | accuracy | 95 % interval | n | ended by itself | items | seal", rows)
    why = "Accuracy with its Wilson interval, each by the sealed judge. Models were chosen on dev; held-out items chose nothing."
    return f"## Scores\n\n{table}\n\n{why}"


def _ideas(views: Views) -> str:
    rows = [
        (p.model, cell(p.idea), f"**{p.verdict}**", p.against, _change(p), cell(p.reason)) for p in views.promotions
    ]
    table = as_table("model | idea | verdict | against | change on dev | why", rows)
    return f"## Ideas tried\n\n{table}" if rows else ""


def _change(p: Promoted | None) -> str:
    if p is None or p.delta is None or p.low is None or p.high is None:
        return "not measured"
    return f"{p.delta:+.3f} [{p.low:+.3f}, {p.high:+.3f}]"


def _forecasts(views: Views) -> str:
    """What was expected of each training job before it ran, beside what came."""
    judged = {p.model: p for p in views.promotions}
    rows = []
    for job in views.jobs.values():
        if job.expects:
            delta, hours = job.expects.delta, job.expects.hours
            expected = "not known" if hours is None else duration(hours * 3600)
            change = _change(judged.get(job.id))
            rows.append((job.id, cell(job.idea), f"{delta:+.3f}", change, expected, duration(job.seconds)))
    table = as_table("model | idea | expected on dev | measured on dev | run time expected | run time used", rows)
    return f"## Forecasts\n\n{table}" if rows else ""


def _data(views: Views) -> str:
    rows = []
    for made in (note.details for note in views.notes if note.topic == "data" and "sha256" in note.details):
        share = "n/a" if made["worked_share"] is None else f"{made['worked_share']:g}"
        left_out = made["dropped_duplicates"], made["dropped_contaminated"]
        rows.append((cell(made["file"]), made["rows"], share, *left_out, f"`{made['sha256'][:12]}`"))
    table = as_table("file | rows | worked share | left out: duplicates | left out: evaluation items | sha256", rows)
    return f"## Data\n\n{table}" if rows else ""


OUTSIDE = {"provider": "the driver's model", "mcp": "a server"}  # rules that are not about a job or its data


def _findings(views: Views) -> str:
    lines = [
        f"- **{f.level}** {f.job or OUTSIDE.get(f.rule, 'preflight')}, {f.rule}: {_inline(f.what)} {_inline(f.advice)}"
        for f in views.findings
    ]
    return "## Findings of the lab\n\n" + "\n".join(lines) if lines else ""


def _notes(views: Views) -> str:
    """Remarks of the driver. Those of the lab carry details, and stand in a table of their own."""
    lines = [f"- *{_inline(n.topic)}*: {_inline(n.text)}" for n in views.notes if not n.details]
    return f"## Notes of the driver\n\n{_UNCHECKED}\n\n" + "\n".join(lines) if lines else ""


def _words(views: Views) -> str:
    if views.active or not views.closed or views.closed.outcome != "done":
        return ""
    return f"## The driver's own summary\n\n{_UNCHECKED}\n\n> {_inline(views.closed.reason)}"


def _spent(views: Views, facts: Sequence[Event]) -> str:
    spent, closed = views.spent, None if views.active else views.closed
    clock = duration(views.elapsed_s(closed.at if closed else facts[-1].at))
    unpriced = f" and {spent.unpriced} model calls of unknown price" if spent.unpriced else ""
    priced = f"${spent.dollars:.2f}{unpriced}"
    text = f"## Spent\n\nWall clock {clock}; jobs {duration(spent.job_seconds)}; {priced}; {spent.tokens:,} tokens."
    table = as_table("job | what | machine | steps | run time | ended", [_job(job) for job in views.jobs.values()])
    return f"{text}\n\n{table}" if views.jobs else text


def _job(job: Job) -> tuple[Any, ...]:
    why = f": {job.ended.reason}" if job.ended and job.ended.reason else ""
    again = f" (attempt {job.attempt})" if job.attempt > 1 else ""
    name, ended = f"{job.id}{again}", cell(f"{job.state}{why}")
    return name, cell(job.idea), job.machine, job.step, duration(job.seconds), ended


def _provenance(views: Views, opened: Opened) -> str:
    return (
        f"## How this was made\n\nSession `{opened.session}`, opened {opened.at:%Y-%m-%d %H:%M} UTC, seed {opened.seed}, "
        f"driven by {driven_by(views)}. Every number above is folded from `events.jsonl` in this folder; the settings of each job "
        f"stand in `jobs/<job>/config.json`."
    )


def as_table(columns: str, rows: Sequence[Sequence[Any]]) -> str:
    """A table of Markdown. Cells are given as they shall stand there; a stranger's text goes through `cell`."""
    lines = [columns, " | ".join("---" for _ in columns.split(" | ")), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def driven_by(views: Views) -> str:
    """Everybody who drove the session."""
    return " and ".join(_driver(name) for name in dict.fromkeys(views.drivers))


def _driver(name: str) -> str:
    return "Autopilot, a fixed policy without a language model" if name == "autopilot" else f"the model {_inline(name)}"


def _inline(text: str) -> str:
    """Text as one line that cannot start markup of its own."""
    return " ".join(text.split()).replace("<", "&lt;").replace("[", "\\[").replace("`", "'")


def cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")
