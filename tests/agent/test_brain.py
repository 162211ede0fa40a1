"""One model call through litellm, against a server on loopback that speaks the real protocol."""

from dataclasses import replace

import pytest

from agent.brain import Brain, BrainError
from agent.session import Session
from record.events import Replied, Tuned
from tests.fakes import chat_server, fails, says

ASK = [{"role": "user", "content": "hello"}]


def brain(base: str) -> Brain:
    return Brain(
        "openai/scripted", {"ML_INTERN_API_KEY": "sk-of-this-server", "OPENAI_API_KEY": "sk-other"}, base, lambda: None
    )


def test_a_reply_comes_back_with_calls_tokens_and_an_unknown_price():
    with chat_server([says("I note it.", ("note", {"topic": "a", "text": "b"}))]) as server:
        message = brain(server.base).generate(ASK)
    assert message.content == "I note it."
    assert [(c.function.name, c.id) for c in message.tool_calls] == [("note", "t0")]
    assert (message.token_usage.input_tokens, message.token_usage.output_tokens) == (11, 7)
    assert message.raw["dollars"] is None  # litellm does not know this model: unknown is not free
    assert server.headers[0]["Authorization"] == "Bearer sk-of-this-server"  # and no other provider's key


def test_a_refused_key_is_said_at_once_and_a_passing_fault_is_tried_again():
    with chat_server([fails(401, "bad key")]) as server:
        with pytest.raises(BrainError, match="refused the key"):
            brain(server.base).generate(ASK)
        assert len(server.requests) == 1
    with chat_server([fails(500, "oops"), says("back")]) as server:
        assert brain(server.base).generate(ASK).content == "back"
        assert len(server.requests) == 2


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
    assert [m["role"] for m in second[len(first) :]] == ["assistant", "tool"]
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
