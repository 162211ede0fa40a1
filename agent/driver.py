"""Whatever drives the session now: Autopilot or a hosted brain. A person may change it between two answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smolagents.models import ChatMessage, Model

from agent.autopilot import Autopilot
from agent.brain import Access, Brain
from agent.context import Context
from agent.memory import Memory
from agent.providers import BrainError
from agent.purse import Purse
from agent.settings import Settings
from record.events import Found, Tuned
from record.journal import Journal
from record.views import MAIN, Views

PASSING_ON = ("busy", "quota", "setup", "auth", "failed")  # kinds of trouble in which another model may help
RUNTIME = "the lab"  # by whom a driver was changed when no person did it


@dataclass(frozen=True)
class Seat:
    """Who speaks, with which memory of the log, and what happens to what it says while it comes."""

    who: str
    context: Callable[[], Context]
    show: Callable[[str, str], None] = lambda text, thought: None


class Driver(Model):
    """A smolagents Model that asks the one which the log names at that moment, and keeps its memory small enough."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        check: Callable[[], None],
        seat: Seat | None = None,
        purse: Purse | None = None,
    ):
        """`check` raises when the session must stop; it runs while an answer is awaited."""
        super().__init__()
        self._settings = settings
        self._journal = journal
        self._check = check
        self._seat = seat or Seat(MAIN, lambda: Context(journal.log))
        self._memory = Memory(journal, self._seat.who, self._seat.context)
        self._purse = purse or Purse()
        self._terms: tuple[str, str | None] | None = None
        self._now: Model = self

    def generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> ChatMessage:
        """One answer. Raises BrainError for a brain that cannot be asked; Stopped from `check`."""
        views = self._journal.views
        if self._terms != (terms := (self._named(views), views.effort)):
            self._now = self._made(*terms)
            self._terms, self.model_id = terms, self._now.model_id
        if not isinstance(self._now, Brain):
            return self._now.generate(messages, **kwargs)
        try:
            with self._purse.call(self._journal, self._check):
                return self._remembering(self._now, messages, kwargs)
        except BrainError as error:
            other = self._settings.fallback
            if other is None or other == terms[0] or error.kind not in PASSING_ON or self._seat.who != MAIN:
                raise
            self._tell(str(error), f"The session goes on with {other}.")
            self._journal.append(Tuned(driver=other, by=RUNTIME))
            return self.generate(messages, **kwargs)

    def parse_tool_calls(self, message: ChatMessage) -> ChatMessage:
        """An answer without calls is an answer: smolagents would look for calls in its text."""
        message.tool_calls = message.tool_calls or []
        return message

    def _remembering(self, brain: Brain, messages: list[Any], kwargs: dict[str, Any]) -> ChatMessage:
        """The answer to a request that fits the window: the past is summarised before, or once when it did not."""
        if self._memory.due(messages, brain):
            return self._shortened(brain, kwargs)
        try:
            return brain.generate(messages, **kwargs)
        except BrainError as error:
            if error.kind != "overflow" or self._memory.summarised:
                raise
            return self._shortened(brain, kwargs)

    def _shortened(self, brain: Brain, kwargs: dict[str, Any]) -> ChatMessage:
        messages = self._memory.summarise(brain, **kwargs)
        self._check()  # the summary was a call, too
        answer = brain.generate(messages, **kwargs)
        assert isinstance(answer.raw, dict)
        answer.raw["upto"] = self._memory.seen
        return answer

    def _named(self, views: Views) -> str:
        """The model to ask: the session's driver, or for a scout the one that is set for scouts."""
        return views.driver if self._seat.who == MAIN else self._settings.scout_driver or views.driver

    def _made(self, driver: str, effort: str | None) -> Model:
        if driver == "autopilot":
            return Autopilot()
        s = self._settings
        access = Access(driver, s.keys, s.api_base, effort, s.window, s.prices, s.patience)
        return Brain(access, self._check, self._seat.show, self._tell)

    def _tell(self, what: str, advice: str) -> None:
        self._journal.append(Found(who=self._seat.who, rule="provider", level="warn", what=what, advice=advice))
