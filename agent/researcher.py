"""smolagents' tool-calling loop with the log for a memory and a gate before every tool.

Two methods of ToolCallingAgent 1.26 are overridden, `write_memory_to_messages` and `process_tool_calls`; a test holds
their signatures. Everything else is smolagents'.
"""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from smolagents import ActionStep, ToolCallingAgent
from smolagents.agents import ToolOutput
from smolagents.memory import ToolCall
from smolagents.models import ChatMessage, Model
from smolagents.monitoring import LogLevel
from smolagents.tools import validate_tool_arguments

from agent.context import Context
from agent.gate import judge
from agent.replies import UNREADABLE, reply_of
from lab.errors import LabError
from record.events import Asked, Call, Finished, Started
from record.journal import Journal
from tools.base import Tool

NO_END = 10**9  # steps: budgets end a session, not smolagents' counter, which would ask for a made-up answer
FOREVER = 10 * 365 * 86400.0  # seconds to wait for a person


class Researcher(ToolCallingAgent):
    """One agent on one log. Build a new one from the same log and it goes on where the last one was."""

    def __init__(self, model: Model, tools: Sequence[Tool], journal: Journal, check: Callable[[], None]):
        """`check` raises Stopped or OutOfBudget; it runs before each call of the model and while anything waits."""
        super().__init__(
            tools=list(tools), model=model, max_steps=NO_END, verbosity_level=LogLevel.OFF, step_callbacks=[_forget]
        )
        self._journal = journal
        self._context = Context(journal.log)
        self._check = check

    def write_memory_to_messages(self, summary_mode: bool | None = False) -> list[ChatMessage]:
        """The log as messages, instead of smolagents' own memory."""
        self._check()
        return self._context.messages()  # type: ignore[return-value]  (plain messages: they keep native tool calls)

    def process_tool_calls(
        self, chat_message: ChatMessage, memory_step: ActionStep
    ) -> Generator[ToolCall | ToolOutput]:
        """Log the reply, then answer its calls in order. Never raises for a tool's sake."""
        views = self._journal.views
        taken = set(views.finished) | views.started
        self._journal.append(reply_of(chat_message, self.model.model_id or "unknown", taken, views.spent.replies))
        yield from self.answer_open_calls()

    def answer_open_calls(self) -> Generator[ToolOutput]:
        """Answer the last reply's calls that have no answer yet: after a reply, and after a restart."""
        calls = self._journal.views.unanswered
        alone = self._journal.views.replied is None or len(self._journal.views.replied.calls) == 1
        for call in calls:
            finished = self._answer(call, alone)
            final = finished.ok and call.name == "final_answer"
            yield ToolOutput(
                id=call.id,
                output=finished.output,
                is_final_answer=final,
                observation=finished.output,
                tool_call=ToolCall(name=call.name, arguments=call.arguments, id=call.id),
            )

    def _answer(self, call: Call, alone: bool) -> Finished:
        """The one Finished of a call: refused, run, or broken."""
        started = time.monotonic()
        tool = self.tools.get(call.name)
        if (refused := self._wrong(call, tool, alone)) is not None:
            return self._finish(call, False, refused, started)
        assert isinstance(tool, Tool)
        allowed, arguments = self._ask_gate(call, tool)
        if not allowed:
            return self._finish(call, False, arguments["reason"], started)
        if call.id in self._journal.views.started:
            if not tool.repeatable:
                return self._finish(call, False, "A restart interrupted this call; look at what it did.", started)
        else:
            self._journal.append(Started(call=call.id, name=call.name, arguments=arguments))
        tool.call = call.id
        try:
            return self._finish(call, True, str(tool(**arguments)), started)
        except LabError as error:
            return self._finish(call, False, str(error), started)
        except Exception as error:  # a boundary: a broken tool is an answer, not the end of a session
            return self._finish(call, False, f"The tool broke ({type(error).__name__}: {error}).", started)

    def _wrong(self, call: Call, tool: Any, alone: bool) -> str | None:
        """Why a call cannot be run at all; None when it can."""
        if not isinstance(tool, Tool):
            return f"There is no tool {call.name!r}; there are: {', '.join(self.tools)}."
        if UNREADABLE in call.arguments:
            return f"The arguments are not a JSON object: {call.arguments[UNREADABLE][:200]!r}. Send the call again."
        if call.name == "final_answer" and not alone:
            return "Call final_answer by itself, after the other calls have been answered."
        try:
            validate_tool_arguments(tool, call.arguments)
        except (TypeError, ValueError) as error:
            return f"{error} (expected: {', '.join(tool.inputs) or 'no arguments'})"
        return None

    def _ask_gate(self, call: Call, tool: Tool) -> tuple[bool, dict[str, Any]]:
        """Whether the call may run, and with which arguments: a person may have edited them."""
        price = tool.price(call.arguments)
        verdict = judge(tool.effect, price, self._journal.views)
        if verdict.kind == "allow":
            return True, call.arguments
        if verdict.kind == "deny":
            return False, {"reason": verdict.reason}
        if call.id not in self._journal.views.asked:
            asked = Asked(call=call.id, name=call.name, arguments=call.arguments, reason=verdict.reason, dollars=price)
            self._journal.append(asked)
        self._journal.wait(lambda views: call.id in views.decided, FOREVER, self._check)
        decided = self._journal.views.decided[call.id]
        if not decided.allow:
            return False, {"reason": "The person denied it. Find another way, or ask what they want."}
        return True, decided.arguments if decided.arguments is not None else call.arguments

    def _finish(self, call: Call, ok: bool, output: str, started: float) -> Finished:
        seconds = round(time.monotonic() - started, 3)
        fact = Finished(call=call.id, name=call.name, ok=ok, output=output, seconds=seconds)
        self._journal.append(fact)
        return fact


def _forget(step: ActionStep, agent: ToolCallingAgent) -> None:
    """smolagents' own memory is not read: without this it would hold every request of the session."""
    step.model_input_messages = None
    agent.memory.steps.clear()
