"""What a trainer is really fed, written down before step 1: rendered samples, trained labels, stop token, lengths."""

from collections.abc import Callable
from random import Random
from typing import Any

SAMPLE = 256  # rows looked at: a share is then known to about ±6 points (95 %, worst case)
SHOWN = 3


def look_at_feed(trainer: Any, rows: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """The content of preflight.json.

    `rendered`, `labels`, `masked_share` and `stop_token_trained` come from the trainer's own tokenised rows after its
    own collator; lengths and `truncated_share` (rows longer than `max_length` tokens) from `rows` before it cuts them,
    or leaves them out. Of a pair both answers count.
    """
    tokenizer = trainer.processing_class
    feed = [segment for row in sample(trainer.train_dataset) for segment in segments(trainer.data_collator([row]))]
    lengths = sorted(token_count(row, tokenizer) for row in sample(rows))
    stops = stop_ids(trainer)
    masked = sum(label == -100 for _, labels in feed for label in labels)
    trained = [[label for label in labels if label != -100] for _, labels in feed]
    return {
        "rows": len(rows),
        "steps": steps,
        "vocabulary": len(tokenizer),
        "rendered": [tokenizer.decode(ids) for ids, _ in feed[:SHOWN]],
        "labels": [tokenizer.decode(labels) for labels in trained[:SHOWN]],
        "stop_token": tokenizer.eos_token,
        "stop_token_trained": share(ends_with(labels, stops, tokenizer) for labels in trained),
        "masked_share": round(masked / max(1, sum(len(ids) for ids, _ in feed)), 4),
        "max_length": trainer.args.max_length,
        "truncated_share": share(length > trainer.args.max_length for length in lengths),
        "length_p50": lengths[len(lengths) // 2],
        "length_p95": lengths[int(len(lengths) * 0.95)],
        "length_max": lengths[-1],
    }


def without(*names: str) -> Callable[[Any, list[dict[str, Any]], int], dict[str, Any]]:
    """`look_at_feed` for a recipe in which these say nothing: what is missing is no finding."""

    def look(trainer: Any, rows: list[dict[str, Any]], steps: int) -> dict[str, Any]:
        return {name: value for name, value in look_at_feed(trainer, rows, steps).items() if name not in names}

    return look


def sample(rows: Any) -> list[dict[str, Any]]:
    """At most SAMPLE rows, always the same ones."""
    chosen = range(len(rows)) if len(rows) <= SAMPLE else sorted(Random(0).sample(range(len(rows)), SAMPLE))
    return [rows[index] for index in chosen]


def segments(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(token ids, labels) of every text in a collated batch of one row; a packed row holds several, and a pair two."""
    if "position_ids" not in batch:
        ids, there = batch["input_ids"], batch["attention_mask"]
        labels = batch.get("labels", ids.masked_fill(batch.get("completion_mask", there) == 0, -100))
        lengths = there.sum(1).tolist()
        return [(ids[at, :n].tolist(), labels[at, :n].tolist()) for at, n in enumerate(lengths)]
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    starts = [place for place, position in enumerate(batch["position_ids"][0].tolist()) if position == 0]
    return [(ids[a:b], labels[a:b]) for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]


def token_count(row: dict[str, Any], tokenizer: Any) -> int:
    """Tokens of a whole row as its trainer would tokenise it, with its longest answer, EOS included, nothing cut."""
    if "text" in row:
        return len(tokenizer(row["text"] + tokenizer.eos_token)["input_ids"])
    if "messages" in row:
        return len(tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"])
    prompt, plain = row["prompt"], isinstance(row["prompt"], str)
    if "steps" in row:  # recipes.prm has a line for each, without a template
        lines = [prompt if plain else prompt[0]["content"], *row["steps"]]
        return sum(
            len(tokenizer(line.strip("\n") + "\n", add_special_tokens=at == 0)["input_ids"])
            for at, line in enumerate(lines)
        )
    answers = [row[name] for name in ("completion", "chosen", "rejected") if name in row]
    if plain:
        return max(len(tokenizer(prompt + answer + tokenizer.eos_token)["input_ids"]) for answer in answers)
    turns = (tokenizer.apply_chat_template(prompt + answer, return_dict=True) for answer in answers)
    return max(len(turn["input_ids"]) for turn in turns)


def stop_ids(trainer: Any) -> set[int]:
    """Every token that ends a generation: the tokenizer's EOS and those of the generation config."""
    configured = getattr(getattr(trainer.model, "generation_config", None), "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return {token for token in [*several, trainer.processing_class.eos_token_id] if token is not None}


def ends_with(labels: list[int], stops: set[int], tokenizer: Any) -> bool:
    """Whether the last trained label is a stop token; many chat templates put a line break after it."""
    for label in reversed(labels):
        if label in stops:
            return True
        if tokenizer.decode([label]).strip():
            return False
    return False


def share(flags: Any) -> float:
    flags = list(flags)
    return round(sum(flags) / max(1, len(flags)), 4)
