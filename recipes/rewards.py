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
from functools import cache
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

# A word in an answer, LaTeX's commands and the names of functions aside: then numbers and $...$ are looked for in it,
# and it is not read as a product of letters.
WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|pi|sin|cos|tan|log|ln|exp|or|and)\b)[A-Za-z]{2,}")
MOST_SECONDS = 2  # for reading an answer, and again for comparing it: 9^9^9^9 would take for ever
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
    """1 where what is in the last `\\boxed{}`, follows the last `Answer:`, or is the text equals the answer: by math-verify.

    Fractions, decimals to six digits, roots, sets, intervals, matrices, equations; units and words beside a number do not
    count. What takes too long is worth 0. It stops by SIGALRM, so outside the main thread it raises ValueError.
    """

    kind: Literal["math"] = "math"
    needs = ("answer",)

    def score(self, text: str, tokens: int, row: Mapping[str, Any]) -> float:
        from math_verify import verify

        if comparable(after_marker(text) or text) == comparable(row["answer"]):
            return 1.0
        return float(verify(expressions(row["answer"]), expressions(text), timeout_seconds=MOST_SECONDS))


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


def expressions(text: str) -> list[Any]:
    """What math-verify reads in an answer: in its box, after its marker, or in all of it."""
    from math_verify import parse

    if "\\boxed{" not in text:
        text = (after_marker(text) or text).rstrip(" .")
        text = text if WORD.search(text) else f"\\boxed{{{text}}}"
    return parse(text, parsing_timeout=MOST_SECONDS)


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
