"""What a model answers, and what the rewards say of it: for rejection sampling, and to look at before RL takes a step."""

import json
from functools import partial
from random import Random
from typing import Any

from recipes.evaluate import read, rendered, sampling
from recipes.rewards import Rewarded

PROMPTS = 32  # asked before step one: a share is then known to about ±17 points (95 %, worst case)
FEWEST = 4  # fewer groups than these say nothing
SHARE = 0.1  # of the answers that the job will sample, at most
SHOWN = 3


def before_step_one(trainer: Any, config: Any, rows: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """One group of answers to each of a few prompts, summed up; {} for a job too short to be asked first.

    Random numbers, the model's mode and the tokenizer are left as they were: nothing of it stays.
    """
    import torch

    answers = steps * config.batch_size * config.grad_accumulation
    count = min(PROMPTS, len(rows), int(answers * SHARE) // config.generations)
    if count < FEWEST:
        return {}
    chosen = [row | {"origin": json.loads(row["origin"])} for row in Random(0).sample(rows, count)]
    model, tokenizer, size = trainer.model, trainer.processing_class, max(1, config.batch_size // config.generations)
    side, training = tokenizer.padding_side, model.training
    write = partial(by_vllm, trainer) if config.engine == "vllm" else None
    with torch.random.fork_rng():
        parts = [chosen[at : at + size] for at in range(0, count, size)]
        lines = [
            line
            for at, part in enumerate(parts)
            for line in answered(config, part, config.generations, at, model.eval(), tokenizer, write)
        ]
    model.train(training)
    tokenizer.padding_side = side
    return summed_up(lines, config)


def answered(
    config: Any, rows: list[dict[str, Any]], count: int, seed: int, model: Any, tokenizer: Any, write: Any = None
) -> list[dict[str, Any]]:
    """{"prompt", "answers", "tokens", "finished", "scores"} of each row: `count` answers, sampled at once.

    `write` makes the token ids of so many answers to each of some texts; None: the model does.
    """
    import torch

    torch.manual_seed(config.seed + seed)
    prompts = [row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][0]["content"] for row in rows]
    write = write or partial(by_model, model, tokenizer, config)
    out = write([rendered(prompt, tokenizer) for prompt in prompts], count)
    said = [read(ids, tokenizer, model) for ids in out]
    lines = []
    for at, row in enumerate(rows):
        own = said[at * count : (at + 1) * count]
        scores = [sum(rule.weight * rule.score(a.text, a.tokens, row) for rule in config.rules()) for a in own]
        answers = {"answers": [a.text for a in own], "tokens": [a.tokens for a in own]}
        lines.append({"prompt": prompts[at], **answers, "finished": [a.finished for a in own], "scores": scores})
    return lines


def by_model(model: Any, tokenizer: Any, config: Any, texts: list[str], count: int) -> list[list[int]]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    tokenizer.padding_side = "left"
    batch = tokenizer(
        texts,
        return_tensors="pt",
        padding=True,
        add_special_tokens=not tokenizer.chat_template,  # a template writes its own
        return_token_type_ids=False,
    ).to(device)
    settings = {"max_new_tokens": config.max_new_tokens, "num_return_sequences": count}
    with torch.inference_mode():
        out = model.generate(**batch, **sampling(config.temperature), **settings, pad_token_id=tokenizer.pad_token_id)
    return out[:, batch["input_ids"].shape[1] :].tolist()


def by_vllm(trainer: Any, texts: list[str], count: int) -> list[list[int]]:
    """With the weights of now: a server may have those of an earlier job."""
    tokenizer, sampler = trainer.processing_class, trainer.vllm_generation
    asks = tokenizer(texts, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    sampler.sync_weights()
    return sampler.generate([ids for ids in asks for _ in range(count)], None, count)[1]


def summed_up(lines: list[dict[str, Any]], config: Rewarded) -> dict[str, Any]:
    """Shares of groups whose rewards are all `equal`, or equal and the best there is (`solved`); the rest of answers.

    `repeated` is the share of answers that another one to the same prompt has word for word, `cut_off` that of those
    which met the limit; lengths are in tokens.
    """
    top = sum(max(0.0, rule.weight * rule.MOST) for rule in config.rules())
    equal = [line["scores"][0] for line in lines if max(line["scores"]) - min(line["scores"]) < 1e-6]
    every = [one for line in lines for one in zip(line["answers"], line["finished"], line["scores"], strict=True)]
    copies = sum(line["answers"].count(text) > 1 for line in lines for text in line["answers"])
    return {
        "prompts": len(lines),
        "answers": len(every),
        "equal": round(len(equal) / len(lines), 4),
        "solved": round(sum(score > top - 1e-6 for score in equal) / len(lines), 4),
        "reward": round(sum(score for _, _, score in every) / len(every), 4),
        "empty": round(sum(not text.strip() for text, _, _ in every) / len(every), 4),
        "repeated": round(copies / len(every), 4),
        "cut_off": round(sum(not finished for _, finished, _ in every) / len(every), 4),
        "longest": max(max(line["tokens"]) for line in lines),
        "limit": config.max_new_tokens,
        "shown": [
            {"prompt": line["prompt"], "answer": line["answers"][0], "reward": line["scores"][0]}
            for line in lines[:SHOWN]
        ],
    }
