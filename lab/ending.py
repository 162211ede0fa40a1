"""Whether a driver may end its session. "I am done" is a request: it is granted when nothing sensible fits any more.

The same model scores 19.7 in a scaffold that works for four hours, and 7.7 in one that lets it stop after 33 minutes
(PostTrainBench); a prompt that says "never stop" is ignored. So the lab asks, and asks twice at most: a driver that
insists without a new idea is let go.
"""

from collections.abc import Sequence

from lab.clock import MARGIN, Room, evaluation_s
from record.events import Event, Finished, Launched, Promoted, Said
from record.views import Views

TOO_EARLY = "It is too early to end"
ASKED = 2  # times that a driver is sent back between two new things
UNTRIED = 300.0  # seconds that an idea takes where none has been tried [H]


def unfinished(views: Views) -> str | None:
    """What is left to do before a session may end: a job that runs, the held-out score of its best model; None if nothing."""
    if views.running:
        return f"The job {views.running[0].id} still runs; wait for it or cancel it first."
    measured = [job for job in views.jobs.values() if job.recipe == "evaluate"]
    broken = measured and measured[-1].state != "done"  # nothing more can be measured
    if views.score(views.best, "heldout") is None and not broken:
        return f"The best model ({views.best}) has no held-out score yet; evaluate it on heldout first."
    return None


def too_early(views: Views, facts: Sequence[Event], left: Room | None) -> str | None:
    """Why the session should go on; None where it may end.

    It may when its target is reached, when no idea like the last one fits into what is left, when a person spoke since
    the last launch (they are there and can say so), and when the driver has insisted. Autopilot ends when its list of
    ideas does.
    """
    best, target = views.score(views.best, "heldout"), views.goal.target
    if views.driver == "autopilot" or views.approval != "auto":
        return None
    if target is not None and best is not None and best.value >= target:
        return None
    refused = 0
    for fact in reversed(facts):
        if isinstance(fact, Said):
            return None
        if isinstance(fact, Promoted) or (isinstance(fact, Launched) and fact.recipe != "evaluate"):
            break
        refused += (
            isinstance(fact, Finished) and fact.name == "final_answer" and not fact.ok and TOO_EARLY in fact.output
        )
    if refused >= ASKED or left is None or left.free < MARGIN * _idea_s(views):
        return None
    aim = f"The target of {target:g} is not reached" if target is not None else "There is no target but the budget"
    return (
        f"{TOO_EARLY}: {aim}, {left.free / 60:.0f} min are free, and an idea takes about {_idea_s(views) / 60:.0f} min. "
        "Try another one; if no sensible one is left, ask again."
    )


def _idea_s(views: Views) -> float:
    """Seconds that an idea takes, by the last training job that ran to its end, and its evaluation."""
    trained = [job for job in views.jobs.values() if job.recipe != "evaluate" and job.state == "done"]
    return (trained[-1].seconds if trained else UNTRIED) + evaluation_s(views, "dev")
