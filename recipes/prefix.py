"""What only the teacher reads before a prompt (recipes.distill), put into rows of token ids."""

from dataclasses import dataclass
from typing import Any

from recipes.job import ConfigError


@dataclass(frozen=True)
class Prefix:
    """After the first `at` tokens of a row, `tokens` come in the place of `gone` others."""

    tokens: list[int]
    at: int = 0
    gone: int = 0

    def before(self, ids: Any, mask: Any) -> tuple[Any, Any]:
        """Rows padded on the left, and their masks, with it: (batch, length + tokens - gone) each."""
        import torch

        told = torch.tensor(self.tokens, dtype=ids.dtype, device=ids.device)
        seen = torch.ones_like(told, dtype=mask.dtype)
        starts = [int(row.argmax()) + self.at for row in mask]
        rows = [torch.cat([row[:at], told, row[at + self.gone :]]) for row, at in zip(ids, starts, strict=True)]
        masks = [torch.cat([row[:at], seen, row[at + self.gone :]]) for row, at in zip(mask, starts, strict=True)]
        return torch.stack(rows), torch.stack(masks)


def prefix_of(text: str, tokenizer: Any) -> Prefix:
    """The text as it stands, after BOS; where there is a chat template, as the system's turn or what it makes of one.

    Raises ConfigError for a template that has no place for it.
    """
    if not tokenizer.chat_template:
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        return Prefix(plain, at=int(tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id))
    from jinja2 import TemplateError

    turns = [{"role": "system", "content": text}, {"role": "user", "content": "x"}]
    try:
        told, alone = (
            tokenizer.apply_chat_template(some, add_generation_prompt=True, return_dict=True)["input_ids"]
            for some in (turns, turns[1:])
        )
    except TemplateError:
        told = alone = []
    at = _alike(told, alone)
    same = _alike(told[at:][::-1], alone[at:][::-1])
    prefix = Prefix(told[at : len(told) - same], at, len(alone) - at - same)
    if text.strip()[:1] not in tokenizer.decode(prefix.tokens) or not prefix.tokens:
        raise ConfigError("The chat template has no place for what the system says; leave teacher_prefix out.")
    return prefix


def _alike(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
