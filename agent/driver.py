"""Whatever drives the session now: Autopilot or a hosted brain. A person may change it between two answers."""

from collections.abc import Callable
from typing import Any

from smolagents.models import ChatMessage, Model

from agent.autopilot import Autopilot
from agent.brain import Brain
from agent.settings import Settings
from record.journal import Journal


class Driver(Model):
    """A smolagents Model that asks the one which the log names at that moment."""

    def __init__(self, settings: Settings, journal: Journal, check: Callable[[], None]):
        """`check` raises when the session must stop; it runs while an answer is awaited."""
        super().__init__()
        self._settings = settings
        self._journal = journal
        self._check = check
        self._terms: tuple[str, str | None] | None = None
        self._now: Model = self

    def generate(self, *args: Any, **kwargs: Any) -> ChatMessage:
        """One answer. Raises BrainError for a brain that cannot be asked; Stopped from `check`."""
        views = self._journal.views
        if self._terms != (terms := (views.driver, views.effort)):
            self._now = self._made(views.driver, views.effort)
            self._terms, self.model_id = terms, self._now.model_id
        return self._now.generate(*args, **kwargs)

    def parse_tool_calls(self, message: ChatMessage) -> ChatMessage:
        """An answer without calls is an answer: smolagents would look for calls in its text."""
        message.tool_calls = message.tool_calls or []
        return message

    def _made(self, driver: str, effort: str | None) -> Model:
        if driver == "autopilot":
            return Autopilot()
        return Brain(driver, self._settings.keys, self._settings.api_base, self._check, effort)
