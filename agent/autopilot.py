"""A fixed research policy in place of a language model: reads tool results, decides the next calls. No LLM.

It is a smolagents Model like any other and sees exactly what an LLM would see: the messages, nothing else. It never
sees held-out items. The same messages always give the same answer.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole, Model

from agent.context import NOTICES
from agent.ideas import ANYWHERE, Idea, Trial, expected_gain, first_idea, next_idea, shortened
from lab.preflight import TOO_LONG

NAME = "autopilot (a fixed policy, no LLM)"
MAX_IDEAS = 8
PLAN = (
    "Measure the base model",
    "Audit the data",
    "Train and judge one idea after the other",
    "Measure the best on held-out items",
)
Calls = tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Exchange:
    """A call and its answer: all of its text, and the JSON object that it is; an answer in words is a refusal."""

    name: str
    arguments: dict[str, Any]
    text: str
    result: dict[str, Any]
    ok: bool


@dataclass(frozen=True)
class Move:
    """What to do next: words for the person, calls for the tools."""

    text: str
    calls: Calls


@dataclass
class Lookback:
    """The session so far, as read from the messages."""

    terms: dict[str, Any]
    exchanges: list[Exchange] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # what the person said since the last reply

    def named(self, name: str) -> list[Exchange]:
        return [e for e in self.exchanges if e.name == name]

    def done(self, name: str) -> list[Exchange]:
        return [e for e in self.named(name) if e.ok]

    def score(self, model: str, split: str) -> dict[str, Any] | None:
        results = [e.result for e in self.done("evaluate")]
        return next((r for r in reversed(results) if (r["model"], r["split"]) == (model, split)), None)

    def status(self, job: str) -> dict[str, Any] | None:
        """How a job stood when it was last waited for."""
        return next((e.result for e in reversed(self.done("wait")) if e.arguments["job"] == job), None)

    def best(self) -> str:
        promotions = self.done("promote")
        return promotions[-1].result["best"] if promotions else "base"

    def best_score(self) -> dict[str, Any]:
        """The best model's score on dev: it was promoted by it."""
        score = self.score(self.best(), "dev")
        assert score is not None
        return score

    def unmeasured(self) -> str | None:
        """The text of an evaluation that failed since the last training, if one did."""
        last = max((i for i, e in enumerate(self.exchanges) if e.name == "train" and e.ok), default=-1)
        return next((e.text for e in self.exchanges[last + 1 :] if e.name == "evaluate" and not e.ok), None)

    def refused(self) -> Exchange | None:
        """The last refusal of data or of a launch that no launch has followed."""
        last = next((e for e in reversed(self.exchanges) if e.name in ("train", "prepare_data")), None)
        return last if last and not last.ok else None

    def rows(self) -> dict[str, dict[str, Any]]:
        """How each training file was made: the arguments of its call."""
        return {f"data/{e.arguments['name']}.jsonl": e.arguments for e in self.done("prepare_data")}


class Autopilot(Model):
    """The policy behind smolagents' interface."""

    def __init__(self) -> None:
        super().__init__(model_id=NAME)

    def generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatMessage:
        """The next move as a chat message with tool calls; only `messages` matter."""
        past = look_back(messages)
        move = decide(past)
        text = "".join(f"I follow a fixed policy and cannot act on “{said}”. " for said in past.unread) + move.text
        number = sum(1 for message in messages if message["role"] == "assistant") + 1
        calls = [
            ChatMessageToolCall(ChatMessageToolCallFunction(name=name, arguments=given), f"c{number}-{i}", "function")
            for i, (name, given) in enumerate(move.calls, start=1)
        ]
        return ChatMessage(MessageRole.ASSISTANT, text, calls, raw={"model": NAME, "dollars": 0.0})


def look_back(messages: list[Any]) -> Lookback:
    """Pair every call with its answer."""
    past, asked = Lookback(terms={}), {}
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "user" and not past.terms:
            past.terms = json.loads(content.rsplit("\n\n", 1)[1])
        elif role == "user" and not content.startswith(NOTICES):  # its own eyes tell it what the lab says there
            past.unread.append(content)
        elif role == "assistant":
            past.unread.clear()
            asked |= {call["id"]: call["function"] for call in message.get("tool_calls", [])}
        elif role == "tool":
            call = asked[message["tool_call_id"]]
            past.exchanges.append(_exchange(call["name"], json.loads(call["arguments"]), content))
    return past


