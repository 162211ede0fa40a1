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

from record.events import Event, Undone, from_dict
from record.redact import redact_tree

OWNER = "the owner"
PEOPLE = ("person", "by")  # fields
# What becomes of a kind of fact: what stands in the place of some of its fields, or None where nothing is left of it.
HIDDEN: dict[str, dict[str, Any] | None] = {
    "shared": None,
    "replied": {"blocks": []},  # the thought is there; its signature is the provider's
    "opened": {"data": None},
    "compacted": {"summary": ""},
    "scored": {"items": ""},
}
TAKEN_BACK: dict[str, dict[str, Any] | None] = {
    "said": None,
    "noted": None,
    "planned": None,
    "replied": {"text": "", "thought": "", "calls": [], "blocks": []},
    "started": {"arguments": {}},
    "finished": {"output": ""},
    "asked": {"arguments": {}, "reason": ""},
    "decided": {"arguments": None},
    "closed": {"reason": ""},
    "halted": {"reason": ""},
}
NUMBERS_ONLY = ("details", "evidence")  # fields
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
    undone = [(fact.upto, fact.seq) for fact in facts if isinstance(fact, Undone)]
    made = [_shown(fact.model_dump(), any(upto < fact.seq < at for upto, at in undone)) for fact in facts]
    return [from_dict(_walk(redact_tree(fact, secrets), folders)) for fact in made if fact]


def _shown(fact: dict[str, Any], taken_back: bool) -> dict[str, Any] | None:
    """The fact without what is nobody's business; None when nothing is left of it."""
    kind = fact["kind"]
    hidden, unsaid = HIDDEN.get(kind, {}), TAKEN_BACK.get(kind, {}) if taken_back else {}
    if hidden is None or unsaid is None or (kind, fact.get("what")) == ("requested", "compact"):
        return None
    numbers = {name: _numbers(fact[name]) for name in NUMBERS_ONLY if name in fact}
    people = {name: OWNER for name in PEOPLE if fact.get(name, "local") != "local"}
    return fact | hidden | unsaid | numbers | people


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


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
