"""The scripted provider of the tests speaks as providers do: seen through litellm, and on the wire."""

import json
import time
from dataclasses import dataclass, field, replace
from http.client import IncompleteRead
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from agent import settings as env
from agent.session import Session
from tests.chat.server import chat_server
from tests.chat.turns import (
    breaks,
    cut,
    empty,
    fails,
    forbidden,
    huge,
    no_credit,
    overflow,
    proxy_page,
    raw_arguments,
    refusal,
    says,
    slow,
    stalls,
)

ASK = [{"role": "user", "content": "hello"}]
NOTE = {"type": "function", "function": {"name": "note", "parameters": {"type": "object", "properties": {}}}}
OPENAI, ANTHROPIC = "openai/scripted", "anthropic/claude-sonnet-4-5"
both = pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
either = pytest.mark.parametrize("stream", [True, False])


@dataclass
class Heard:
    """What litellm made of an answer."""

    text: str = ""
    thought: str = ""
    blocks: list[dict] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)  # index -> id, name, arguments
    ending: str | None = None
    usage: Any = None
    times: list[float] = field(default_factory=list)  # of the pieces of text

    def add(self, message: Any) -> None:
        self.text += message.content or ""
        self.thought += message.get("reasoning_content") or ""
        self.blocks += message.get("thinking_blocks") or []
        for place, call in enumerate(message.tool_calls or []):
            made = self.calls.setdefault(getattr(call, "index", place), ["", "", ""])
            made[0] += call.id or ""
            made[1] += call.function.name or ""
            made[2] += call.function.arguments or ""
        if message.content:
            self.times.append(time.monotonic())


def ask(server, model: str, stream: bool, heard: Heard | None = None, timeout: float = 20) -> Heard:
    """Ask through litellm; raises what it raises. `heard` keeps what came before that."""
    env.quiet_libraries()
    import litellm

    litellm.suppress_debug_info = True
    heard = heard or Heard()
    base = server.base if model == OPENAI else server.root
    how: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer: Any = litellm.completion(
        model=model, api_base=base, api_key="k", messages=ASK, tools=[NOTE], timeout=timeout, max_retries=0, **how
    )
    for part in answer if stream else [answer]:
        for choice in part.choices:
            heard.add(choice.delta if stream else choice.message)
            heard.ending = choice.finish_reason or heard.ending
        heard.usage = part.get("usage") or heard.usage
    return heard


def wire(server, path: str, **body: Any) -> list[tuple[str | None, Any]]:
    """The events of a stream as they stand on the wire: (name, payload)."""
    asked = Request(server.root + path, json.dumps({"stream": True} | body).encode(), method="POST")
    with urlopen(asked, timeout=20) as answer:
        blocks = answer.read().decode().split("\n\n")
    found = []
    for block in filter(None, blocks):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        data = lines["data"]
        found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


@both
@either
def test_a_reply_comes_through_whole_and_in_pieces(model, stream):
    calls = [("note", {"topic": "ä", "text": "b"}), ("note", {"topic": "c", "text": "d"})]
    turn = says("I note it.", *calls, thought="Hm, let me see.", tokens=(900, 20), cached=800, pieces=4)
    with chat_server([turn]) as server:
        heard = ask(server, model, stream)
    assert (heard.text, heard.thought, heard.ending) == ("I note it.", "Hm, let me see.", "tool_calls")
    made = sorted(heard.calls.values())
    assert [(i, name, json.loads(given)) for i, name, given in made] == [("t0", *calls[0]), ("t1", *calls[1])]
    assert (heard.usage.prompt_tokens, heard.usage.completion_tokens) == (900, 20)
    assert heard.usage.prompt_tokens_details.cached_tokens == 800
    assert len(heard.times) == (4 if stream else 1)
    assert server.requests[0].get("stream", False) == stream


