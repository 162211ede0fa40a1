"""Verifiable rewards: what an answer is worth, by rule or by running it. Settings of recipes.grpo and recipes.rejection.

A `Code` reward runs what a model wrote, in a process of its own with limits on time, memory and files, but as our
user: it keeps accidents in, not an attacker.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from secrets import token_hex
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from recipes.benchmarks import Benchmark, Item, load, split_of
from recipes.benchmarks.base import after_marker
from recipes.benchmarks.table import comparable
from recipes.rows import Asked
from recipes.training import TrainingConfig

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:\s*/\s*[1-9]\d*)?")
FRACTION = re.compile(r"\\d?frac\{(-?\d+)\}\{(-?\d+)\}")
FENCED = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)
# Runs in the child: limits first, then the answer and its tests; only code that comes to its end can say the word.
CHILD = """
import json, os, resource, sys
task = json.load(sys.stdin)
for limit, value in task["limits"].items():
    resource.setrlimit(getattr(resource, limit), (value, value))
names = {"__name__": "answer"}
exec(compile(task["code"], "answer", "exec"), names)
exec(compile(task["tests"], "tests", "exec"), names)
os.write(1, task["word"].encode())
"""


class Rule(BaseModel):
    """What rewards share. `needs` names the columns that a row must fill for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[tuple[str, ...]] = ()
    MOST: ClassVar[float] = 1.0  # that an answer can be worth
    weight: float = 1.0

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        """What this answer, `tokens` long with its end, is worth."""
        raise NotImplementedError


class Exact(Rule):
    """1 where what follows the last `Answer:`, or the whole text without one, is the answer: case and spaces aside."""

    kind: Literal["exact"] = "exact"
    needs = ("answer",)

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        return float(comparable(after_marker(text) or text) == comparable(row["answer"]))


class Judged(Rule):
    """1 where the benchmark's own score calls it right. Only items of the train split may be asked."""

    kind: Literal["benchmark"] = "benchmark"
    needs = ("question", "answer")
    name: str = ""  # "": the recipe's own benchmark

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        item = Item(id="", question=row["question"], answer=row["answer"], origin=row["origin"])
        return float(benchmark(self.name).score(text, item))


class Maths(Rule):
    """1 where the number, or with math-verify the expression, equals the answer."""

    kind: Literal["math"] = "math"
    needs = ("answer",)

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        if find_spec("math_verify"):
            from math_verify import parse, verify  # type: ignore[import-not-found]

            return float(verify(parse(row["answer"]), parse(text)))
        said = number(text)
        return float(said is not None and said == number(row["answer"]))


class Format(Rule):
    """1 where the text has this form."""

    kind: Literal["format"] = "format"
    pattern: str  # a regular expression that is searched for; ^ and $ are the text's ends, . is any character

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        return float(re.search(self.pattern, text, re.DOTALL) is not None)

    @field_validator("pattern")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"it is no regular expression ({error})") from error
        return pattern


class Length(Rule):
    """0 up to `free` tokens, then a straight line down to -1 at `limit` (soft overlong punishment, DAPO 2503.14476)."""

    kind: Literal["length"] = "length"
    MOST = 0.0
    free: PositiveInt
    limit: PositiveInt

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        return -min(1.0, max(0.0, (tokens - self.free) / max(1, self.limit - self.free)))


class Code(Rule):
    """1 where the answer's Python, fenced or bare, passes the row's tests."""

    kind: Literal["code"] = "code"
    needs = ("tests",)
    seconds: float = Field(5.0, gt=0, le=60)
    memory_mb: int = Field(512, ge=64)

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        fenced = FENCED.findall(text)
        return float(passes(fenced[-1] if fenced else text, row["tests"], self.seconds, self.memory_mb))


Reward = Annotated[Exact | Judged | Maths | Format | Length | Code, Field(discriminator="kind")]
REWARDS: TypeAdapter[tuple[Reward, ...]] = TypeAdapter(tuple[Reward, ...])


class Rewarded(TrainingConfig):
    """Settings of a recipe whose model's own answers are marked."""

    SHAPE = Asked

    benchmark: str = ""  # whose score the reward "benchmark" is
    rewards: tuple[Reward, ...] = Field((Judged(),), min_length=1)  # each {"kind", ..., "weight"}; they add up
    max_new_tokens: PositiveInt = 64
    temperature: float = Field(1.0, gt=0)  # of the samples

    @model_validator(mode="after")
    def benchmarks_are_there(self) -> "Rewarded":
        for rule in self.rewards:
            if isinstance(rule, Judged):
                benchmark(rule.name or self.benchmark)
        return self

    @classmethod
    def misfit(cls, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str | None:
        try:
            rewards = REWARDS.validate_python(config.get("rewards", (Judged(),)))
        except ValidationError:
            rewards = ()  # the config itself is refused
        return super().misfit(rows, config) or problem(rewards, rows)

    def rules(self) -> list[Rule]:
        """The rewards, each with the benchmark that it needs."""
        return [
            rule.model_copy(update={"name": rule.name or self.benchmark}) if isinstance(rule, Judged) else rule
            for rule in self.rewards
        ]


def problem(rewards: tuple[Rule, ...], rows: Any) -> str | None:
    """The first row that these rewards cannot mark, in one sentence; None where they can mark all."""
    for at, row in enumerate(rows, start=1):
        for rule in rewards:
            empty = next((name for name in rule.needs if not row.get(name)), None)
            if empty:
                return f"Row {at} has no {empty}, which the reward {rule.kind!r} needs."  # type: ignore[attr-defined]
            if isinstance(rule, Judged) and split_of(row["question"]) != "train":
                return f"Row {at} is an item of the {split_of(row['question'])} split, which is not trained on."
    return None


@cache
def benchmark(name: str) -> Benchmark:
    """Raises ValueError for a name that means nothing."""
    return load(name)


def number(text: str) -> Fraction | None:
    """The number in `\\boxed{}`, after the last `Answer:`, or the last one of the text; None where there is none."""
    boxed = text.rpartition("\\boxed{")
    part = boxed[2] if boxed[1] else after_marker(text) or text
    found = NUMBER.findall(FRACTION.sub(r"\1/\2", part).replace("\\!", ""))
    if not found:
        return None
    chosen = found[0] if boxed[1] else found[-1]
    top, _, bottom = re.sub(r"[,\s]", "", chosen).partition("/")
    return Fraction(top) / Fraction(bottom or 1)


def passes(code: str, tests: str, seconds: float, memory_mb: int) -> bool:
    """Whether the code runs and its tests do not raise, within these limits. A process group of its own, no environment."""
    word = token_hex(16)
    limits = {
        "RLIMIT_CPU": int(seconds) + 1,
        "RLIMIT_AS": memory_mb << 20,
        "RLIMIT_FSIZE": 1 << 20,
        "RLIMIT_NOFILE": 64,
    }
    task = json.dumps({"code": code, "tests": tests, "word": word, "limits": limits}).encode()
    with TemporaryDirectory() as folder, TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", CHILD], stdin=subprocess.PIPE, stdout=said, stderr=subprocess.DEVNULL,
            cwd=folder, env={}, start_new_session=True,
        )  # fmt: skip
        try:
            child.communicate(task, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(child)
        said.seek(0)
        return child.returncode == 0 and said.read().endswith(word.encode())


def _end(child: subprocess.Popen) -> None:
    """Kill whatever is left of the child's group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
