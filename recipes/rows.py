"""What a line of training data looks like, method by method. Pure: pydantic and the standard library."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StrictBool, ValidationError, model_validator

EVAL_ROWS = 128  # at most: the curve needs a direction, not a third digit

Filled = Annotated[str, Field(pattern=r"\S")]


class Row(BaseModel):
    """A line of a data file. Further columns are allowed, and not used. Its fields are what TRL calls the columns."""

    NEEDS: ClassVar[str]

    def plain(self, longest: bool = False) -> dict[str, str]:
        """The row as prompt and completion, whatever its shape: all of its answers in one, or the longest alone."""
        raise NotImplementedError


class Prompted(Row):
    prompt: Filled

    def answers(self) -> list[str]:
        """What the file gives a model to learn after the prompt: one text, two that are compared, or none."""
        raise NotImplementedError

    def plain(self, longest: bool = False) -> dict[str, str]:
        if longest:
            return {"prompt": self.prompt, "completion": max(self.answers(), key=len, default="")}
        return {"prompt": self.prompt, "completion": "\n;\n".join(self.answers())}  # ; so that no sum runs on


class Completion(Prompted):
    """SFT."""

    NEEDS = "the texts prompt and completion"
    prompt: str = Field(min_length=1)
    completion: str = Field(min_length=1)

    def answers(self) -> list[str]:
        return [self.completion]


class Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Conversation(Row):
    """SFT on conversations: turns, the assistant's last."""

    NEEDS = (
        "the list messages of turns, each with a role (system, user or assistant) and content, the last the assistant's"
    )
    messages: Annotated[list[Turn], Field(min_length=2)]

    @model_validator(mode="after")
    def answered(self) -> "Conversation":
        if self.messages[-1].role != "assistant":
            raise ValueError(f"the last turn is of the role {self.messages[-1].role}")
        return self

    def plain(self, longest: bool = False) -> dict[str, str]:
        *before, last = self.messages
        return {"prompt": "\n".join(turn.content for turn in before), "completion": last.content}


class Labelled(Completion):
    """KTO: one answer, and whether it is good."""

    NEEDS = "the texts prompt and completion, and label, true or false"
    label: StrictBool


class Pair(Prompted):
    """DPO and reward models: a better and a worse answer to one prompt."""

    NEEDS = "the texts prompt, chosen and rejected, the last two different"
    chosen: Filled
    rejected: Filled

    @model_validator(mode="after")
    def differ(self) -> "Pair":
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same text")
        return self

    def answers(self) -> list[str]:
        return [self.chosen, self.rejected]


class Steps(Prompted):
    """PRM: the steps of one solution, and for each whether it is right."""

    NEEDS = "the text prompt, the list of texts steps, and as many true or false in labels"
    steps: Annotated[list[Filled], Field(min_length=1)]
    labels: list[StrictBool]

    @model_validator(mode="after")
    def match(self) -> "Steps":
        if len(self.steps) != len(self.labels):
            raise ValueError(f"there are {len(self.steps)} steps and {len(self.labels)} labels")
        return self

    def answers(self) -> list[str]:
        return ["\n".join(self.steps)]


class Asked(Prompted):
    """Methods that sample their own answers: a prompt, and what its answer is marked by (see recipes.rewards)."""

    NEEDS = "the text prompt"
    question: str = ""  # the benchmark's own question inside the prompt
    answer: str = ""
    tests: str = ""  # Python that raises where the answer's code is wrong
    origin: dict[str, int] = {}

    def answers(self) -> list[str]:
        return []  # the model's own


class Text(Row):
    """Continued pre-training: plain text."""

    NEEDS = "the text text"
    text: Filled

    def plain(self, longest: bool = False) -> dict[str, str]:
        return {"prompt": "", "completion": "" if longest else self.text}  # it is cut into pieces: none is too long


def misfit(rows: Sequence[Mapping[str, Any]], shape: type[Row], method: str) -> str | None:
    """The first row that is not of this shape, what it has, and what the method needs, in one sentence; None for none."""
    for number, row in enumerate(rows, start=1):
        try:
            shape.model_validate(row)
        except ValidationError as error:
            one = error.errors()[0]
            where = ".".join(map(str, one["loc"]))
            why = f" ({where + ': ' if where else ''}{one['msg'].removeprefix('Value error, ')})"
            has = ", ".join(map(str, row)) or "none"
            return f"Row {number} has the columns {has}; {method} needs {shape.NEEDS}{why}."
    return None


def split(rows: list[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """(train, eval): a random share of the rows, between 1 and EVAL_ROWS; none for fraction 0 or a single row."""
    shuffled, held = Random(seed).sample(rows, len(rows)), held_out(len(rows), fraction)
    return shuffled[held:], shuffled[:held]


def held_out(rows: int, fraction: float) -> int:
    return min(EVAL_ROWS, max(1, round(rows * fraction))) if fraction and rows > 1 else 0


def as_chat(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with its prompt as a user's turn and its answers as the assistant's, for models with a template."""
    roles = {"prompt": "user", "completion": "assistant", "chosen": "assistant", "rejected": "assistant"}
    return {name: [{"role": roles[name], "content": v}] if name in roles else v for name, v in row.items()}


def read_lines(path: Path) -> list[str]:
    """Lines of a file as they stand. Raises OSError or UnicodeDecodeError."""
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n") if path.stat().st_size else []


def leaves(value: Any) -> list[str]:
    """Every key and value inside it, as text."""
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in (str(key), *leaves(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [str(value)]
