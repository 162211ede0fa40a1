"""A reply in Anthropic's messages protocol, whole and as a stream of events."""

import json
from collections.abc import Iterator
from typing import Any

from tests.chat.turns import Failure, Reply
from tests.chat.wire import Part, event, split

ENDINGS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def whole(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request without `stream`. Arguments that are no JSON object cannot be said: they become {}."""
    content: list[dict[str, Any]] = []
    for begun, deltas in _blocks(reply):
        filled = dict(begun)
        for delta in deltas:
            for field in ("text", "thinking", "signature"):
                if field in delta:
                    filled[field] += delta[field]
        if begun["type"] == "tool_use":
            filled["input"] = _object("".join(delta["partial_json"] for delta in deltas))
        content.append(filled)
    ending = {"stop_reason": ENDINGS[reply.ending], "stop_sequence": None}
    return _frame(body) | {"content": content, "usage": _usage(reply)} | ending


def stream(reply: Reply, body: dict[str, Any]) -> Iterator[Part]:
    """Events; usage comes with the first and, complete, with the last but one."""
    usage = _usage(reply)
    message = _frame(body) | {"content": [], "stop_reason": None, "stop_sequence": None}
    yield _event("message_start", message=message | {"usage": usage | {"output_tokens": 1}})
    yield _event("ping")
    for index, (begun, deltas) in enumerate(_blocks(reply)):
        yield _event("content_block_start", index=index, content_block=begun)
        for delta in deltas:
            yield _event("content_block_delta", piece=delta["type"] != "signature_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    yield _event("message_delta", delta={"stop_reason": ENDINGS[reply.ending], "stop_sequence": None}, usage=usage)
    yield _event("message_stop")


def error(failure: Failure) -> dict[str, Any]:
    """The document of an error."""
    kind = TYPES.get(failure.status, "api_error")
    about = {"type": kind, "message": failure.text}
    return {"type": "error", "error": about, "request_id": "req_1"}


def broken(failure: Failure) -> Part:
    """The error in the middle of a stream."""
    return event(error(failure), name="error")


def models(name: str, max_model_len: int | None) -> dict[str, Any]:
    """The list of models; `max_model_len` is its input window."""
    window = {} if max_model_len is None else {"max_input_tokens": max_model_len}
    listed = {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} | window
    return {"data": [listed], "has_more": False, "first_id": name, "last_id": name}


def _blocks(reply: Reply) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each content block as it begins, and its deltas."""
    if not reply.choices:
        return
    if reply.thought:
        deltas = [{"type": "thinking_delta", "thinking": text} for text in split(reply.thought, reply.pieces)]
        if reply.signature:
            deltas.append({"type": "signature_delta", "signature": reply.signature})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if reply.redacted:
        yield {"type": "redacted_thinking", "data": reply.redacted}, []
    if reply.text:
        yield (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": text} for text in split(reply.text, reply.pieces)],
        )
    for call in reply.calls:
        deltas = [{"type": "input_json_delta", "partial_json": text} for text in split(call.arguments, reply.pieces)]
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, deltas


def _event(kind: str, piece: bool = False, **fields: Any) -> Part:
    return event({"type": kind} | fields, piece, name=kind)


def _frame(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "scripted")}


def _usage(reply: Reply) -> dict[str, int]:
    """Anthropic counts what came from or went to the cache apart from the other input tokens, and always reports."""
    asked, said = reply.tokens or (0, 0)
    return {
        "input_tokens": asked - reply.cached - reply.written,
        "cache_creation_input_tokens": reply.written,
        "cache_read_input_tokens": reply.cached,
        "output_tokens": said,
    }


def _object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text or "{}")
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}
