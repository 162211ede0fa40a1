"""One model call through litellm, against a server on loopback that speaks the real protocol."""

import gc
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.brain import Brain, BrainError
from agent.session import Session
from agent.settings import Settings
from lab.errors import Stopped
from record.events import Replied, Tuned
from tests.chat.server import chat_server
from tests.chat.turns import breaks, cut, fails, forbidden, no_credit, overflow, proxy_page, says, slow, stalls

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
KEYS = {"ML_INTERN_API_KEY": "sk-of-this-server", "OPENAI_API_KEY": "sk-other", "ANTHROPIC_API_KEY": "sk-ant-other"}
PROTOCOLS = ("openai/scripted", "anthropic/claude-sonnet-5-5")
both = pytest.mark.parametrize("model", PROTOCOLS)


def own(base: str | None, **terms) -> Settings:
    return Settings(Path(), keys=KEYS, api_base=base, **terms)


def ask(server, model: str, said: list | None = None, shown: list | None = None, **access):
    """One answer of a brain on the server's protocol for that model."""
    base = server.base if model.startswith("openai") else server.root
    tell = (lambda what, advice: said.append(what)) if said is not None else (lambda what, advice: None)
    show = (lambda text, thought: shown.append((text, thought))) if shown is not None else (lambda text, thought: None)
    return Brain(model, own(base, **access), lambda: None, show, tell).generate(ASK)


@both
def test_a_streamed_reply_comes_back_whole_with_calls_thought_tokens_and_price(model):
    turn = says(
        "I note it.", ("note", {"topic": "a"}), ("plan", {"steps": []}), thought="Hm.", signature="c2ln", cached=5
    )
    with chat_server([turn]) as server:
        message = ask(server, model)
    assert message.content == "I note it." and message.raw["thought"] == "Hm."
    assert [(c.function.name, c.function.arguments, c.id) for c in message.tool_calls] == [
        ("note", '{"topic": "a"}', "t0"),
        ("plan", '{"steps": []}', "t1"),
    ]
    assert (message.token_usage.input_tokens, message.token_usage.output_tokens) == (11, 7)
    assert (message.raw["cached"], message.raw["finish"]) == (5, "tool_calls")
    sent = server.headers[0].get("Authorization", "") + server.headers[0].get("x-api-key", "")
    assert "sk-of-this-server" in sent and "other" not in sent  # and no other provider's key
    if model.startswith("openai"):
        assert message.raw["dollars"] is None  # nobody knows what this one costs: unknown is not free
    else:
        assert message.raw["dollars"] > 0
        assert message.raw["blocks"] == ({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},)


@both
def test_the_text_is_shown_while_it_comes(model):
    shown: list[tuple[str, str]] = []
    with chat_server([slow(says("one two three four", thought="Hm.", signature="c2ln", pieces=4), 0.15)]) as server:
        ask(server, model, shown=shown)
    texts = [text for text, _ in shown]
    assert len(set(texts)) >= 3 and all("one two three four".startswith(text) for text in texts)


PASSING = {
    "a limit with Retry-After": fails(429, "slow down", retry_after=0.1),
    "a fault": fails(500, "oops"),
    "overloaded": fails(529, "Overloaded"),
    "overloaded on the way": breaks(),
    "a proxy's page": proxy_page(502),
    "a proxy's page that says it is fine": proxy_page(200),
    "a cut line": cut(after_pieces=3),
    "a line that ends as if all was said": cut(after_pieces=3, clean=True),
    "a line that falls silent": stalls(after_pieces=2),
}


@both
@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_asked_again_and_only_a_whole_answer_counts(model, trouble):
    said: list[str] = []
    with chat_server([trouble, says("back", ("note", {"topic": "a"}))]) as server:
        message = ask(server, model, said, patience=2.0)
        assert len(server.requests) == 2 and server.requests[0] == server.requests[1]
    assert message.content == "back" and len(message.tool_calls) == 1
    assert len(said) == 1 and said[0].startswith(model)


LASTING = {
    "auth": (fails(401, "bad key"), "refused the key"),
    "quota": (no_credit(), "no credit left"),
    "overflow": (overflow(), "does not fit its window"),
    "refused": (forbidden(), "refused the content"),
    "setup": (fails(404, "no such model"), "no such model"),
    "failed": (fails(400, "odd request"), "odd request"),
}


@both
@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_is_asked_once_and_said_in_one_sentence_by_its_kind(model, kind):
    trouble, words = LASTING[kind]
    with chat_server([trouble]) as server, pytest.raises(BrainError) as raised:
        ask(server, model)
    assert raised.value.kind == kind and len(server.requests) == 1
    assert words in str(raised.value) and "litellm" not in str(raised.value)


@both
def test_an_answer_leaves_no_connection_to_the_garbage_collector(model):
    gc.collect()
    gc.disable()
    try:
        with chat_server([says("hello there", thought="Hm.", signature="c2ln")]) as server:
            ask(server, model)
        left = [one for one in gc.get_objects() if type(one).__name__ == "PoolByteStream" and not one._closed]
    finally:
        gc.enable()
    assert not left


