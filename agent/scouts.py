"""Scouts: helpers of a driver that read and report. Each has its own window, steps and words, and facts in its name."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smolagents.utils import AgentGenerationError

from agent.context import Context
from agent.driver import Driver
from agent.purse import Purse
from agent.researcher import Researcher
from agent.settings import Settings
from lab.errors import BadInput, LabError, NeedsPerson, Refused
from lab.lab import Lab
from record.events import Finished, Replied, Started
from record.journal import Journal
from record.views import MAIN
from tools.base import Tool
from tools.files import ListFiles, ReadFile
from tools.jobs import JobLog

STEPS = 60  # model calls of one scout
WORDS = (Path(__file__).parent / "prompts" / "scout.md").read_text()
LOOKING = (ReadFile, ListFiles, JobLog)  # what a scout holds: tools that only look


class Scout(Tool):
    name = "scout"
    effect = "read"  # it holds nothing that writes, runs, spends or publishes; its model calls count against the caps
    together = True

    def __init__(
        self, lab: Lab, now: Callable[[], Settings], check: Callable[[], None], purse: Purse, more: Sequence[Tool] = ()
    ):
        """`more` are tools from outside; a scout gets those that only look."""
        super().__init__(lab)
        self._now, self._check, self._purse = now, check, purse
        self._more = tuple(tool for tool in more if tool.effect == "read")

    def forward(self, task: str) -> str:
        """Send a research helper to find something out in files, logs and other read-only sources. It has its own memory, so that long reading does not fill yours. Several in one answer work at the same time. It returns claims, each with its source.

        Args:
            task: What to find out, and everything the helper needs to know for it: it sees nothing of your session.
        """
        journal, lab = Journal(self.lab.log), self.lab.reader()
        if not self._now().scout_driver and journal.views.driver == "autopilot":
            raise Refused("A scout is a language model, and none is there; look yourself.")
        who = self._named(journal)
        report = Report(lab, who)
        tools = [*(tool(lab) for tool in LOOKING), *(_on(lab, tool) for tool in self._more), report]

        context = Context(journal.log, who, (WORDS, task), steps=STEPS)

        def check() -> None:
            self._check()
            if journal.views.counts.get(who, 0) >= STEPS and not journal.views.open_calls(who):
                raise NeedsPerson(f"its {STEPS} steps are used; ask for less, or look yourself")

        driver = Driver(self._now, journal, check, self._purse, context, who)
        try:
            return Researcher(driver, tools, journal, check, context, who).work(task)
        except NeedsPerson as why:
            raise LabError(f"{who} gave up without a report: {why}.") from None
        except AgentGenerationError as error:
            raise LabError(f"{who} could not ask its model: {error.__cause__ or error}") from error

    def _named(self, journal: Journal) -> str:
        """The same call has the same scout, also after a restart: its own facts are then its memory."""
        calls = [f.call for f in journal.log if isinstance(f, Started) and f.name == self.name and f.who == MAIN]
        return f"scout-{calls.index(self.call) + 1}"


class Report(Tool):
    """How a scout ends: with claims that it can have seen."""

    name = "final_answer"
    effect = "read"

    def __init__(self, lab: Lab, who: str):
        super().__init__(lab)
        self._who = who

    def forward(self, claims: list[dict]) -> str:
        """Report what was found and end. Refused when nothing was looked up, and for a claim whose source was not seen.

        Args:
            claims: What was found, each {"claim": "...", "source": "..."}; the source as it was given to a tool or read in an answer.
        """
        if not claims:
            raise BadInput("There is no claim; say at least what was not found, with the place where you looked.")
        seen = self._seen()
        for claim in claims:
            if not all(isinstance(claim.get(part), str) and claim[part].strip() for part in ("claim", "source")):
                raise BadInput(f"{claim!r} is no claim; write {{'claim': '…', 'source': '…'}}.")
            if claim["source"].strip() not in seen:
                raise Refused(f"The source {claim['source']!r} is in nothing that you looked up; name one that is.")
        return "\n".join(f"- {claim['claim'].strip()} (source: {claim['source'].strip()})" for claim in claims)

    def _seen(self) -> str:
        """Everything that its calls were given and answered. Raises Refused when it has looked up nothing."""
        texts: list[str] = []
        calls: dict[str, dict[str, Any]] = {}
        for fact in self.lab.log:
            if isinstance(fact, Replied) and fact.who == self._who:
                calls |= {call.id: call.arguments for call in fact.calls}
            elif isinstance(fact, Finished) and fact.who == self._who and fact.ok and fact.name != self.name:
                texts += [json.dumps(calls.get(fact.call, {}), ensure_ascii=False), fact.output]
        if not texts:
            raise Refused("You have looked up nothing yet: a report is made of what your tools showed.")
        return "\n".join(texts)


def _on(lab: Lab, tool: Tool) -> Tool:
    """The same tool on another lab: each thread has its own."""
    mine = copy.copy(tool)
    mine.lab = lab
    return mine
