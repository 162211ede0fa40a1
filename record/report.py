"""Facts as a report for people, in Markdown. Pure. Every score is a sealed one; what is not known is said to be unknown."""

from collections.abc import Sequence

from record.events import Event, Opened, Promoted, Scored
from record.views import Job, Views
from record.words import duration

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
    lines = [state, "", f"Task `{opened.goal.task}`, metric {opened.goal.metric}, base model `{opened.goal.model}`."]
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
    rows = [
        "| model | split | accuracy | 95 % interval | n | ended by itself | items | seal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in views.scores:
        share = "unknown" if s.finished_share is None else f"{s.finished_share:.0%}"
        seal = f"judge `{s.seal.judge[:8]}` split `{s.seal.split[:8]}` model `{s.seal.model[:8]}`"
        rows.append(
            f"| {s.model} | {s.split} | {s.value:.3f} | {s.low:.3f} to {s.high:.3f} | {s.n} | {share} "
            f"| [{s.items}]({s.items}) | {seal} |"
        )
    why = "Accuracy with its Wilson interval, each by the sealed judge. Models were chosen on dev; held-out items chose nothing."
    return "## Scores\n\n" + "\n".join(rows) + f"\n\n{why}"


def _ideas(views: Views) -> str:
    if not views.promotions:
        return ""
    rows = ["| model | idea | verdict | against | change on dev | why |", "|---|---|---|---|---|---|"]
    rows += [_idea(p) for p in views.promotions]
    return "## Ideas tried\n\n" + "\n".join(rows)


def _idea(p: Promoted) -> str:
    return f"| {p.model} | {_cell(p.idea)} | **{p.verdict}** | {p.against} | {_change(p)} | {_cell(p.reason)} |"


def _change(p: Promoted) -> str:
    if p.delta is None or p.low is None or p.high is None:
        return "not measured"
    return f"{p.delta:+.3f} [{p.low:+.3f}, {p.high:+.3f}]"


def _forecasts(views: Views) -> str:
    """What was expected of each training job before it ran, beside what came."""
    jobs = [job for job in views.jobs.values() if job.expects]
    if not jobs:
        return ""
    judged = {p.model: p for p in views.promotions}
    rows = [
        "| model | idea | expected on dev | measured on dev | run time expected | run time used |",
        "|---|---|---|---|---|---|",
    ]
    rows += [_forecast(job, judged.get(job.id)) for job in jobs]
    return "## Forecasts\n\n" + "\n".join(rows)


def _forecast(job: Job, judged: Promoted | None) -> str:
    assert job.expects
    hours = job.expects.hours
    expected = "not known" if hours is None else duration(hours * 3600)
    change = _change(judged) if judged else "not measured"
    return (
        f"| {job.id} | {_cell(job.idea)} | {job.expects.delta:+.3f} | {change} | {expected} | {duration(job.seconds)} |"
    )


def _data(views: Views) -> str:
    made = [note for note in views.notes if note.topic == "data" and "sha256" in note.details]
    if not made:
        return ""
    rows = [
        "| file | rows | worked share | left out: duplicates | left out: evaluation items | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for note in made:
        d = note.details
        share = "n/a" if d["worked_share"] is None else f"{d['worked_share']:g}"
        rows.append(
            f"| {_cell(d['file'])} | {d['rows']} | {share} | {d['dropped_duplicates']} "
            f"| {d['dropped_contaminated']} | `{d['sha256'][:12]}` |"
        )
    return "## Data\n\n" + "\n".join(rows)


OUTSIDE = {"provider": "the driver's model", "mcp": "a server"}  # rules that are not about a job or its data


def _findings(views: Views) -> str:
    if not views.findings:
        return ""
    lines = [
        f"- **{f.level}** {f.job or OUTSIDE.get(f.rule, 'preflight')}, {f.rule}: {_inline(f.what)} {_inline(f.advice)}"
        for f in views.findings
    ]
    return "## Findings of the lab\n\n" + "\n".join(lines)


def _notes(views: Views) -> str:
    """Remarks of the driver. Those of the lab carry details, and stand in a table of their own."""
    lines = [f"- *{_inline(n.topic)}*: {_inline(n.text)}" for n in views.notes if not n.details]
    return f"## Notes of the driver\n\n{_UNCHECKED}\n\n" + "\n".join(lines) if lines else ""


def _words(views: Views) -> str:
    if views.active or not views.closed or views.closed.outcome != "done":
        return ""
    return f"## The driver's own summary\n\n{_UNCHECKED}\n\n> {_inline(views.closed.reason)}"


def _spent(views: Views, facts: Sequence[Event]) -> str:
    jobs = list(views.jobs.values())
    closed = None if views.active else views.closed
    end = closed.at if closed else facts[-1].at
    priced = f"${views.spent.dollars:.2f}" + (
        f" and {views.spent.unpriced} model calls of unknown price" if views.spent.unpriced else ""
    )
    lines = [
        f"Wall clock {duration(views.elapsed_s(end))}; jobs {duration(views.spent.job_seconds)}; {priced}; {views.spent.tokens:,} tokens.",
        "",
        "| job | what | machine | steps | run time | ended |",
        "|---|---|---|---|---|---|",
        *(_job(job) for job in jobs),
    ]
    return "## Spent\n\n" + "\n".join(lines if jobs else lines[:1])


def _job(job: Job) -> str:
    ended = f"{job.ended.state}" + (f": {job.ended.reason}" if job.ended.reason else "") if job.ended else "running"
    again = f" (attempt {job.attempt})" if job.attempt > 1 else ""
    return f"| {job.id}{again} | {_cell(job.idea)} | {job.machine} | {job.step} | {duration(job.seconds)} | {_cell(ended)} |"


def _provenance(views: Views, opened: Opened) -> str:
    drivers = dict.fromkeys(views.drivers)
    driver = " and ".join(_driver(name) for name in drivers)
    return (
        f"## How this was made\n\nSession `{opened.session}`, opened {opened.at:%Y-%m-%d %H:%M} UTC, seed {opened.seed}, "
        f"driven by {driver}. Every number above is folded from `events.jsonl` in this folder; the settings of each job "
        f"stand in `jobs/<job>/config.json`."
    )


def _driver(name: str) -> str:
    return "Autopilot, a fixed policy without a language model" if name == "autopilot" else f"the model {_inline(name)}"


def _inline(text: str) -> str:
    """Text as one line that cannot start markup of its own."""
    return " ".join(text.split()).replace("<", "&lt;").replace("[", "\\[").replace("`", "'")


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")
