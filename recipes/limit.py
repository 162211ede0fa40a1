"""How long a row may be: as long as the longest, unless somebody says otherwise."""

from collections.abc import Mapping
from math import ceil
from typing import Any, Self

from pydantic import PositiveInt

from recipes.preflight import token_count
from recipes.training import TrainingConfig

COUNTED = 256  # of the rows, those of most characters: the one of most tokens is among them
STEP = 8  # tokens: what tensor cores like (NVIDIA, "Matrix multiplication background")


class Limited(TrainingConfig):
    """A recipe whose rows are cut, or left out, beyond so many tokens."""

    max_length: PositiveInt | None = None  # tokens of a row; None: of the longest there is, up to the model's context

    def sized(self, rows: list[dict[str, Any]], tokenizer: Any, context: int | None) -> Self:
        """With a limit that cuts nothing which the model can read."""
        if self.max_length:
            return self
        limit = ceil(self.longest(rows, tokenizer) / STEP) * STEP
        return self.model_copy(update={"max_length": min(limit, context or limit)})

    def longest(self, rows: list[dict[str, Any]], tokenizer: Any) -> int:
        """Tokens of the longest row, with a stop token that the trainer adds."""
        return 1 + max(token_count(row, tokenizer) for row in sorted(rows, key=_characters)[-COUNTED:])


def _characters(row: Mapping[str, Any]) -> int:
    answers = (len(str(row[name])) for name in ("completion", "chosen", "rejected", "steps", "messages") if name in row)
    return len(str(row.get("prompt", ""))) + max(answers)
