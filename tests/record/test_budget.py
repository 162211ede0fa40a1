"""What is spent and what is left: the fold against a plain recount of the same facts, over random sessions."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args

import pytest

from record.events import (
    Budget,
    Closed,
    Compacted,
    Ended,
    Event,
    Goal,
    Halted,
    JobOutcome,
    Launched,
    Opened,
    Progressed,
    Queued,
    Replied,
    Said,
)
from record.views import Views

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def session(rng: random.Random, length: int) -> list[Event]:
    """The facts of a random session: launches, queueing, progress, ends, resumes, replies with and without prices, endings."""
    at, jobs = NOW, {}
    budget = Budget(
        hours=rng.choice([None, 0.5, 2.0]), job_hours=rng.choice([None, 0.2, 1.0]),
        dollars=rng.choice([None, 1.0, 5.0]), tokens=rng.choice([None, 2000, 20_000]),
    )  # fmt: skip
    facts: list[Event] = [
        Opened(session="s", goal=Goal(text="t", task="c", model="m"), budget=budget, driver="d", at=at)
    ]
    for _ in range(length):
        at += timedelta(seconds=rng.expovariate(1 / 200))
        running = [name for name, open_ in jobs.items() if open_]
        kind = rng.choice(("launch", "queue", "go", "progress", "end", "again", "reply", "compact", "close", "say"))
        name = rng.choice(running) if running else ""
        price = rng.choice([None, 0.0, rng.random()])
        match kind:
            case "launch":
                name = f"j{len(jobs)}"
                jobs[name] = True
                facts.append(launched(name, rng.uniform(0.01, 1), at))
            case "queue" | "go" if name:
                facts.append(Queued(job=name, place=0 if kind == "go" else rng.randint(1, 3), at=at))
            case "progress" if name:
                facts.append(Progressed(job=name, step=rng.randint(1, 9), values={"loss": 1.0}, at=at))
            case "end" | "again" if name:
                state = rng.choice(get_args(JobOutcome))
                facts.append(Ended(job=name, state=state, seconds=rng.uniform(0, 900), dollars=price, at=at))
                jobs[name] = kind == "again"
                if kind == "again":
                    facts.append(launched(name, rng.uniform(0.01, 1), at, attempt=2))
            case "reply" | "compact":
                used = {"tokens_in": rng.choice([None, rng.randint(1, 3000)]), "tokens_out": rng.randint(1, 300)}
                fact = Replied(model="m", dollars=price, at=at, **used)
                facts.append(fact if kind == "reply" else Compacted(upto=1, summary="", dollars=price, at=at, **used))
            case "close":
                stop, over = Halted(at=at), Closed(outcome="out_of_budget", reason="", at=at)
                facts += rng.choice([[stop], [stop, Closed(outcome="stopped", reason="", at=at)], [over]])
            case "say":
                facts.append(Said(text="go on", at=at))
    return [fact.model_copy(update={"seq": seq}) for seq, fact in enumerate(facts, start=1)]


def launched(job: str, hours: float, at: datetime, attempt: int = 1) -> Launched:
    return Launched(
        job=job, recipe="sft", config={}, machine="m", hours=hours, folder=f"jobs/{job}", at=at, attempt=attempt
    )


def ran(facts: Sequence[Event], launch: Launched, now: datetime) -> float | None:
    """Run time of an attempt that is under way; None for one that has ended."""
    later = [f for f in facts if f.seq > launch.seq and isinstance(f, Queued | Ended) and f.job == launch.job]
    if any(isinstance(fact, Ended) for fact in later):
        return None
    return (now - later[-1].at).total_seconds() if later and later[-1].place == 0 else 0.0  # type: ignore[union-attr]


def worked(facts: Sequence[Event], now: datetime) -> float:
    """Wall clock between facts, less what lies between an ending and the next message."""
    total, works = 0.0, True
    for fact, following in pairwise([*facts, None]):
        works = (works or isinstance(fact, Said)) and not isinstance(fact, Halted | Closed)
        total += ((following.at if following else now) - fact.at).total_seconds() if works and fact else 0.0
    return total


@pytest.mark.parametrize("block", range(10))
def test_what_is_spent_and_left_is_what_a_recount_of_the_facts_says(block):
    for number in range(100):
        rng = random.Random(1000 * block + number)
        facts, views = session(rng, rng.randint(5, 40)), Views()
        looks = set(rng.sample(range(len(facts)), min(3, len(facts)))) | {len(facts) - 1}
        for place, fact in enumerate(facts):
            views.add(fact)
            if place in looks:
                check(views, facts[: place + 1], fact.at + timedelta(seconds=rng.uniform(0, 500)))


def check(views: Views, facts: Sequence[Event], now: datetime) -> None:
    ends, paid = [f for f in facts if isinstance(f, Ended)], [f for f in facts if isinstance(f, Replied | Compacted)]
    running = {
        f.job: (f, seconds) for f in facts if isinstance(f, Launched) and (seconds := ran(facts, f, now)) is not None
    }
    dollars = sum(f.dollars or 0.0 for f in [*ends, *paid])
    tokens = sum((f.tokens_in or 0) + (f.tokens_out or 0) for f in paid)
    seconds = sum(f.seconds for f in ends) + sum(seconds for _, seconds in running.values())
    assert views.spent.dollars == pytest.approx(dollars)
    assert views.spent.tokens == tokens
    assert views.spent.replies == sum(isinstance(f, Replied) for f in facts)
    assert views.spent.unpriced == sum(f.dollars is None for f in paid)
    assert {job.id for job in views.running} == set(running)
    assert views.job_seconds(now) == pytest.approx(seconds)
    may_still = sum(max(0.0, launch.hours * 3600 - used) for launch, used in running.values())
    assert views.committed_s(now) == pytest.approx(may_still)
    budget = views.budget
    caps = ((budget.hours, worked(facts, now) / 3600), (budget.job_hours, seconds / 3600))
    left = [cap - used for cap, used in caps if cap is not None]
    assert views.left_s(now) == (pytest.approx(min(left) * 3600) if left else None)
    used_up = [cap for cap, used in (*caps, (budget.dollars, dollars), (budget.tokens, tokens)) if cap and used >= cap]
    assert (views.over(now) is not None) == bool(used_up)
