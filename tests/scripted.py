"""A brain that reads its calls from a script, and a session driven by it on the real loop, tools and lab."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole, Model

from agent.researcher import Researcher
from agent.session import Session, machines
from agent.settings import Settings
from lab.errors import Stopped
from lab.lab import Lab
from lab.supervisor import Supervisor
from lab.tasks import Vault
from record.journal import Journal
from tools.all import all_tools
from tools.base import Tool


class Script(Model):
    """Says all its calls in one reply, and stops when it is asked again."""

    def __init__(self, *calls: tuple[str, Any]):
        super().__init__(model_id="script")
        self._calls = calls
        self._said = False

    def generate(self, messages: list[Any], **kwargs: Any) -> ChatMessage:
        if self._said:
            raise Stopped("the script is over")
        self._said = True
        calls = [
            ChatMessageToolCall(ChatMessageToolCallFunction(name=name, arguments=arguments), f"s{i}", "function")
            for i, (name, arguments) in enumerate(self._calls)
        ]
        return ChatMessage(MessageRole.ASSISTANT, "", calls)


def open_lab(settings: Settings, session: str) -> tuple[Lab, Supervisor, Journal]:
    """The lab of a session and its supervisor, as Session builds them; the supervisor is not started."""
    opened = Session(settings, session)
    backend = machines(lambda: settings)
    lab = Lab(
        opened.log,
        opened.folder,
        backend,
        Vault(settings.vault),
        settings.job_env,
        lambda: None,
        settings.keys.get("HF_TOKEN"),
    )
    return lab, Supervisor(opened.log, opened.folder, backend, settings.job_env), Journal(opened.log)


def script_session(settings: Settings, session: str, script: Script, extra: Sequence[type[Tool]] = ()) -> Journal:
    """One reply of the script, all of its calls answered."""
    lab, _, journal = open_lab(settings, session)
    tools = [*all_tools(lab), *(tool(lab) for tool in extra)]
    researcher = Researcher(script, tools, journal, lambda: None)
    with suppress(Stopped):
        list(researcher.run("go", stream=True))
    return journal
