"""What a trainer is really fed, written down before step 1: rendered samples, trained labels, stop token, lengths."""

from random import Random
from typing import Any

SAMPLE = 256  # rows looked at: a share is then known to about ±6 points (95 %, worst case)
SHOWN = 3


def look_at_feed(trainer: Any, rows: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """The content of preflight.json.

    `rendered`, `labels`, `masked_share` and `stop_token_trained` come from TRL's own tokenised rows after its own
    collator; lengths and `truncated_share` (rows longer than `max_length` tokens) from `rows` before TRL cuts them.
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


def sample(rows: Any) -> list[dict[str, Any]]:
    """At most SAMPLE rows, always the same ones."""
    chosen = range(len(rows)) if len(rows) <= SAMPLE else sorted(Random(0).sample(range(len(rows)), SAMPLE))
    return [rows[index] for index in chosen]


def segments(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(token ids, labels) of every document in a collated batch of one row; a packed row holds several."""
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    if "position_ids" not in batch:
        length = int(batch["attention_mask"][0].sum())
        return [(ids[:length], labels[:length])]
    starts = [place for place, position in enumerate(batch["position_ids"][0].tolist()) if position == 0]
    return [(ids[a:b], labels[a:b]) for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]


def token_count(row: dict[str, Any], tokenizer: Any) -> int:
    """Tokens of a whole row as TRL would tokenise it, EOS included, nothing cut."""
    if "text" in row:
        return len(tokenizer(row["text"] + tokenizer.eos_token)["input_ids"])
    if "messages" in row:
        return len(tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"])
    if isinstance(row["prompt"], str):
        return len(tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"])
    return len(tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"])


def stop_ids(trainer: Any) -> set[int]:
    """Every token that ends a generation: the tokenizer's EOS and those of the generation config."""
    configured = trainer.model.generation_config.eos_token_id
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
