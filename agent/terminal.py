"""Facts as lines for a person at a terminal. Pure."""

from typing import assert_never

from record.events import (
    Asked,
    Closed,
    Compacted,
    Decided,
    Ended,
    Event,
    Finished,
    Found,
    Halted,
    Launched,
    Noted,
    Opened,
    Planned,
    Progressed,
    Promoted,
    Published,
    Queued,
    Renamed,
    Replied,
    Requested,
    Said,
    Scored,
    Shared,
    Started,
    Tuned,
    Undone,
)
from record.report import score_text

MARKS = {"todo": "·", "doing": "▸", "done": "✓", "dropped": "–"}
SHOWN = ("loss", "eval_loss", "accuracy_so_far", "grad_norm")
QUIET = ("wait", "plan")  # tools whose start says nothing that the next fact does not say


def lines(fact: Event) -> list[str]:
    """What to print for a fact; nothing for those that only programs read."""
    match fact:
        case Opened():
            return [
                f"● {fact.goal.text}",
                f"  session {fact.session} · {fact.goal.task} · driver {driver(fact.driver)}",
            ]
        case Said():
            return [f"you: {fact.text}"]
        case Replied():
            return [f"\n{fact.text}"] if fact.text else []
        case Started():
            return [] if fact.name in QUIET else [f"  → {fact.name} {_argument(fact.arguments)}".rstrip()]
        case Finished():
            return [] if fact.ok else [f"  ✗ {fact.name}: {fact.output}"]
        case Asked():
            cost = "price unknown" if fact.dollars is None else f"${fact.dollars:.2f}"
            return [f"  ? {fact.name} {_argument(fact.arguments)} ({cost}). {fact.reason}"]
        case Decided():
            return [f"  {'allowed' if fact.allow else 'denied'} by {fact.by}"]
        case Launched():
            again = f", attempt {fact.attempt}" if fact.attempt > 1 else ""
            return [f"  ▶ {fact.job} on {fact.machine}{again}"]
        case Queued():
            return [f"    {fact.job} waits for the machine, {fact.place} before it"] if fact.place else []
        case Progressed():
            return [_progress(fact)]
        case Found():
            return (
                [f"  {'!!' if fact.level == 'stop' else '!'} {fact.what} {fact.advice}"] if fact.level != "info" else []
            )
        case Ended():
            return [
                f"  ■ {fact.job} {fact.state} after {fact.seconds:.0f} s" + (f": {fact.reason}" if fact.reason else "")
            ]
        case Scored():
            return [f"  ◆ {fact.model} on {fact.split}: {score_text(fact)}"]
        case Promoted():
            return [f"  {'✓ keep' if fact.verdict == 'keep' else '✗ ' + fact.verdict} {fact.model}: {fact.reason}"]
        case Noted():
            return [f"  {fact.topic}: {fact.text}"]
        case Planned():
            return [f"  {MARKS[step.state]} {step.text}" for step in fact.steps]
        case Published():
            return [f"  {fact.what}: {fact.where}"]
        case Compacted():
            return ["  (earlier messages are summarised for the model)"]
        case Requested() | Renamed() | Shared() | Tuned() | Undone() | Halted():
            return [f"{_steered(fact)} by {fact.by}"]
        case Closed():
            return [f"\n{fact.outcome}: {fact.reason}"]
        case _:
            assert_never(fact)


def driver(name: str) -> str:
    """A driver's name as people should read it."""
    return "Autopilot (a fixed policy, no LLM)" if name == "autopilot" else name


def _steered(fact: Requested | Renamed | Shared | Tuned | Undone | Halted) -> str:
    """What a person did to the session itself."""
    match fact:
        case Requested():
            return f"{fact.job} is to stop" if fact.what == "stop_job" else "compaction asked for"
        case Renamed():
            return f"renamed to {fact.title!r}"
        case Shared():
            return "shared as a replay" if fact.public else "made private"
        case Tuned():
            return f"changed to {_terms(fact)}"
        case Undone():
            return "the last turn is taken back"
        case Halted():
            return "stopped"


def _terms(fact: Tuned) -> str:
    """The terms that a person changed, in one line."""
    given = fact.model_dump(include={"approval", "driver", "effort"}, exclude_none=True)
    caps = fact.budget.model_dump() if fact.budget else {}
    terms = [f"{name} {value}" for name, value in given.items()]
    return ", ".join(terms + [f"{name} {'no cap' if cap is None else f'{cap:g}'}" for name, cap in caps.items()])


def _progress(fact: Progressed) -> str:
    values = "  ".join(
        f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in fact.values.items() if n in SHOWN
    )
    left = f"  {fact.eta_s:.0f} s left" if fact.eta_s is not None else ""
    return f"    {fact.job} {fact.step}/{fact.steps or '?'}  {values}{left}"


def _argument(arguments: dict) -> str:
    """The one argument that matters, short."""
    value = next((str(v) for v in arguments.values() if isinstance(v, str)), str(next(iter(arguments.values()), "")))
    return value if len(value) <= 100 else value[:99] + "…"