def decide(past: Lookback) -> Move:
    """The policy: baseline, audit, then idea by idea until the target, the budget or the ideas run out."""
    if not past.named("plan") or not past.named("audit_data"):
        return Move(_opening(past), (("plan", _plan(1)), ("audit_data", {})))
    for split in ("heldout", "dev"):
        if past.score("base", split) is None:
            if said := past.unmeasured():
                return _end(past, f"The base model could not be measured: {said}")
            return Move(f"First the base model, on the {split} items.", _evaluate("base", split))
    return _after_training(past) or _next_training(past)


def _after_training(past: Lookback) -> Move | None:
    """Follow the last launch to its verdict; None when there is nothing to follow."""
    trains = past.done("train")
    if not trains:
        return None
    job = trains[-1].result["job"]
    if any(e.arguments.get("model") == job for e in past.named("promote")):
        return None
    status, score = past.status(job), past.score(job, "dev")
    if status is None or status["state"] == "running":
        return Move(_findings(status) or f"{job} is running; I wait for it.", (("wait", {"job": job}),))
    if status["state"] != "done":
        return Move(f"{job} {status['state']}: {status['reason']}.", (("promote", {"model": job}),))
    if score:
        return Move(f"{job} has {_say(score)} on dev.", (("promote", {"model": job}),))
    last = past.exchanges[-1]
    if last.name == "evaluate" and not last.ok:
        return _end(past, f"{job} could not be measured: {last.text}")
    return Move(_findings(status) or f"{job} is trained.", _evaluate(job, "dev"))


def _next_training(past: Lookback) -> Move:
    """The next idea, or the end."""
    score, target, trials = past.best_score(), past.terms["target"], _trials(past)
    if target is not None and score["value"] >= target:
        return _end(past, f"{past.best()} reaches {_say(score)} on dev, and the target is {target:g}.")
    if refused := past.refused():
        smaller = _smaller(past, refused, [trial.idea for trial in trials])
        if smaller is None:
            return _end(past, f"The lab refused: {refused.text}")
        return Move(f"Next idea: {smaller.text}", _launch(past, smaller, len(trials) + 1))
    if sum("out_of_memory" not in trial.findings for trial in trials) >= MAX_IDEAS:  # that one tested nothing
        return _end(past, f"{MAX_IDEAS} ideas are tried, which is as many as this policy has patience for.")
    audit = past.named("audit_data")[-1]
    if not audit.ok:
        return _end(past, f"The data could not be audited: {audit.text}")
    idea = next_idea(trials, audit.result) if trials else first_idea(audit.result, past.terms["own_rows"])
    if idea is None:
        return _end(past, "No idea is left that this policy has not tried.")
    plan: Calls = () if trials else (("plan", _plan(3)),)
    return Move(f"Next idea: {idea.text}", (*plan, *_launch(past, idea, len(trials) + 1)))


def _evaluate(model: str, split: str) -> Calls:
    return (("evaluate", {"model": model, "split": split}),)


def _launch(past: Lookback, idea: Idea, number: int) -> Calls:
    """Prepare the idea's data, unless the very same file is there, and train on it."""
    wanted = idea.data()
    file = next((file for file, made in past.rows().items() if wanted.items() <= made.items()), None)
    prepare: Calls = () if file else (("prepare_data", {"name": f"rows-{number}", **wanted}),)
    config = {"data": file or f"data/rows-{number}.jsonl", **idea.config()}
    gains = [e.result.get("delta") or 0.0 for e in past.done("promote")]
    forecast = expected_gain(gains, past.best_score()["value"])
    asked = {"recipe": idea.recipe, "config": config, "idea": idea.text, "expected_gain": forecast}
    return *prepare, ("train", asked if idea.machine == ANYWHERE else asked | {"machine": idea.machine})


