"""Facts as chat messages. Pure: the same log gives the same bytes, and each request extends the one before it.

A new fact costs O(1). Live metrics are not shown: a brain that wants them asks for them.
"""

import json
from pathlib import Path
from typing import Any

from record.events import Compacted, Event, Finished, Opened, Replied, Said, Undone
from record.log import Log

Message = dict[str, Any]  # in the shape of the chat-completions protocol
SYSTEM = (Path(__file__).parent / "prompts" / "system.md").read_text()
NUDGE = "No tool was called. Go on with the work, or call final_answer if it is finished."


class Context:
    """The messages of one log, kept up to date."""

    def __init__(self, log: Log):
        self._log = log
        self._seen = 0
        self._kept: list[Event] = []  # facts that the brain still knows of: an undo cuts them
        self._begin()

    def _begin(self) -> None:
        self._messages: list[Message] = [{"role": "system", "content": SYSTEM}]
        self._open: set[str] = set()  # calls of the last reply that wait for their answer
        self._held: list[Message] = []  # what the person said meanwhile: answers come first

    def messages(self) -> list[Message]:
        """Every message so far. The list is a copy; its messages are not to be changed."""
        self._log.refresh()
        while self._seen < len(self._log):
            self._add(self._log[self._seen])
            self._seen += 1
        return list(self._messages)

    def _add(self, fact: Event) -> None:
        if isinstance(fact, Undone):
            known, self._kept = [f for f in self._kept if f.seq <= fact.upto], []
            self._begin()
            for before in known:
                self._add(before)
            return
        if isinstance(fact, Opened | Said | Replied | Finished | Compacted):
            self._kept.append(fact)
        match fact:
            case Opened():
                self._messages.append({"role": "user", "content": _goal(fact)})
            case Said():
                self._held.append({"role": "user", "content": fact.text})
            case Replied():
                self._messages.append(_assistant(fact))
                self._open = {call.id for call in fact.calls}
                if not fact.calls:
                    self._held.append({"role": "user", "content": NUDGE})
            case Finished():
                self._messages.append({"role": "tool", "tool_call_id": fact.call, "content": fact.output})
                self._open.discard(fact.call)
            case Compacted():
                first = self._messages[:2]
                self._messages = [*first, {"role": "user", "content": f"What happened so far:\n{fact.summary}"}]
        if not self._open and self._held:
            self._messages += self._held
            self._held = []


def _goal(fact: Opened) -> str:
    """The request as the brain reads it: the person's words, then the terms as JSON."""
    terms = {
        "task": fact.goal.task,
        "model": fact.goal.model,
        "metric": fact.goal.metric,
        "target": fact.goal.target,
        "own_rows": fact.data is not None,
        "budget": fact.budget.model_dump(exclude_none=True),
        "seed": fact.seed,
    }
    return f"{fact.goal.text}\n\n{json.dumps(terms)}"


def _assistant(fact: Replied) -> Message:
    message: Message = {"role": "assistant", "content": fact.text}
    if fact.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in fact.calls
        ]
    return message
