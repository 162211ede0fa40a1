"""Facts as lines for a person at a terminal. Pure."""

from typing import assert_never

from record import events
from record.events import Event
from record.report import score_text
from record.words import duration

MARKS = {"todo": "·", "doing": "▸", "done": "✓", "dropped": "–"}
SHOWN = ("loss", "eval_loss", "accuracy_so_far", "grad_norm")
QUIET = ("wait", "plan")  # tools whose start says nothing that the next fact does not say


def lines(fact: Event) -> list[str]:
    """What to print for a fact; nothing for those that only programs read."""
    match fact:
        case events.Opened():
            about = f"session {fact.session} · {fact.goal.task} · driver {driver(fact.driver)}"
            return [f"● {fact.goal.text}", f"  {about}"]
        case events.Said():
            return [f"you: {fact.text}"]
        case events.Replied():
            return [f"\n{fact.text}"] if fact.text else []
        case events.Started():
            return [] if fact.name in QUIET else [f"  → {fact.name} {_argument(fact.arguments)}".rstrip()]
        case events.Finished():
            return [] if fact.ok else [f"  ✗ {fact.name}: {fact.output}"]
        case events.Asked():
            cost = "price unknown" if fact.dollars is None else f"${fact.dollars:.2f}"
            return [f"  ? {fact.name} {_argument(fact.arguments)} ({cost}). {fact.reason}"]
        case events.Decided():
            return [f"  {'allowed' if fact.allow else 'denied'} by {fact.by}"]
        case events.Launched():
            again = f", attempt {fact.attempt}" if fact.attempt > 1 else ""
            return [f"  ▶ {fact.job} on {fact.machine}{again}"]
        case events.Queued():
            return _waits(fact)
        case events.Progressed():
            return [_progress(fact)]
        case events.Found():
            mark = {"info": "", "warn": "!", "stop": "!!"}[fact.level]
            return [f"  {mark} {fact.what} {fact.advice}", *_offer(fact)] if mark else []
        case events.Ended():
            why = f": {fact.reason}" if fact.reason else ""
            cost = f", ${fact.dollars:.2f}" if fact.dollars else ""
            return [f"  ■ {fact.job} {fact.state} after {fact.seconds:.0f} s{cost}{why}"]
        case events.Scored():
            return [f"  ◆ {fact.model} on {fact.split}: {score_text(fact)}"]
        case events.Promoted():
            return [f"  {'✓ keep' if fact.verdict == 'keep' else '✗ ' + fact.verdict} {fact.model}: {fact.reason}"]
        case events.Noted():
            return [f"  {fact.topic}: {fact.text}"]
        case events.Planned():
            return [f"  {MARKS[step.state]} {step.text}" for step in fact.steps]
        case events.Published():
            return [f"  {fact.what}: {fact.where}"]
        case events.Compacted():
            return ["  (earlier messages are summarised for the model)"]
        case (
            events.Requested() | events.Renamed() | events.Shared() | events.Tuned() | events.Undone() | events.Halted()
        ):
            return [f"{_steered(fact)} by {fact.by}"]
        case events.Closed():
            return [f"\n{fact.outcome}: {fact.reason}"]
        case _:
            assert_never(fact)


def _waits(fact: events.Queued) -> list[str]:
    if not fact.place:
        return [f"    {fact.job} waits: {fact.reason}"] if fact.reason else []
    start = "nobody knows when it starts" if fact.eta_s is None else f"it starts in about {duration(fact.eta_s)}"
    return [f"    {fact.job} waits for the machine, {fact.place} before it; {start}"]


def _offer(fact: events.Found) -> list[str]:
    """The runs that a finding has offered, one a line."""
    named = {"lr": "a learning rate", "beta": "a KL penalty (beta)"}
    changes = fact.evidence.get("ablation", ())
    said = (" and ".join(f"{named.get(name, name)} of {value:g}" for name, value in one.items()) for one in changes)
    return [f"    offered {number}: the same run with {text}" for number, text in enumerate(said, 1)]


def driver(name: str) -> str:
    """A driver's name as people should read it."""
    return "Autopilot (a fixed policy, no LLM)" if name == "autopilot" else name


def _steered(
    fact: events.Requested | events.Renamed | events.Shared | events.Tuned | events.Undone | events.Halted,
) -> str:
    """What a person did to the session itself."""
    match fact:
        case events.Requested():
            return f"{fact.job} is to stop" if fact.what == "stop_job" else "compaction asked for"
        case events.Renamed():
            return f"renamed to {fact.title!r}"
        case events.Shared():
            return "shared as a replay" if fact.public else "made private"
        case events.Tuned():
            return f"changed to {_terms(fact)}"
        case events.Undone():
            return "the last turn is taken back"
        case events.Halted():
            return "stopped"


def _terms(fact: events.Tuned) -> str:
    """The terms that a person changed, in one line."""
    given = fact.model_dump(include={"approval", "driver", "effort"}, exclude_none=True)
    caps = fact.budget.model_dump() if fact.budget else {}
    terms = [f"{name} {value}" for name, value in given.items()]
    return ", ".join(terms + [f"{name} {'no cap' if cap is None else f'{cap:g}'}" for name, cap in caps.items()])


def _progress(fact: events.Progressed) -> str:
    shown = ((name, value) for name, value in fact.values.items() if name in SHOWN)
    values = "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown
    )
    left = f"  {fact.eta_s:.0f} s left" if fact.eta_s is not None else ""
    return f"    {fact.job} {fact.step}/{fact.steps or '?'}  {values}{left}"


def _argument(arguments: dict) -> str:
    """The one argument that matters, short."""
    value = next((str(v) for v in arguments.values() if isinstance(v, str)), str(next(iter(arguments.values()), "")))
    return value if len(value) <= 100 else value[:99] + "…"
