"""The log as messages."""

from pathlib import Path

from agent.context import NUDGE, Context
from agent.loops import Loops
from record.events import (
    Budget,
    Call,
    Compacted,
    Finished,
    Goal,
    Launched,
    Opened,
    Planned,
    Promoted,
    Queued,
    Replied,
    Said,
    Step,
    Undone,
)
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
    assert [m["role"] for m in Context(log).messages()] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
        "user",
    ]
    assert Context(log).messages()[-1]["content"] == "wait"


def test_an_answer_without_calls_is_followed_by_a_nudge(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED, replied(text="I think it is fine."))
    last = Context(log).messages()[-1]
    assert last["role"] == "user" and last["content"].startswith(f"{NUDGE}\n[clock] ")


def test_a_summary_replaces_what_it_covers_but_not_the_request_nor_what_the_person_said(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED, replied("a"), finished("a"), Said(text="use less memory"), replied("b"), finished("b"))
    latest = Context(log).messages()[-3:]
    log.append(Compacted(upto=4, summary="a was answered"))
    messages = Context(log).messages()
    assert [m["role"] for m in messages] == ["system", "user", "user", "assistant", "tool", "user"]
    assert messages[1]["content"].startswith("Do it") and messages[2]["content"].endswith("a was answered")
    assert "The person said: use less memory" in messages[2]["content"]
    assert messages[3:] == latest


def test_what_the_lab_knows_survives_a_summary_by_itself(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED, replied("a"), finished("a"), Planned(steps=(Step(text="Measure", state="doing"),)))
    log.append(Promoted(model="sft-1", verdict="discard", against="base", reason="no better", idea="twice the rate"))
    log.append(Compacted(upto=5, summary="so far"))
    kept = Context(log).messages()[2]["content"]
    assert "Measure (doing)" in kept and "sft-1: twice the rate -> discard against base: no better" in kept


def test_the_clock_after_each_round_says_what_is_left(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    budget = Budget(hours=1, dollars=2, tokens=1000, calls=10)
    reply = replied("a").model_copy(update={"tokens_in": 90, "tokens_out": 10, "dollars": 0.5})
    log.append(OPENED.model_copy(update={"budget": budget}), reply, finished("a"))
    clock = Context(log).messages()[-1]["content"]
    assert clock.startswith("[clock] ") and "60 min left" in clock
    assert (
        "$1.50 of $2.00 left" in clock and "900 of 1,000 tokens left" in clock and "9 of 10 model calls left" in clock
    )


def test_the_clock_says_what_jobs_may_still_cost_and_what_they_wait_for(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    jobs = (
        Launched(job=f"sft-{n}", recipe="sft", config={}, machine="m", hours=1, price=0.4, folder=f"jobs/sft-{n}")
        for n in (1, 2, 3, 4)
    )
    log.append(OPENED.model_copy(update={"budget": Budget(dollars=2)}), replied("a"), *jobs)
    log.append(Queued(job="sft-1", place=0), Queued(job="sft-2", place=1, eta_s=300), Queued(job="sft-3", place=2))
    log.append(Queued(job="sft-4", place=0, reason="it needs 9 GiB"), finished("a"))
    clock = Context(log).messages()[-1]["content"]
    assert "$2.00 of $2.00 left, of which running jobs may cost $1.60" in clock
    assert "sft-1 runs" in clock and "sft-2 waits, 1 before it, starts in about 5 min" in clock
    assert clock.endswith("sft-3 waits, 2 before it · sft-4 waits: it needs 9 GiB")


def test_a_circle_is_pointed_at_once_and_then_the_driver_is_stuck(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    context = Context(log)
    log.append(OPENED)
    for i in range(3):
        log.append(replied(f"a{i}"), finished(f"a{i}"))
    nudges = [m for m in context.messages() if "going in circles" in m["content"]]
    assert len(nudges) == 1 and "note came 3 times" in nudges[0]["content"] and context.loops.stuck is None
    for i in range(3, 6):
        log.append(replied(f"a{i}"), finished(f"a{i}"))
    context.messages()
    assert context.loops.stuck == "the same call of note came 3 times in a row"
    log.append(Said(text="try evaluate"))
    context.messages()
    assert context.loops.stuck is None


def test_cycles_of_calls_are_circles_and_watching_a_job_is_none():
    def ran(names: str, output: str = "same") -> list[str]:
        loops, nudges = Loops("main"), []
        for i, name in enumerate(names):
            call = Call(id=f"c{i}", name="wait" if name == "w" else name, arguments={})
            loops.add(Replied(calls=(call,), model="m"))
            text = output.format(i=i)
            nudge = loops.add(Finished(call=call.id, name=call.name, ok=True, output=text, seconds=0))
            nudges += [nudge] if nudge else []
        return nudges

    assert ran("ababab") and ran("abcabc") and ran("abcdeabcde") and ran("www")
    assert not ran("abab") and not ran("abcabd") and not ran("aabbcc")
    assert not ran("wwwwww", "step {i}")
    assert "40 calls" in ran("".join(chr(97 + i % 26) + chr(97 + i % 25) for i in range(20)))[0]


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


def test_an_undo_leaves_no_call_without_its_answer(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    _, _, said, _ = log.append(OPENED, replied("a"), Said(text="and hurry"), finished("a"))
    log.append(Undone(upto=said.seq - 1), Said(text="hello again"))
    messages = Context(log).messages()
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool", "user"]
    assert messages[-1]["content"] == "hello again"


def test_what_is_said_while_the_model_answers_comes_after_the_answer(tmp_path: Path):
    log = Log(tmp_path / "events.jsonl")
    log.append(OPENED)
    context = Context(log)
    asked = context.messages()
    log.append(Said(text="wait"), replied("a").model_copy(update={"upto": 1}), finished("a"))
    assert context.messages()[: len(asked)] == asked
    assert [m["role"] for m in context.messages()] == ["system", "user", "assistant", "tool", "user", "user"]
    assert context.messages()[-1]["content"] == "wait" and Context(Log(log.path)).messages() == context.messages()
