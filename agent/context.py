"""Facts as chat messages. Pure: the same log gives the same bytes, and each request extends the one before it.

A new fact costs O(1), and a request one pass over the messages. Live metrics are not shown: a driver that wants them asks
for them, and the clock after each round of calls says what is left.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.clock import clock, standing
from agent.loops import Loops
from record.events import Compacted, Event, Finished, Opened, Replied, Said, Undone
from record.log import Log
from record.views import MAIN, Views
from tools.skill import Skill

Message = dict[str, Any]  # in the shape of the chat-completions protocol
SYSTEM = (Path(__file__).parent / "prompts" / "system.md").read_text()
NUDGE = "[lab] No tool was called. Go on with the work, or call final_answer if it is finished."
NOTICES = ("[lab]", "[clock]", "[skill]", "[memory]")  # how a message of the runtime begins; a person's has none
MEMORY = (
    "[memory] Earlier messages are left out. What the lab keeps of them is exact; the summary after it is your own."
)


class Context:
    """The messages of one driver of a log, kept up to date.

    Args:
        who: Whose calls and answers these are; a scout has its own.
        opening: The system's words, and for a scout its task; a session's own task stands in Opened.
        skills: A tool's name -> the texts that are shown after its first use, each of them once.
        steps: How many answers it may give; the clock says how many are left.
    """

    def __init__(
        self,
        log: Log,
        who: str = MAIN,
        opening: tuple[str, ...] = (SYSTEM,),
        skills: Mapping[str, Sequence[Skill]] | None = None,
        steps: int | None = None,
    ):
        self._log = log
        self._who = who
        self._steps = steps
        self._skills = dict(skills or {})
        self._known: set[str] = set()  # skills that were shown
        self.seen = 0  # the seq of the last fact that `messages` took in
        self._views = Views()
        self.loops = Loops(who)
        roles = ("system", *("user" for _ in opening[1:]))
        self._all: list[tuple[int, Message]] = [  # with the seq that brought each: a summary never takes one away
            (0, {"role": role, "content": text}) for role, text in zip(roles, opening, strict=True)
        ]
        self._memory: list[tuple[Compacted, Message]] = []
        self._open: set[str] = set()  # calls of the last reply that wait for their answer
        self._notices: list[tuple[int, Message]] = []  # of the runtime, which no reply has followed yet
        self._unread: list[tuple[int, Message]] = []  # of the person, likewise
        self._said: list[Said] = []

    def messages(self) -> list[Message]:
        """Every message so far, for the next request. The list is a copy; its messages are not to be changed."""
        self._log.refresh()
        while self.seen < len(self._log):
            fact = self._log[self.seen]
            self._views.add(fact)
            self._add(fact)
            self.seen += 1
        last = [] if self._open else [*self._notices, *self._unread]  # answers come first
        return [message for _, message in (*self._shown(), *last)]

    @property
    def rounds(self) -> list[int]:
        """The seq before each reply that is still shown, oldest first: where a summary may end."""
        return [seq - 1 for seq, message in self._shown() if message["role"] == "assistant"]

    def upto(self, seq: int) -> list[Message]:
        """The messages as they stand, without those of facts after `seq`."""
        return [message for at, message in self._shown() if at <= seq]

    def _shown(self) -> list[tuple[int, Message]]:
        """What is shown: all of it, or after a summary the task, the summary and what came later."""
        if not self._memory:
            return self._all
        made, memory = self._memory[-1]
        task = 1 if self._who == MAIN else 0  # the seq of the task: what stands before it is never left out
        first = [one for one in self._all if one[0] <= task]
        return [*first, (task, memory), *(one for one in self._all if one[0] > max(made.upto, task))]

    def _add(self, fact: Event) -> None:
        nudge = self.loops.add(fact)
        match fact:
            case Undone() if self._who == MAIN:
                self._undo(fact.upto)
            case Opened() if self._who == MAIN:
                self._put(fact.seq, {"role": "user", "content": _goal(fact)})
            case Said() if self._who == MAIN:
                self._said.append(fact)
                self._unread.append((fact.seq, {"role": "user", "content": fact.text}))
            case Replied() if fact.who == self._who:
                self._replied(fact)
            case Finished() if fact.who == self._who:
                self._finished(fact, nudge)
            case Compacted() if fact.who == self._who:
                self._memory.append((fact, {"role": "user", "content": self._kept(fact)}))

    def _put(self, seq: int, message: Message) -> None:
        summed = self._memory[-1][0].upto if self._memory else -1  # what comes now does not hide behind a summary
        self._all.append((max(seq, summed + 1, self._all[-1][0]), message))

    def _replied(self, fact: Replied) -> None:
        """What the reply had read comes before it; what was said while it was made comes after it."""
        read = fact.upto if fact.upto is not None else fact.seq
        for seq, message in (*self._notices, *(one for one in self._unread if one[0] <= read)):
            self._put(seq, message)
        self._notices, self._unread = [], [one for one in self._unread if one[0] > read]
        self._put(fact.seq, _assistant(fact))
        self._open = {call.id for call in fact.calls}
        if not fact.calls:
            self._notice(fact, f"{NUDGE}\n{self._clock(fact)}")

    def _notice(self, fact: Event, text: str) -> None:
        self._notices.append((fact.seq, {"role": "user", "content": text}))

    def _finished(self, fact: Finished, nudge: str | None) -> None:
        self._put(fact.seq, {"role": "tool", "tool_call_id": fact.call, "content": fact.output})
        self._open.discard(fact.call)
        for skill in self._skills.get(fact.name, ()):
            if skill.name not in self._known:
                self._known.add(skill.name)
                self._notice(fact, f"[skill] {skill.text}")
        if nudge:
            self._notice(fact, f"[lab] {nudge}")
        if not self._open:
            self._notice(fact, self._clock(fact))

    def _clock(self, fact: Event) -> str:
        if self._steps is None:
            return clock(self._views, fact.at)
        return f"{clock(self._views, fact.at)} · {self._steps - self._views.counts.get(self._who, 0)} steps left"

    def _undo(self, upto: int) -> None:
        """Forget what came after a fact; but a call that is still known keeps its answer."""
        kept, known = [], set()
        for seq, message in self._all:
            if seq <= upto:
                kept.append((seq, message))
                known |= {call["id"] for call in message.get("tool_calls", ())}
            elif message.get("tool_call_id") in known:
                kept.append((upto, message))
        self._all = kept
        self._memory = [(made, message) for made, message in self._memory if made.seq <= upto]
        self._open, self._notices = set(), []
        self._unread = [(seq, message) for seq, message in self._unread if seq <= upto]
        self._said = [said for said in self._said if said.seq <= upto]

    def _kept(self, fact: Compacted) -> str:
        """What stands for the messages up to a summary: the person's own words and the lab's facts, then the summary."""
        unread = {seq for seq, _ in self._unread}
        said = [f"The person said: {one.text}" for one in self._said if one.seq <= fact.upto and one.seq not in unread]
        lines = [MEMORY, *said, *([standing(self._views, fact.at)] if self._who == MAIN else [])]
        return "\n".join(lines) + f"\n\nSummary:\n{fact.summary}"


def _goal(fact: Opened) -> str:
    """The request as the brain reads it: the person's words, then the terms as JSON."""
    terms = {
        **fact.goal.model_dump(exclude={"text"}),
        "own_rows": fact.data is not None,
        "budget": fact.budget.model_dump(exclude_none=True),
        "seed": fact.seed,
    }
    return f"{fact.goal.text}\n\n{json.dumps(terms)}"


def _assistant(fact: Replied) -> Message:
    message: Message = {"role": "assistant", "content": fact.text}
    if fact.blocks:
        message["thinking_blocks"] = list(fact.blocks)
    if fact.calls:
        functions = ((call.id, {"name": call.name, "arguments": json.dumps(call.arguments)}) for call in fact.calls)
        message["tool_calls"] = [{"id": name, "type": "function", "function": called} for name, called in functions]
    return message
