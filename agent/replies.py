"""One model's answer, whatever model it is, as the fact Replied. The seam between smolagents' messages and the log."""

import ast
import json
import re
from typing import Any

from smolagents.models import ChatMessage

from record.events import Call, Replied

UNREADABLE = "_unreadable"  # the argument under which a call's text stands when it is not a JSON object


def reply_of(message: ChatMessage, model: str, taken: set[str], number: int) -> Replied:
    """The fact for a message. Its calls get ids that no earlier call has; token counts that are not there stay None.

    Args:
        message: Of ours, its `raw` holds what else a Replied has: thought, dollars, seconds, cached, finish, blocks.
        taken: Ids of all calls before.
        number: How many replies there were before; it makes new ids.
    """
    about: dict[str, Any] = {"model": model} | (message.raw if isinstance(message.raw, dict) else {})
    calls, used, whole = [], set(taken), about.get("finish") != "length"
    for position, call in enumerate(message.tool_calls or []):
        name = call.id if call.id and call.id not in used else f"call-{number}-{position}"
        used.add(name)
        calls.append(Call(id=name, name=call.function.name, arguments=arguments_of(call.function.arguments, whole)))
    usage = message.token_usage
    return Replied(
        text=message.content if isinstance(message.content, str) else "",
        calls=tuple(calls),
        tokens_in=usage.input_tokens if usage else None,
        tokens_out=usage.output_tokens if usage else None,
        **about,
    )


def arguments_of(given: Any, whole: bool = True) -> dict[str, Any]:
    """A call's arguments as an object; what is none stands under UNREADABLE, so that it can be answered.

    Models write JSON inside JSON, with a comma too many, line breaks in strings, or as Python: that is read. An answer
    that was cut off (not `whole`) is never mended: half of a file is not the file.
    """
    if isinstance(given, dict):
        return given
    if not given:
        return {}
    text = str(given).strip()
    for read in (json.loads, *((_loosely, ast.literal_eval) if whole else ())):
        try:
            parsed = read(text)
            parsed = json.loads(parsed) if isinstance(parsed, str) else parsed
        except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(parsed, dict):
            return parsed
    return {UNREADABLE: str(given)}


def _loosely(text: str) -> Any:
    """JSON with line breaks in its strings, or in a block of Markdown. Raises ValueError."""
    fenced = re.fullmatch(r"```(?:json)?\n(.*)\n```", text, re.DOTALL)
    return json.loads(fenced[1] if fenced else text, strict=False)
