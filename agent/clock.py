"""What is left of a session and where it stands, in words for its driver. Pure: the time is that of a fact."""

from datetime import datetime

from record.report import score_text
from record.views import Job, Views

CLOCK = "[clock]"  # how a line of the runtime begins: a driver can tell it from a person's words


def clock(views: Views, now: datetime) -> str:
    """One line: what is left of each cap, the best score so far, and the jobs that run."""
    left, budget, spent = views.left_s(now), views.budget, views.spent
    parts = [f"{now:%H:%M} UTC", f"{_minutes(left)} left" if left is not None else "no cap on time"]
    if budget.dollars is not None:
        jobs = views.committed_dollars(now)
        may = f", of which running jobs may cost ${jobs:.2f}" if jobs else ""
        parts.append(f"${max(0.0, budget.dollars - views.dollars(now)):.2f} of ${budget.dollars:.2f} left{may}")
    if spent.unpriced and spent.tokens:
        parts.append(f"{spent.unpriced} answers of unknown price")
    if budget.tokens is not None:
        parts.append(f"{max(0, budget.tokens - spent.tokens):,} of {budget.tokens:,} tokens left")
    if budget.calls is not None:
        parts.append(f"{max(0, budget.calls - spent.replies)} of {budget.calls} model calls left")
    if score := views.score(views.best, "dev"):
        target = views.goal.target
        aim = f", target {target:g}" if target is not None else ""
        parts.append(f"best {views.best} dev {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]{aim}")
    parts += [_job(job, now) for job in views.running]
    return f"{CLOCK} {' · '.join(parts)}"


def standing(views: Views, now: datetime) -> str:
    """What must never be lost to a summary, from the facts themselves: rules, plan, scores, ideas, jobs and clock."""
    lines = []
    if views.plan:
        lines.append("Plan: " + "; ".join(f"{step.text} ({step.state})" for step in views.plan))
    for score in views.scores:
        lines.append(f"Score: {score.model} on {score.split}: {score_text(score)}")
    for made in views.promotions:
        idea = made.idea or (views.jobs[made.model].idea if made.model in views.jobs else "")
        lines.append(f"Idea tried: {made.model}: {idea} -> {made.verdict} against {made.against}: {made.reason}")
    judged = {made.model for made in views.promotions}
    for job in views.jobs.values():
        if job.idea and job.id not in judged:
            lines.append(f"Idea without a verdict: {job.id}: {job.idea} ({job.ended.state if job.ended else 'runs'})")
    lines.append(f"The best model is {views.best}.")
    return "\n".join([*lines, clock(views, now)])


def _job(job: Job, now: datetime) -> str:
    if job.began or job.place is None:
        left = "" if job.eta_s is None else f", {_minutes(job.eta_s)} to go"
        return f"{job.id} runs, step {job.step}/{job.steps or '?'}{left}"
    start = f", starts in about {_minutes((job.starts - now).total_seconds())}" if job.starts else ""
    return f"{job.id} waits: {job.held}" if job.held else f"{job.id} waits, {job.place} before it{start}"


def _minutes(seconds: float) -> str:
    return f"{max(0.0, seconds) / 60:.0f} min" if seconds >= 120 else f"{max(0.0, seconds):.0f} s"
