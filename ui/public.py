"""The public version of a log: what anybody may see of a session that its owner shares. Pure: no clock, no file.

What it changes in every fact:
- Paths of the machine lose what leads to them: under the session's folder, this program and its home they become
  relative, a person's home is "~", and of any other absolute path only the last name stays.
- Whoever is not "local" is "the owner", wherever a fact names a person in a field of its own.
- Secrets are taken out once more: the patterns, or the keys, may be newer than the log.

What is nobody's business, and is left out:
- `shared`: when the session was private, and since when it is not.
- Words that the owner took back (`undone`): their messages, notes and plans go, and of the replies only the cost stays.
  Of calls and questions only the names stay. What jobs did stays done, and is shown.
- The summary that the model gets in the place of earlier messages, and who asked for one.
- Details of notes and evidence of findings, but for their numbers: they may quote rows of data.
- The owner's own file of training rows, and the files of items: a replay has no files.

What it does not do: free text stays as it is otherwise. A name, a question or a row of data that the agent wrote or
read in the transcript is published with it; so look at a session before you share it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from record.events import (
    Asked,
    Closed,
    Compacted,
    Decided,
    Event,
    Finished,
    Found,
    Halted,
    Noted,
    Opened,
    Planned,
    Replied,
    Requested,
    Said,
    Scored,
    Shared,
    Started,
    Undone,
    from_dict,
)
from record.redact import redact_tree

OWNER = "the owner"
_PEOPLE = ("person", "by")
# A path starts where no word, dot or slash stands before it ("a/b", "./a", "https://a/b" are none), or after -I and -L.
_EDGE = r"(?:(?<![\w.~/\\])|(?<=-[IL]))"
_URI = re.compile(r"file://(?=/)")
_HOME = re.compile(_EDGE + r"/(?:(?:home|Users)/[^/\s\"'`:;,<>|()\\]+|root(?![\w.-]))")
_ABSOLUTE = re.compile(_EDGE + r"/(?:[^/\s\"'`:;,<>|()\[\]{}\\]+/)+([^/\s\"'`:;,<>|()\[\]{}\\]*)")
_WINDOWS = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\{1,4}[^\\/\s\"'<>|:]+)+")


def public(facts: Sequence[Event], places: Mapping[str, str], secrets: Sequence[str] = ()) -> list[Event]:
    """The facts that a replay is made of, in order. Their `seq` stays, so that it may have gaps.

    Args:
        places: Folders of this machine and what stands for them; the longest is looked for first. "" makes a path
            below it relative.
        secrets: Exact values to take out wherever they stand.
    """
    folders = [
        (re.compile(_EDGE + re.escape(place) + r"(?:(/)|(?![\w.-]))"), stands_for)
        for place, stands_for in sorted(places.items(), key=lambda item: -len(item[0]))
        if len(place) > 1
    ]
    gone = taken_back(facts)
    made = []
    for fact in facts:
        said = _unsaid(fact) if fact.seq in gone else fact
        shown = _shown(said) if said else None
        if shown is not None:
            made.append(from_dict(_without_people(_walk(redact_tree(shown.model_dump(), secrets), folders))))
    return made


def taken_back(facts: Sequence[Event]) -> set[int]:
    """The seqs of the facts between the point that an undo went back to and the undo itself."""
    undone = [(fact.upto, fact.seq) for fact in facts if isinstance(fact, Undone)]
    return {fact.seq for fact in facts if any(a < fact.seq < b for a, b in undone)}


def _unsaid(fact: Event) -> Event | None:
    """A fact that was taken back, without its words; None when nothing is left of it."""
    match fact:
        case Said() | Noted() | Planned():
            return None
        case Replied():
            return fact.model_copy(update={"text": "", "thought": "", "calls": (), "blocks": ()})
        case Started():
            return fact.model_copy(update={"arguments": {}})
        case Finished():
            return fact.model_copy(update={"output": ""})
        case Asked():
            return fact.model_copy(update={"arguments": {}, "reason": ""})
        case Decided():
            return fact.model_copy(update={"arguments": None})
        case Closed() | Halted():
            return fact.model_copy(update={"reason": ""})
        case _:
            return fact


def _shown(fact: Event) -> Event | None:
    """The fact without what is nobody's business; None when nothing is left of it."""
    match fact:
        case Shared():
            return None
        case Replied():
            return fact.model_copy(update={"blocks": ()})  # the thought is there; its signature is the provider's
        case Opened():
            return fact.model_copy(update={"data": None})
        case Requested() if fact.what == "compact":
            return None
        case Compacted():
            return fact.model_copy(update={"summary": ""})
        case Noted():
            return fact.model_copy(update={"details": _numbers(fact.details)})
        case Found():
            return fact.model_copy(update={"evidence": _numbers(fact.evidence)})
        case Scored():
            return fact.model_copy(update={"items": ""})
        case _:
            return fact


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _without_people(fact: dict[str, Any]) -> dict[str, Any]:
    return fact | {name: OWNER for name in _PEOPLE if fact.get(name, "local") != "local"}


def _walk(value: Any, folders: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, str):
        return _without_paths(value, folders) if "/" in value or "\\" in value else value
    if isinstance(value, dict):
        return {_walk(name, folders): _walk(v, folders) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(v, folders) for v in value]
    return value


def _without_paths(text: str, folders: list[tuple[re.Pattern[str], str]]) -> str:
    text = _URI.sub("", text)
    for pattern, stands_for in folders:
        text = pattern.sub(lambda m, s=stands_for: (s and s + "/") if m[1] else s or ".", text)
    text = _HOME.sub("~", text)
    text = _ABSOLUTE.sub(lambda m: f"…/{m[1]}" if m[1] else "…", text)
    return _WINDOWS.sub("…", text)
