"""A session with every kind of fact, appended by hand as the agent and the lab would."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from record import events as e
from record.log import Log

MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
SEAL = e.Seal(judge="a" * 64, split="b" * 64, model="c" * 64)
IDEA = "A learning rate of 3e-3: it may learn more in the same steps."
CONFIG = {"lr": 0.003, "max_steps": 60}


def opened(session: str, **changes) -> e.Opened:
    goal = e.Goal(text="Teach the starter model chains of sums.", task="chains", model="/models/starter", target=0.9)
    return e.Opened(
        **(
            {"session": session, "goal": goal, "budget": e.Budget(hours=1.0, dollars=2.0), "driver": "autopilot"}
            | changes
        )
    )


def points(job: str, start: float, broken_from: int | None = None) -> list[e.Progressed]:
    made = []
    for step in range(2, 61, 2):
        loss: float | str = "nan" if broken_from and step >= broken_from else start / (1 + step / 8) + 0.02 * (step % 3)
        values = {"loss": loss, "mean_token_accuracy": 1 - 1 / (1 + step / 8)}
        made.append(e.Progressed(job=job, step=step, steps=60, values=values, eta_s=60.0 - step))
    return made


def score(model: str, split, value: float) -> e.Scored:
    low, high = max(0.0, value - 0.04), min(1.0, value + 0.04)
    return e.Scored(
        model=model, benchmark="chains", split=split, metric="accuracy", value=value, low=low, high=high, n=400,
        items=f"jobs/{model}-{split}/items.jsonl", seal=SEAL, job=f"evaluate-{model}", finished_share=0.97,
    )  # fmt: skip


def launched(job: str, attempt: int = 1) -> e.Launched:
    return e.Launched(
        job=job,
        recipe="sft",
        config=CONFIG,
        machine="local CPU",
        hours=0.5,
        idea=IDEA,
        folder=f"jobs/{job}",
        call=f"c-{job}",
        attempt=attempt,
    )


def call(name: str, number: int, arguments: dict, output: str, ok: bool = True) -> list[e.Event]:
    name_of = {"call": f"c{number}", "name": name}
    return [e.Started(**name_of, arguments=arguments), e.Finished(**name_of, ok=ok, output=output, seconds=8.4)]


def plan(*states) -> e.Planned:
    words = (
        "Measure the base model",
        "Audit the data",
        "Train one idea after the other",
        "Measure the best on held-out items",
    )
    return e.Planned(steps=tuple(e.Step(text=text, state=state) for text, state in zip(words, states, strict=True)))


def beginning(session: str) -> list[e.Event]:
    """Up to a run that went wrong and one that went well; the session goes on."""
    train = e.Call(id="c4", name="train", arguments={"recipe": "sft", "config": CONFIG})
    return [
        opened(session),
        e.Replied(text="First the **base model**, with `chains`.", thought="It may not know the format at all.", model="autopilot", dollars=0.11, tokens_in=900, tokens_out=80),
        plan("doing", "todo", "todo", "todo"),
        *call("shell", 1, {"command": "python smoke.py --steps 2"}, f"Traceback: expected BFloat16 {MARKUP}", ok=False),
        *call("shell", 2, {"command": "python smoke.py --steps 2 --fp32"}, "ok"),
        score("base", "dev", 0.04), score("base", "heldout", 0.05),
        e.Noted(topic="data", text=f"Audited task rows {MARKUP}"),
        plan("done", "done", "doing", "todo"),
        e.Said(text="Try more rows, please.", by="ada"),
        e.Replied(text=f"| run | loss |\n|---|---|\n| `sft-1` | {MARKUP} |", calls=(train,), model="autopilot", dollars=0.1),
        launched("sft-1"), *points("sft-1", 9.0, broken_from=40),
        e.Found(rule="not_finite", level="stop", what="loss is nan at step 40.", advice="Halve the learning rate.", job="sft-1", evidence={"step": 40}),
        e.Ended(job="sft-1", state="failed", seconds=31.0, dollars=0.0, reason="loss is nan"),
        e.Promoted(model="sft-1", verdict="crash", against="base", reason="It never finished.", idea="Plain SFT on the data as it is."),
        launched("sft-2"), *points("sft-2", 7.0),
        e.Ended(job="sft-2", state="done", seconds=64.0, dollars=0.0),
        score("sft-2", "dev", 0.62),
        e.Promoted(model="sft-2", verdict="keep", against="base", reason="Better by +0.580 on 400 items.", idea=IDEA, delta=0.58, low=0.53, high=0.63, p=1e-9),
        e.Compacted(upto=9, summary="The base model was measured."),
        e.Asked(call="c9", name="train", arguments={"recipe": "sft", "config": CONFIG}, reason="Training on a paid machine.", dollars=0.26),
    ]  # fmt: skip


def ending() -> list[e.Event]:
    return [
        e.Decided(call="c9", allow=True, by="ada"),
        launched("sft-3"), *points("sft-3", 4.0), launched("sft-3", attempt=2),
        e.Ended(job="sft-3", state="cancelled", seconds=12.0),
        e.Found(rule="plateau", level="warn", what="loss has not moved for 20 steps.", advice="Stop it.", job="sft-3"),
        score("sft-2", "heldout", 0.64),
        plan("done", "done", "done", "done"),
        e.Published(what="report", where="report.md"),
        e.Halted(by="ada"),
        e.Closed(outcome="stopped", reason="stopped by the person"),
    ]  # fmt: skip


def written(path: Path, facts: Iterable[tuple[float, e.Event]]) -> None:
    """A log as it would be if each fact had been appended that many seconds after noon of some Monday."""
    start = datetime(2026, 1, 5, 12, tzinfo=UTC)
    made = [
        fact.model_copy(update={"seq": seq, "at": start + timedelta(seconds=at)})
        for seq, (at, fact) in enumerate(facts, start=1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(fact.model_dump_json() + "\n" for fact in made))


def last(log: Log) -> e.Event:
    log.refresh()
    return log[-1]


def now() -> datetime:
    return datetime.now(UTC)
