"""The log as messages."""

from pathlib import Path

from agent.context import NUDGE, Context
from record.events import Budget, Call, Compacted, Finished, Goal, Opened, Replied, Said, Undone
from record.log import Log

OPENED = Opened(
    session="s", goal=Goal(text="Do it", task="chains", model="m"), budget=Budget(hours=1), driver="autopilot"
)


def replied(*calls: str, text: str = "") -> Replied:
    return Replied(text=text, calls=tuple(Call(id=c, name="note", arguments={"a": 1}) for c in calls), model="m")


def finished(call: str) -> Finished:
    return Finished(call=call, name="note", ok=True, output=f"answer to {call}", seconds=0)


def test_each_request_extends_the_last_one_and_a_reopened_log_gives_the_same_bytes(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    context, before = Context(log), []
    for fact in (
        OPENED,
        replied("a", "b"),
        finished("a"),
        finished("b"),
        Said(text="faster"),
        replied("c"),
        finished("c"),
    ):
        log.append(fact)
        now = context.messages()
        assert now[: len(before)] == before
        before = now
    assert Context(Log(log.path)).messages() == before


def test_a_message_said_between_calls_comes_after_their_answers(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED, replied("a", "b"), finished("a"), Said(text="wait"), finished("b"))
    assert [m["role"] for m in Context(log).messages()] == ["system", "user", "assistant", "tool", "tool", "user"]


def test_an_answer_without_calls_is_followed_by_a_nudge(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED, replied(text="I think it is fine."))
    assert Context(log).messages()[-1] == {"role": "user", "content": NUDGE}


def test_a_summary_replaces_what_it_covers_but_not_the_request(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED, replied("a"), finished("a"), Compacted(upto=3, summary="a was answered"))
    messages = Context(log).messages()
    assert [m["role"] for m in messages] == ["system", "user", "user"]
    assert messages[1]["content"].startswith("Do it") and messages[2]["content"].endswith("a was answered")


def test_an_undo_makes_the_brain_forget_the_turn(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    _, said = log.append(OPENED, Said(text="first"))
    before = Context(log).messages()
    log.append(Said(text="second"), Replied(text="ok", model="m"))
    context = Context(log)
    assert any("second" in str(m) for m in context.messages())
    log.append(Undone(upto=said.seq))
    assert context.messages() == before == Context(log).messages()
    log.append(Said(text="third"))
    assert context.messages() == [*before, {"role": "user", "content": "third"}] == Context(log).messages()