def _smaller(past: Lookback, refused: Exchange, tried: list[Idea]) -> Idea | None:
    """The refused idea in as many steps as the lab says would fit; None where it says something else, or said so before."""
    fits = re.search(r"at most (\d+) steps", refused.text)
    if refused.name != "train" or TOO_LONG not in refused.text or not fits:
        return None
    idea = _idea(past, refused)
    smaller = None if idea is None or "to fit into the time" in idea.text else shortened(idea, int(fits[1]))
    return None if smaller is None or smaller.settings() in [idea.settings() for idea in tried] else smaller


def _end(past: Lookback, why: str) -> Move:
    """Measure the best on held-out items, once, and say how it went."""
    best, base, target = past.best(), past.score("base", "heldout"), past.terms["target"]
    if base is None:
        return Move(f"{why} Nothing was trained.", (("final_answer", {"answer": f"{why} Nothing was trained."}),))
    score = past.score(best, "heldout")
    if score is None and not past.unmeasured():
        return Move(f"{why} Now the held-out items.", (("plan", _plan(4)), *_evaluate(best, "heldout")))
    if past.named("plan")[-1].arguments != _plan(len(PLAN) + 1):
        return Move("Everything is measured.", (("plan", _plan(len(PLAN) + 1)),))
    final = f"{best} has {_say(score)} on" if score else f"{best} could not be measured on"
    missed = f" The target of {target:g} is missed." if target and score and score["value"] < target else ""
    answer = f"{why} {final} held-out items; the base has {_say(base)}.{missed}"
    return Move("I am done.", (("final_answer", {"answer": answer}),))


def _trials(past: Lookback) -> list[Trial]:
    """Every idea of this policy's kind that was launched, with how it ended."""
    trials = []
    verdicts = {e.arguments["model"]: e.result["verdict"] for e in past.done("promote")}
    for launch in past.done("train"):
        job, idea = launch.result["job"], _idea(past, launch)
        if idea is None:
            continue
        status, score = past.status(job), past.score(job, "dev")
        share, value = (score["finished_share"], score["value"]) if score else (None, None)
        said = {finding["rule"]: finding["advice"] for finding in status["findings"]} if status else {}
        larger = re.search(r'machine = "([^"]+)"', said.get("out_of_memory", ""))
        verdict = verdicts.get(job, "crash")
        trials.append(Trial(job, idea, verdict, set(said), share, value, larger[1] if larger else ""))
    return trials


def _idea(past: Lookback, launch: Exchange) -> Idea | None:
    """The idea behind a launch; None for one of another driver, which may train what this policy does not know."""
    config = launch.arguments["config"]
    try:
        text, recipe = launch.arguments.get("idea", ""), launch.arguments.get("recipe", "sft")
        machine = launch.arguments.get("machine", ANYWHERE)
        return Idea.of(text, past.rows()[config["data"]], config, recipe, machine)
    except (KeyError, TypeError):
        return None


def _opening(past: Lookback) -> str:
    target = past.terms["target"]
    aim = f"until {target:g} is reached" if target is not None else "as far as the budget carries"
    return f"I am Autopilot: a fixed policy, no language model. I measure the base model on {past.terms['task']}, then train {aim}."


def _plan(doing: int) -> dict[str, Any]:
    """The plan with its step number `doing` (from 1) under way; one past the last is all done."""
    states = (["done"] * (doing - 1) + ["doing"] + ["todo"] * len(PLAN))[: len(PLAN)]
    return {"steps": [{"text": text, "state": state} for text, state in zip(PLAN, states, strict=True)]}


def _findings(status: dict[str, Any] | None) -> str:
    serious = [f"{f['what']} {f['advice']}" for f in status["findings"] if f["level"] != "info"] if status else []
    return f"The lab found on {status['job']}: {' '.join(serious)}" if status and serious else ""


def _say(score: dict[str, Any]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] (n = {score['n']})"


def _exchange(name: str, arguments: dict[str, Any], content: str) -> Exchange:
    try:
        result = json.loads(content)
    except ValueError:
        result = None
    ok = isinstance(result, dict)
    return Exchange(name, arguments, content, result if ok else {}, ok)
