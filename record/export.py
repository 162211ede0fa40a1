"""Facts as a session trace that the Hub's viewer draws: https://huggingface.co/docs/hub/session-traces-format (STS-Format).

A header, then one message a line. Scouts' steps are left out: what came of them stands in the answer to their call.
"""

import json
from collections.abc import Iterable
from typing import Any

from record.events import Call, Closed, Event, Finished, Found, Opened, Replied, Said
from record.views import MAIN

HARNESS = "ml-intern"


def trace(session: str, title: str, facts: Iterable[Event]) -> bytes:
    """The whole trace as JSON lines."""
    rows: list[dict[str, Any]] = [{"type": "session", "harness": HARNESS, "id": session, "name": title}]
    for fact in facts:
        if message := _message(fact):
            at = {"timestamp": int(fact.at.timestamp() * 1000)}
            rows.append({"type": "message", "message": message | at})
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _message(fact: Event) -> dict[str, Any] | None:
    match fact:
        case Opened():
            return {"role": "user", "content": fact.goal.text}
        case Said():
            return {"role": "user", "content": fact.text}
        case Replied() if fact.who == MAIN:
            thought = {"reasoningContent": fact.thought} if fact.thought else {}
            calls = {"toolCalls": [_call(call) for call in fact.calls]} if fact.calls else {}
            return {"role": "assistant", "content": fact.text, "model": fact.model} | thought | calls
        case Finished() if fact.who == MAIN:
            return {"role": "tool", "content": fact.output, "toolCallId": fact.call}
        case Found():
            return {"role": "system", "content": f"{fact.level}: {fact.what} {fact.advice}"}
        case Closed():
            return {"role": "system", "content": f"{fact.outcome}: {fact.reason}"}
    return None


def _call(call: Call) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}
