"""A reply in OpenAI's chat-completions protocol, whole and as a stream of chunks."""

from collections.abc import Iterator
from typing import Any

from tests.chat.turns import Failure, Reply
from tests.chat.wire import Part, event, split

TYPES = {401: "authentication_error", 403: "permission_error", 429: "requests"}
CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def whole(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request without `stream`."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.thought:
        message["reasoning_content"] = reply.thought
    if reply.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.ending}
    usage = {"usage": _usage(reply)} if reply.tokens else {}
    return _frame(body, "chat.completion") | {"choices": [choice] * reply.choices} | usage


def stream(reply: Reply, body: dict[str, Any]) -> Iterator[Part]:
    """Chunks; the last but one holds the usage if the request asked for it."""
    told = bool((body.get("stream_options") or {}).get("include_usage")) and reply.tokens is not None
    frame = _frame(body, "chat.completion.chunk") | ({"usage": None} if told else {})

    def chunk(delta: dict[str, Any], piece: bool = False, ending: str | None = None) -> Part:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ending}
        return event(frame | {"choices": [choice] * reply.choices}, piece)

    yield chunk({"role": "assistant", "content": ""})
    for text in split(reply.thought, reply.pieces):
        yield chunk({"reasoning_content": text}, piece=True)
    for text in split(reply.text, reply.pieces):
        yield chunk({"content": text}, piece=True)
    for index, call in enumerate(reply.calls):
        begun = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield chunk({"tool_calls": [begun]})
        for text in split(call.arguments, reply.pieces):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]}, piece=True)
    yield chunk({}, ending=reply.ending)
    if told:
        yield event(frame | {"choices": [], "usage": _usage(reply)})
    yield Part(b"data: [DONE]\n\n")


def error(failure: Failure) -> dict[str, Any]:
    """The document of an error."""
    code = failure.code or CODES.get(failure.status)
    usual = TYPES.get(failure.status, "server_error" if failure.status >= 500 else "invalid_request_error")
    kind = failure.kind or usual
    return {"error": {"message": failure.text, "type": kind, "param": None, "code": code}}


def broken(failure: Failure) -> Part:
    """The error in the middle of a stream."""
    return event(error(failure))


def models(name: str, max_model_len: int | None) -> dict[str, Any]:
    """The list of models; with the window that vLLM tells."""
    window = {} if max_model_len is None else {"max_model_len": max_model_len}
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} | window]}


def _frame(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 0, "model": body.get("model", "scripted")}


def _usage(reply: Reply) -> dict[str, Any]:
    asked, said = reply.tokens or (0, 0)
    usage: dict[str, Any] = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    if reply.cached:
        usage["prompt_tokens_details"] = {"cached_tokens": reply.cached}
    return usage
