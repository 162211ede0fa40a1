"""smolagents' tool-calling loop with the log for a memory and a gate before every tool.

Two methods of ToolCallingAgent 1.26 are overridden, `write_memory_to_messages` and `process_tool_calls`; a test holds
their signatures. Everything else is smolagents'.
"""

import copy
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

from smolagents import ActionStep, ToolCallingAgent
from smolagents.agents import ToolOutput
from smolagents.memory import ToolCall
from smolagents.models import ChatMessage, Model
from smolagents.monitoring import LogLevel
from smolagents.tools import validate_tool_arguments

from agent.aside import begin, wait_for
from agent.context import Context
from agent.gate import judge
from agent.replies import UNREADABLE, reply_of
from lab.errors import LabError, NeedsPerson
from lab.workspace import SHOWN
from record.events import Asked, Call, Finished, Started
from record.journal import Journal
from record.redact import redact
from record.views import MAIN
from tools.base import Tool

NO_END = 10**9  # steps: budgets end a session, not smolagents' counter, which would ask for a made-up answer
SLACK = 1_000  # characters over SHOWN that a tool which shortens by itself may say about it
FOREVER = 10 * 365 * 86400.0  # seconds to wait for a person


class Researcher(ToolCallingAgent):
    """One agent on one log. Build a new one from the same log and it goes on where the last one was."""

    def __init__(
        self,
        model: Model,
        tools: Sequence[Tool],
        journal: Journal,
        check: Callable[[], None],
        context: Context | None = None,
        who: str = MAIN,
        replied: Callable[[], None] = lambda: None,
    ):
        """`check` raises Stopped or OutOfBudget; it runs before each call of the model and while anything waits.

        `replied` runs when an answer of the model has become a fact.
        """
        super().__init__(
            tools=list(tools), model=model, max_steps=NO_END, verbosity_level=LogLevel.OFF, step_callbacks=[_forget]
        )
        self._journal = journal
        self._context = context or Context(journal.log)
        self._who = who
        self._check = check
        self._replied = replied

    def work(self, task: str) -> str:
        """Drive the loop, which is smolagents', to its final answer. Open calls of an earlier owner come first."""
        for output in self.answer_open_calls():
            if output.is_final_answer:
                return output.output
        steps = self.run(task, stream=True)
        assert isinstance(steps, Iterator)
        answers = [s.output for s in steps if isinstance(s, ToolOutput) and s.is_final_answer]
        return answers[0]  # the loop has no other ending: what stops it raises

    def write_memory_to_messages(self, summary_mode: bool | None = False) -> list[ChatMessage]:
        """The log as messages, instead of smolagents' own memory."""
        self._check()
        messages = self._context.messages()
        if stuck := self._context.loops.stuck:
            raise NeedsPerson(f"it goes in circles ({stuck}); tell it what to do instead")
        return messages  # type: ignore[return-value]  (plain messages: they keep native tool calls)

    def process_tool_calls(
        self, chat_message: ChatMessage, memory_step: ActionStep
    ) -> Generator[ToolCall | ToolOutput]:
        """Log the reply, then answer its calls in order. Never raises for a tool's sake."""
        views = self._journal.views
        taken = set(views.finished) | views.started
        reply = reply_of(chat_message, self.model.model_id or "unknown", taken, views.spent.replies)
        self._journal.append(reply.model_copy(update={"who": self._who, "upto": self._context.seen}))
        self._replied()
        yield from self.answer_open_calls()

    def answer_open_calls(self) -> Generator[ToolOutput]:
        """Answer the last reply's calls that have no answer yet: after a reply, and after a restart.

        Calls that only look run at the same time as their neighbours; everything else runs in order.
        """
        for calls in self._batches(self._journal.views.open_calls(self._who)):
            for call, finished in zip(calls, self._answer(calls), strict=True):
                yield ToolOutput(
                    id=call.id,
                    output=finished.output,
                    is_final_answer=finished.ok and call.name == "final_answer",
                    observation=finished.output,
                    tool_call=ToolCall(name=call.name, arguments=call.arguments, id=call.id),
                )

    def _batches(self, calls: Sequence[Call]) -> list[list[Call]]:
        """Neighbours that may run together, in order."""
        batches: list[list[Call]] = []
        for together, group in groupby(calls, lambda call: getattr(self.tools.get(call.name), "together", False)):
            neighbours = list(group)
            batches += [neighbours] if together else [[call] for call in neighbours]
        return batches

    def _answer(self, calls: Sequence[Call]) -> list[Finished]:
        """The one Finished of each call: refused, run, or broken. Several run at once. Raises Stopped."""
        started = time.monotonic()
        ready = [self._prepared(call) for call in calls]
        if len(ready) == 1:
            answers = [_outcome(ready[0])]
        else:
            running = [begin(_outcome, one) for one in ready]
            wait_for(running, self._check)
            answers = [outcome.result() for outcome in running]
        return [self._finish(call, ok, output, started) for call, (ok, output) in zip(calls, answers, strict=True)]

    def _prepared(self, call: Call) -> Callable[[], Any]:
        """What is to be done for a call: its tool with its arguments, or to say why it is not run."""
        try:
            tool = self._checked(call)
            arguments = self._allowed(call, tool)
        except LabError as refused:
            return partial(_refuse, refused)
        if call.id not in self._journal.views.started:
            self._journal.append(Started(who=self._who, call=call.id, name=call.name, arguments=arguments))
        elif not tool.repeatable:
            return partial(_refuse, LabError("A restart interrupted this call; look at what it did."))
        mine = copy.copy(tool)  # two calls of one tool may run at once
        mine.call = call.id
        return partial(mine, **arguments)

    def _checked(self, call: Call) -> Tool:
        """The tool of a call. Raises LabError for a call that cannot be run at all."""
        tool, replied = self.tools.get(call.name), self._journal.views.replies.get(self._who)
        if not isinstance(tool, Tool):
            raise LabError(f"There is no tool {call.name!r}; there are: {', '.join(self.tools)}.")
        if UNREADABLE in call.arguments:
            cut = replied is not None and replied.finish == "length"
            todo = "Your answer was cut off at its longest; send less at once." if cut else "Send the call again."
            raise LabError(f"The arguments are not a JSON object: {call.arguments[UNREADABLE][:200]!r}. {todo}")
        if call.name == "final_answer" and self._who == MAIN and self._journal.views.unread:
            raise LabError("The person wrote something meanwhile: read it, and then go on or end.")
        if call.name == "final_answer" and replied is not None and len(replied.calls) > 1:
            raise LabError("Call final_answer by itself, after the other calls have been answered.")
        try:
            validate_tool_arguments(tool, call.arguments)
        except (TypeError, ValueError) as error:
            raise LabError(f"{error} (expected: {', '.join(tool.inputs) or 'no arguments'})") from error
        return tool

    def _allowed(self, call: Call, tool: Tool) -> dict[str, Any]:
        """The arguments that the call may run with: a person may have edited them. Raises LabError when it may not."""
        price = tool.price(call.arguments)
        verdict = judge(tool.effect, price, self._journal.views, datetime.now(UTC))
        if verdict.kind == "allow":
            return call.arguments
        if verdict.kind == "deny":
            raise LabError(verdict.reason)
        if call.id not in self._journal.views.asked:
            reason = f"{verdict.reason} {tool.note(call.arguments)}".strip()
            about = {"name": call.name, "arguments": call.arguments, "reason": reason, "dollars": price}
            self._journal.append(Asked(who=self._who, call=call.id, **about))
        self._journal.wait(lambda views: call.id in views.decided, FOREVER, self._check)
        decided = self._journal.views.decided[call.id]
        if not decided.allow:
            raise LabError("The person denied it. Find another way, or ask what they want.")
        return decided.arguments if decided.arguments is not None else call.arguments

    def _finish(self, call: Call, ok: bool, output: str, started: float) -> Finished:
        seconds = round(time.monotonic() - started, 3)
        shown = self._bounded(call, output)
        fact = Finished(who=self._who, call=call.id, name=call.name, ok=ok, output=shown, seconds=seconds)
        self._journal.append(fact)
        return fact

    def _bounded(self, call: Call, output: str) -> str:
        """An output as the driver sees it: whole, or its head and tail and the file that holds all of it."""
        tool = self.tools.get(call.name)
        if len(output) <= SHOWN + SLACK or not isinstance(tool, Tool):
            return output[: SHOWN * 2]
        return tool.lab.workspace.keep(call.id, redact(output, self._journal.log.secrets))


def _outcome(work: Callable[[], Any]) -> tuple[bool, str]:
    """Whether a call went well, and its answer, whatever its tool raises; only a stop is more than an answer."""
    try:
        return True, str(work())
    except LabError as error:
        return False, str(error)
    except Exception as error:  # a boundary: a broken tool is an answer, not the end of a session
        return False, f"The tool broke ({type(error).__name__}: {error})."


def _refuse(error: LabError) -> None:
    raise error


def _forget(step: ActionStep, agent: ToolCallingAgent) -> None:
    """smolagents' own memory is not read: without this it would hold every request of the session."""
    step.model_input_messages = None
    agent.memory.steps.clear()