@either
def test_thinking_comes_signed_and_redacted_and_the_cache_is_counted(stream):
    turn = says("x", thought="Hm, I see.", signature="sig==", redacted="r3d", tokens=(100, 2), cached=60, written=30)
    with chat_server([turn]) as server:
        heard = ask(server, ANTHROPIC, stream)
    assert heard.thought == "Hm, I see."
    assert [block["signature"] for block in heard.blocks if block.get("signature")] == ["sig=="]
    assert [block["data"] for block in heard.blocks if block["type"] == "redacted_thinking"] == ["r3d"]
    usage = heard.usage
    assert (usage.prompt_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (100, 60, 30)


def test_chunks_stand_on_the_wire_as_openai_sends_them():
    script = [says("ab", ("note", {"a": 1}), thought="t", pieces=2)]
    with chat_server(script) as server:
        events = wire(server, "/v1/chat/completions", stream_options={"include_usage": True})
        untold = wire(server, "/v1/chat/completions")
    *chunks, usage, done = [payload for _, payload in events]
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"]["total_tokens"] == 18
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    begun = {"index": 0, "id": "t0", "type": "function", "function": {"name": "note", "arguments": ""}}
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "t"},
        {"content": "a"},
        {"content": "b"},
        {"tool_calls": [begun]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 7 + ["tool_calls"]
    assert all("usage" not in payload for _, payload in untold)


def test_events_stand_on_the_wire_as_anthropic_sends_them():
    with chat_server([says("ab", ("note", {"a": 1}), thought="t", signature="s", pieces=2)]) as server:
        events = wire(server, "/v1/messages")
    assert all(name == payload["type"] for name, payload in events)
    assert [payload["delta"]["type"] for name, payload in events if name == "content_block_delta"] == [
        *("thinking_delta", "signature_delta"),
        *("text_delta", "text_delta"),
        *("input_json_delta", "input_json_delta"),
    ]
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert [name for name, _ in events] == ["message_start", "ping", *block * 3, "message_delta", "message_stop"]
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use" and events[-2][1]["usage"]["output_tokens"] == 7


@both
@either
@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (fails(401, "bad key"), "AuthenticationError"),
        (fails(429, "slow down"), "RateLimitError"),
        (fails(500, "oops"), "InternalServerError"),
        (fails(503, "busy"), "ServiceUnavailableError"),
        (fails(529, "Overloaded"), "APIError InternalServerError"),
        (overflow(), "ContextWindowExceededError"),
        (forbidden(), "ContentPolicyViolationError"),
        (no_credit(), "RateLimitError BadRequestError"),
        (proxy_page(), "BadGatewayError"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_an_error_is_what_litellm_takes_it_for(model, stream, turn, kind):
    """Where two names stand, the first is what the OpenAI side becomes and the second Anthropic's."""
    with chat_server([turn]) as server, pytest.raises(Exception) as caught:
        ask(server, model, stream)
    assert type(caught.value).__name__ == (kind.split()[0] if model == OPENAI else kind.split()[-1])


@both
def test_the_time_to_wait_stands_in_a_header(model):
    with chat_server([fails(429, "slow down", retry_after=0.2)]) as server, pytest.raises(Exception) as caught:
        ask(server, model, True)
    assert caught.value.litellm_response_headers["retry-after"] == "0.2"


@both
@pytest.mark.parametrize("turn", [cut(after_pieces=3), breaks(after_pieces=3)], ids=["cut", "breaks"])
def test_what_breaks_in_the_middle_raises_after_what_came(model, turn):
    heard = Heard()
    with chat_server([turn]) as server, pytest.raises(Exception) as caught:
        ask(server, model, True, heard)
    assert (heard.text, heard.ending, heard.usage) == ("This answer comes in ", None, None)
    assert type(caught.value).__name__ == "MidStreamFallbackError"


@both
@pytest.mark.parametrize("after", [0, 1, 100, 300])
def test_a_connection_may_break_after_any_byte(model, after):
    with chat_server([cut(after_bytes=after)]) as server:
        for stream in (True, False):
            with pytest.raises(Exception, match=r"connection|Connection|disconnect|incomplete"):
                ask(server, model, stream)


@both
def test_a_stream_that_ends_without_an_ending_looks_whole_to_litellm(model):
    """A trap, kept here in sight: litellm makes up the `stop` that never came."""
    path = "/v1/chat/completions" if model == OPENAI else "/v1/messages"
    with chat_server([cut(after_pieces=3, clean=True)]) as server:
        heard, said = ask(server, model, True), json.dumps(wire(server, path))
    assert (heard.text, heard.ending) == ("This answer comes in ", "stop")
    assert not [word for word in ("DONE", '"stop"', "end_turn", "message_stop") if word in said]


@both
@either
def test_odd_answers_come_through_as_they_are(model, stream):
    script = [empty(), raw_arguments("note", '{"topic": '), refusal("No."), huge(2**20)]
    with chat_server(script) as server:
        nothing, broken, refused, long = [ask(server, model, stream) for _ in script]
    assert (nothing.text, nothing.calls) == ("", {})
    assert broken.ending == "length"
    if stream or model == OPENAI:  # Anthropic's whole answer cannot hold what is no JSON
        assert list(broken.calls.values()) == [["t0", "note", '{"topic": ']]
    assert (refused.text, refused.ending) == ("No.", "content_filter")
    assert len(long.text) == 2**20


@both
def test_slow_pieces_come_one_by_one(model):
    with chat_server([slow(says("one two three", pieces=3), 0.2)]) as server:
        heard = ask(server, model, True)
    assert heard.text == "one two three"
    begun, ended = server.spans[0]
    assert ended - begun >= 0.6
    assert heard.times[0] < ended  # two pauses of 0.2 s before the last piece was sent


@both
@either
@pytest.mark.parametrize("after", [None, 2])
def test_a_client_that_leaves_a_stalled_answer_is_noticed(model, stream, after):
    with chat_server([stalls(after_pieces=after)]) as server:
        heard = Heard()
        with pytest.raises(Exception, match=r"[Tt]imed out"):
            ask(server, model, stream, heard, timeout=0.5)
        assert len(heard.times) == (after or 0) * stream
        until = time.monotonic() + 5
        while not server.left and time.monotonic() < until:
            time.sleep(0.01)
        assert server.left == [0]


def test_the_server_closes_at_once_while_a_client_waits(capfd):
    with chat_server([stalls()]) as server:
        asked = Request(server.base + "/chat/completions", b'{"stream": true}')
        answer = urlopen(asked, timeout=20)
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.5
    with answer, pytest.raises(IncompleteRead):
        answer.read()
    assert server.left == [] and capfd.readouterr() == ("", "")


def test_a_function_makes_its_turn_when_it_is_asked_and_the_last_turn_stays():
    with chat_server([says("a"), lambda: says(str(len(server.requests)))]) as server:
        assert [ask(server, OPENAI, True).text for _ in range(3)] == ["a", "2", "3"]
    assert server.paths == ["/v1/chat/completions"] * 3 and len(server.headers) == len(server.spans) == 3


def test_what_a_function_of_the_script_raises_is_the_tests_own():
    def wrong():
        raise AssertionError("not what was expected")

    own = pytest.raises(AssertionError, match="not what was expected")
    with own, chat_server([wrong]) as server, pytest.raises(Exception, match="onnect"):
        ask(server, OPENAI, True)


@pytest.mark.parametrize(
    ("headers", "window"), [({}, "max_model_len"), ({"anthropic-version": "1"}, "max_input_tokens")]
)
def test_the_models_are_listed_with_their_window_if_it_is_told(headers, window):
    for length in (None, 4096):
        with chat_server([says("x")], model="tiny", max_model_len=length) as server:
            (model,) = json.load(urlopen(Request(server.base + "/models", headers=headers), timeout=20))["data"]
            assert (model["id"], model.get(window)) == ("tiny", length)
            assert server.requests == []


CALL = {"id": "t0", "type": "function", "function": {"name": "note", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": "I note.", "tool_calls": [CALL]}
DONE = {"role": "tool", "tool_call_id": "t0", "content": "noted"}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t0", "name": "note", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t0", "content": "noted"}]}
MESSAGES, COMPLETIONS = "/v1/messages", "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "history", "says_what"),
    [
        (COMPLETIONS, [CALLED], "did not have response messages: t0"),
        (COMPLETIONS, [CALLED, *ASK, DONE], "did not have response messages: t0"),
        (COMPLETIONS, [DONE], "must be a response"),
        (COMPLETIONS, [CALLED, DONE, DONE], "must be a response"),
        (COMPLETIONS, [{"role": "assistant", "content": "x", "tool_calls": []}], "empty array"),
        (MESSAGES, [USE, *ASK], "without `tool_result` blocks: t0"),
        (MESSAGES, [*ASK, RESULT], "unexpected `tool_use_id`"),
        (MESSAGES, [USE, RESULT, USE, RESULT], "ids must be unique"),
        (MESSAGES, [{"role": "assistant", "content": " "}], "non-whitespace"),
        (COMPLETIONS, [CALLED, DONE, *ASK], None),
        (MESSAGES, [USE, RESULT], None),
    ],
)
def test_a_strict_server_takes_only_what_a_provider_takes(path, history, says_what):
    with chat_server([says("fine", pieces=1)], strict=True) as server:
        if says_what is None:
            assert "fine" in "".join(map(str, wire(server, path, messages=[*ASK, *history])))
        else:
            with pytest.raises(HTTPError) as caught:
                wire(server, path, messages=[*ASK, *history])
            assert caught.value.code == 400
            assert says_what in json.loads(caught.value.read())["error"]["message"]


def test_with_thinking_on_the_last_thoughts_must_come_back():
    thought = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    signed = USE | {"content": [thought, *USE["content"]]}
    with chat_server([says("fine")], strict=True) as server:
        wire(server, MESSAGES, messages=[*ASK, signed, RESULT], thinking={"type": "enabled"})
        with pytest.raises(HTTPError, match="400"):
            wire(server, MESSAGES, messages=[*ASK, USE, RESULT], thinking={"type": "enabled"})


@both
def test_a_session_of_ours_asks_what_a_strict_provider_takes(model, settings, new_session):
    calls = [("note", {"topic": "a", "text": "b"}), ("note", {"topic": "c", "text": "d"})]
    script = [says("", *calls), says("x", ("no_such_tool", {})), says("", ("note", "{broken")), says("I am done.")]
    with chat_server(script, strict=True) as server:
        local = replace(settings, api_base=server.base if model == OPENAI else server.root)
        session, _ = new_session(local, driver=model)
        closed = Session(local, session).run()
    assert (closed.outcome, len(server.requests)) == ("needs_person", 5), closed.reason
