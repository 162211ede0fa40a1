"""How much of a session its driver can still see, and the summary that makes room when that is too much."""

import json
from typing import Any

from smolagents.models import ChatMessage

from agent.brain import Brain
from agent.context import Context, Message
from agent.providers import BrainError
from record.events import Compacted
from record.journal import Journal

FULL = 0.9  # of the window, from which on the past is summarised
LATEST = 5  # rounds of calls that stay word for word, as far as they fill no more than a quarter of the window
SUMMARY = 0.1  # of the window, at most, for the summary
CHARS_PER_TOKEN = 3.0  # low on purpose: an estimate must not come out below the truth
CUT = 1_000  # characters of a message that a summary is made from, when all of them are too much
LOST = "The earlier messages could not be summarised; what the lab keeps of them is above."
ASK = """[lab] The window is nearly full. Write a summary that you will go on from; the messages before your last few \
rounds will be gone. Text only, no tool call. Say: what the person wants; what was done and what it showed, with file \
names, job ids and exact numbers; what failed and why; what you were about to do next. The lab keeps scores, plan, \
ideas with verdicts, jobs and budgets by itself."""


class Memory:
    """Decides when the messages of one driver are too many, and writes the summary."""

    def __init__(self, journal: Journal, who: str, context: Context):
        """`context` is what the driver reads, too."""
        self._journal = journal
        self._who = who
        self._context = context

    @property
    def summarised(self) -> bool:
        """Whether a summary has been made since the last reply: a second one would help nobody."""
        made = self._last()
        replied = self._journal.views.replies.get(self._who)
        return made is not None and made.seq > (replied.seq if replied else 0)

    def due(self, messages: list[Message], brain: Brain) -> bool:
        """Whether the past has to be summarised before the next request, because of the window or a person's wish."""
        if self.summarised:
            return False
        views, made = self._journal.views, self._last()
        wanted = views.wants_compaction > (made.seq if made else 0)
        return wanted or self._tokens(messages) > FULL * brain.window

    def summarise(self, brain: Brain, **kwargs: Any) -> list[Message]:
        """Append a summary of all but the latest rounds, and return the messages that are left.

        Whatever the brain answers, the session goes on: with its summary, or with what the lab keeps by itself. Raises
        BrainError only for a provider that cannot be asked at all.
        """
        upto = self._boundary(self._context.messages(), brain.window)
        asked = [*self._context.upto(upto), {"role": "user", "content": ASK}]
        answer = self._answer(brain, asked, kwargs)
        usage, about = (answer.token_usage, answer.raw) if answer else (None, None)
        about = about if isinstance(about, dict) else {}
        text = answer.content if answer and isinstance(answer.content, str) else ""
        limit = int(SUMMARY * brain.window * CHARS_PER_TOKEN)
        fact = Compacted(
            who=self._who,
            upto=upto,
            summary=text.strip()[:limit] or LOST,
            model=about.get("model") or brain.model_id or "",
            tokens_in=usage.input_tokens if usage else None,
            tokens_out=usage.output_tokens if usage else None,
            dollars=about.get("dollars") if answer else 0.0,
        )
        self._journal.append(fact)
        return self._context.messages()

    def _answer(self, brain: Brain, asked: list[Message], kwargs: dict[str, Any]) -> ChatMessage | None:
        """The brain's answer; from shortened messages when all of them are too much, None when those are, too."""
        most = max(1_000, int(SUMMARY * brain.window))
        for messages in (asked, [_short(message) for message in asked]):
            try:
                return brain.generate(messages, **kwargs, max_tokens=most)
            except BrainError as error:
                if error.kind not in ("overflow", "refused"):
                    raise
        return None

    def _boundary(self, shown: list[Message], window: int) -> int:
        """The seq up to which messages go: before the latest rounds, fewer of them where they are long."""
        rounds = self._context.rounds
        for kept in range(min(LATEST, len(rounds) // 2), 0, -1):
            rest = shown[len(self._context.upto(rounds[-kept])) :]
            if _chars(rest) / CHARS_PER_TOKEN <= window / 4:
                return rounds[-kept]
        return len(self._journal.log)

    def _last(self) -> Compacted | None:
        return self._journal.views.compactions.get(self._who)

    def _tokens(self, messages: list[Message]) -> float:
        """About how many tokens a request has: what the provider counted last time, and an estimate of what is new."""
        replied, made = self._journal.views.replies.get(self._who), self._last()
        if replied is None or replied.tokens_in is None or (made and made.seq > replied.seq):
            return _chars(messages) / CHARS_PER_TOKEN
        last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=0)
        return replied.tokens_in + (replied.tokens_out or 0) + _chars(messages[last + 1 :]) / CHARS_PER_TOKEN


def _chars(messages: list[Message]) -> int:
    return sum(len(json.dumps(message, ensure_ascii=False)) for message in messages)


def _short(message: Message) -> Message:
    text = message["content"]
    if message["role"] == "system" or len(text) <= CUT:
        return message
    return message | {"content": f"{text[: CUT // 4]} […] {text[-CUT * 3 // 4 :]}"}
