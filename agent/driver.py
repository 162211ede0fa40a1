"""Whatever drives the session now: Autopilot or a hosted brain. A person may change it between two answers."""

from collections.abc import Callable
from typing import Any

from smolagents.models import ChatMessage, Model

from agent.autopilot import Autopilot
from agent.brain import Brain
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


class Driver(Model):
    """A smolagents Model that asks the one which the log names at that moment, and keeps its memory small enough."""

    def __init__(
        self,
        now: Callable[[], Settings],
        journal: Journal,
        check: Callable[[], None],
        purse: Purse,
        context: Context,
        who: str = MAIN,
        show: Callable[[str, str], None] = lambda text, thought: None,
    ):
        """`now` gives the settings of the moment: a new key is used from the next answer on.

        `check` raises when the session must stop; it runs while an answer is awaited.
        `context` is what `who` sees of the log; `show` gets the text and the thought of an answer while it comes.
        """
        super().__init__()
        self._now = now
        self._journal = journal
        self._check = check
        self._purse = purse
        self._context = context
        self._memory = Memory(journal, who, context)
        self._who = who
        self._show = show
        self._terms: tuple[str, str | None, dict[str, str]] | None = None
        self._model: Model = self

    def generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> ChatMessage:
        """One answer. Raises BrainError for a brain that cannot be asked; Stopped from `check`."""
        views = self._journal.views
        settings = self._now()
        if self._terms != (terms := (self._named(views, settings), views.effort, settings.keys)):
            self._model = self._made(settings, *terms[:2])
            self._terms, self.model_id = terms, self._model.model_id
        if not isinstance(self._model, Brain):
            return self._model.generate(messages, **kwargs)
        try:
            with self._purse.call(self._journal, self._check):
                return self._remembering(self._model, messages, kwargs)
        except BrainError as error:
            other = settings.fallback
            if other is None or other == terms[0] or error.kind not in PASSING_ON or self._who != MAIN:
                raise
            self._tell(str(error), f"The session goes on with {other}.")
            self._journal.append(Tuned(driver=other, by=RUNTIME))
            return self.generate(self._context.messages(), **kwargs)

    def parse_tool_calls(self, message: ChatMessage) -> ChatMessage:
        """An answer without calls is an answer: smolagents would look for calls in its text."""
        message.tool_calls = message.tool_calls or []
        return message

    def _remembering(self, brain: Brain, messages: list[Any], kwargs: dict[str, Any]) -> ChatMessage:
        """The answer to a request that fits the window: the past is summarised before, or once when it did not."""
        if not self._memory.due(messages, brain):
            try:
                return brain.generate(messages, **kwargs)
            except BrainError as error:
                if error.kind != "overflow" or self._memory.summarised:
                    raise
        messages = self._memory.summarise(brain, **kwargs)
        self._check()  # the summary was a call, too
        return brain.generate(messages, **kwargs)

    def _named(self, views: Views, settings: Settings) -> str:
        """The model to ask: the session's driver, or for a scout the one that is set for scouts."""
        return views.driver if self._who == MAIN else settings.scout_driver or views.driver

    def _made(self, settings: Settings, driver: str, effort: str | None) -> Model:
        if driver == "autopilot":
            return Autopilot()
        return Brain(driver, settings, self._check, self._show, self._tell, effort)

    def _tell(self, what: str, advice: str) -> None:
        self._journal.append(Found(who=self._who, rule="provider", level="warn", what=what, advice=advice))