@both
def test_limits_that_last_for_hours_are_not_waited_for(model):
    with chat_server([fails(429, "slow down", retry_after=7200)]) as server, pytest.raises(BrainError, match="120 min"):
        ask(server, model)
    assert len(server.requests) == 1


@both
def test_unknown_counts_stay_unknown(model):
    with chat_server([says("x", tokens=None)]) as server:
        message = ask(server, model)
    assert message.token_usage is None and message.raw["dollars"] is None


def test_a_person_may_say_what_a_model_costs():
    with chat_server([says("x", tokens=(1_000_000, 500_000))]) as server:
        assert ask(server, "openai/scripted", prices=(0.5, 2.0)).raw["dollars"] == 1.5


def test_a_stop_is_heard_while_the_provider_is_silent():
    def check() -> None:
        if time.monotonic() > until:
            raise Stopped("a person said stop")

    with chat_server([stalls()]) as server:
        until = time.monotonic() + 1.0
        with pytest.raises(Stopped):
            Brain("openai/scripted", own(server.base), check).generate(ASK)
        assert time.monotonic() - until < 2


def test_claudes_cache_is_marked_and_others_get_no_marks_and_no_blocks():
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    call = {"id": "t0", "type": "function", "function": {"name": "note", "arguments": "{}"}}
    spoken = [
        *ASK,
        {"role": "assistant", "content": "I note.", "tool_calls": [call], "thinking_blocks": [thought]},
        {"role": "tool", "tool_call_id": "t0", "content": "noted"},
        {"role": "user", "content": "[clock] 5 min left"},
    ]
    with chat_server([says("x")]) as server:
        for model, base in zip(PROTOCOLS, (server.base, server.root), strict=True):
            Brain(model, own(base), lambda: None).generate(spoken)
    plain, claude = (json.dumps(request) for request in server.requests)
    assert "cache_control" not in plain and "c2ln" not in plain
    assert claude.count('"cache_control"') == 3 and "c2ln" in claude
    assert server.requests[1]["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert server.requests[1]["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}


def test_the_window_is_the_servers_own_where_it_says_so():
    with chat_server([says("x")], max_model_len=32_768) as server:
        assert Brain("openai/scripted", own(server.base), lambda: None).window == 32_768
    claude = "anthropic/claude-sonnet-5-5"
    assert Brain(claude, own(None), lambda: None).window == 190_000  # it could have a million; nobody gains from that
    assert Brain(claude, own(None, window=50_000), lambda: None).window == 50_000


def test_a_session_driven_by_a_hosted_model_runs_through_the_same_loop(settings, new_session):
    script = [
        says("", ("note", {"topic": "idea", "text": "nothing to train"})),
        says("", ("final_answer", {"answer": "Done."})),
        says("I am finished."),
    ]
    with chat_server(script) as server:
        local = replace(settings, api_base=server.base, keys={"ML_INTERN_API_KEY": "sk-of-this-server"})
        session, journal = new_session(local, driver="openai/scripted")
        closed = Session(local, session).run()
    assert closed.outcome == "needs_person"  # final_answer was refused: nothing is measured; then it stopped calling
    views = journal.views
    assert [n.text for n in views.notes] == ["nothing to train"]
    assert views.spent.tokens == 18 * len(server.requests)
    assert views.spent.unpriced == len(server.requests)
    first, second = server.requests[0]["messages"], server.requests[1]["messages"]
    assert second[: len(first)] == first
    assert [m["role"] for m in second[len(first) :]] == ["assistant", "tool", "user"]
    assert "sk-of-this-server" not in journal.log.path.read_text()


def test_a_provider_that_is_gone_ends_the_session_with_its_reason(settings, new_session):
    with chat_server([fails(401, "bad key")]) as server:
        local = replace(settings, api_base=server.base)
        session, _ = new_session(local, driver="openai/scripted")
        closed = Session(local, session).run()
    assert (closed.outcome, "refused the key" in closed.reason) == ("provider_failed", True)


def test_a_key_that_is_gone_when_the_session_goes_on_is_named(settings, new_session):
    keyed = replace(settings, keys={"ANTHROPIC_API_KEY": "sk-ant-of-a-person"})
    session, _ = new_session(keyed, driver="anthropic/claude-sonnet-4-5")
    closed = Session(settings, session).run()
    assert closed.outcome == "provider_failed" and "ANTHROPIC_API_KEY" in closed.reason


def test_a_person_changes_model_and_effort_between_two_answers(settings, new_session):
    def change():
        journal.log.append(Tuned(driver="openai/o3", effort="low"))
        return says("", ("note", {"topic": "a", "text": "b"}))

    script = [change, says("I am finished."), says("Still finished.")]
    with chat_server(script) as server:
        local = replace(settings, api_base=server.base, keys={"ML_INTERN_API_KEY": "sk-of-this-server"})
        session, journal = new_session(local, driver="openai/first")
        Session(local, session).run()
    journal.log.refresh()
    assert [r["model"] for r in server.requests] == ["first", "o3", "o3"]
    assert [r.get("reasoning_effort") for r in server.requests] == [None, "low", "low"]
    assert [r.model for r in journal.log if isinstance(r, Replied)] == ["openai/first", "openai/o3", "openai/o3"]
