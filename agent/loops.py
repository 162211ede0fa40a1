"""Whether a driver goes in circles: a fold of the log, so that the same facts always give the same nudge.

The thresholds are those of agents of this kind: three identical calls, or a repeated cycle of two to five.
"""

import json

from record.events import Call, Ended, Event, Finished, Launched, Progressed, Promoted, Replied, Said, Scored

SAME = 3  # identical calls in a row
CYCLES = {2: 3, 3: 2, 4: 2, 5: 2}  # calls in a cycle -> how often it must come in a row
PATIENCE = 40  # answered calls without a launch, a metric, a score or a verdict
WATCHING = ("wait", "job_log")  # their answer changes by itself: asking again is no circle while it does


class Loops:
    """The calls of one driver, as far as a circle can reach back. `stuck` says why it should not go on."""

    def __init__(self, who: str):
        self._who = who
        self._asked: dict[str, Call] = {}
        self._begin()

    def add(self, fact: Event) -> str | None:
        """Take a fact in. Returns what to tell the driver when a circle has just closed: once, then it is stuck."""
        match fact:
            case Said():
                self._begin()
            case Launched() | Progressed() | Scored() | Promoted() | Ended():
                self._idle = 0
                if not isinstance(fact, Progressed):
                    self._nudged = False
            case Replied() if fact.who == self._who:
                self._asked = {call.id: call for call in fact.calls}
            case Finished() if fact.who == self._who and fact.call in self._asked:
                return self._answered(self._asked[fact.call], fact.output)
        return None

    def _begin(self) -> None:
        self._recent: list[str] = []
        self._idle = 0
        self._nudged = False
        self.stuck: str | None = None

    def _answered(self, call: Call, output: str) -> str | None:
        given = json.dumps(call.arguments, sort_keys=True, default=str)
        self._recent.append(f"{call.name} {given} {output if call.name in WATCHING else ''}")
        self._recent = self._recent[-max(SAME, *(size * times for size, times in CYCLES.items())) :]
        self._idle += 1
        what = self._circle()
        if what is None and self._idle >= PATIENCE:
            what = f"{PATIENCE} calls have brought no new run, score or verdict"
        if what is None:
            return None
        self._recent, self._idle = [], 0
        if self._nudged:
            self.stuck = what
            return None
        self._nudged = True
        return f"You are going in circles: {what}. Do something else: another idea, another way, or final_answer."

    def _circle(self) -> str | None:
        last = self._recent
        if len(last) >= SAME and len(set(last[-SAME:])) == 1:
            return f"the same call of {last[-1].split(' ', 1)[0]} came {SAME} times in a row"
        for size, times in CYCLES.items():
            part = last[-size * times :]
            if len(part) == size * times and all(part[i] == part[i % size] for i in range(len(part))):
                return f"the same {size} calls came {times} times in a row"
        return None
