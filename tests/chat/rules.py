"""What providers demand of a request's messages, in their words: the rules that a long tool-using history breaks first."""

from collections.abc import Iterator
from typing import Any

from tests.chat.turns import Failure, fails

Message = dict[str, Any]


def broken_rule(path: str, body: dict[str, Any]) -> Failure | None:
    """The 400 that the provider of this protocol would answer with; None for a request that is in order."""
    check = _anthropic if path.startswith("/v1/messages") else _openai
    wrong = next(check(body), None)
    return fails(400, wrong) if wrong else None


def _openai(body: dict[str, Any]) -> Iterator[str]:
    wanted: list[str] = []  # calls of the last assistant message that no tool message has answered yet
    for place, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in wanted:
                yield f"messages[{place}]: a 'tool' message must be a response to a preceding 'tool_calls'."
            wanted = [name for name in wanted if name != message["tool_call_id"]]
        elif wanted:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(wanted)}"
            )
        if message.get("tool_calls") == []:
            yield f"Invalid 'messages[{place}].tool_calls': empty array. Expected an array with minimum length 1."
        wanted += [call["id"] for call in message.get("tool_calls") or []]
    if wanted:
        yield f"tool_call_ids did not have response messages: {', '.join(wanted)}"


def _anthropic(body: dict[str, Any]) -> Iterator[str]:
    messages = body["messages"]
    if messages[0]["role"] != "user":
        yield 'messages: first message must use the "user" role'
    seen: set[str] = set()
    for place, message in enumerate(messages):
        blocks = _blocks(message)
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            yield f"messages.{place}: text content blocks must contain non-whitespace text"
        used = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(used)) < len(used) or seen & set(used):
            yield f"messages.{place}: `tool_use` ids must be unique"
        seen |= set(used)
        before = _uses(messages[place - 1]) if place else []
        for block in blocks:
            if block["type"] == "tool_result" and block["tool_use_id"] not in before:
                yield f"messages.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {block['tool_use_id']}"
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if missing := [name for name in before if name not in answered]:
            yield f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks: {', '.join(missing)}"
    yield from _unsigned(body)


def _unsigned(body: dict[str, Any]) -> Iterator[str]:
    """With thinking on, the last answer with calls must be sent back with the thoughts that it began with."""
    if (body.get("thinking") or {}).get("type") not in ("enabled", "adaptive"):
        return
    last = next((m for m in reversed(body["messages"]) if m["role"] == "assistant"), None)
    if last and _uses(last) and _blocks(last)[0]["type"] not in ("thinking", "redacted_thinking"):
        yield "Expected `thinking` or `redacted_thinking`, but found another block, in the final `assistant` message."


def _uses(message: Message) -> list[str]:
    return [block["id"] for block in _blocks(message) if block["type"] == "tool_use"]


def _blocks(message: Message) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
