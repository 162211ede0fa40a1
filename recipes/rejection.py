"""Rejection-sampling fine-tuning: sample answers to train items, keep the accepted ones, and do SFT on them.

`python -m recipes.rejection FOLDER/config.json`. RFT (2308.01825), one round of STaR (2203.14465). Leaves every answer
with its score in samples.jsonl, which a resumed run does not sample again.
"""

import json
from random import Random
from typing import Any

from pydantic import PositiveInt

from recipes import sft
from recipes.evaluate import read, rendered, sampling
from recipes.job import ConfigError, Job, read_lines, run, write_whole
from recipes.rewards import Rewarded
from recipes.training import load_model, load_tokenizer, prepare_machine, read_rows


class Config(Rewarded, sft.Config):
    METHOD = "rejection sampling"

    accept: float = 1.0  # the least sum of weighted rewards that is kept
    samples: PositiveInt = 4  # answers a prompt
    most_kept: PositiveInt = 2  # distinct answers a prompt, so that easy prompts do not fill the rows
    sample_batch: PositiveInt = 256  # answers at a time


def main(config: Config, job: Job) -> dict[str, Any]:
    """Sample, keep, train; leaves samples.jsonl, model/ and preflight.json in the job's folder."""
    asked = sample(config, job, read_rows(config))
    kept = [row for line in asked for row in accepted(line, config)]
    marks = [score >= config.accept for line in asked for score in line["scores"]]
    if not kept:
        raise ConfigError(
            f"None of {len(marks)} answers was accepted: use SFT first, easier prompts or a lower accept."
        )
    shares = {"sampled": len(marks), "accepted": round(sum(marks) / len(marks), 4), "kept": len(kept)}
    Random(config.seed).shuffle(kept)
    return shares | sft.train(config, job, kept)


def sample(config: Config, job: Job, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """{"prompt", "answers", "finished", "scores"} of every row, in their order; batches already on disk are kept."""
    file = job.folder / "samples.jsonl"
    size = max(1, config.sample_batch // config.samples)  # prompts
    done = read_lines(file)
    done = done if len(done) == len(rows) else done[: len(done) // size * size]
    write_whole(file, "".join(map(as_line, done)))
    if len(done) < len(rows):
        prepare_machine()
        model, tokenizer = load_model(config.model, half=False).eval(), load_tokenizer(config.model)
        for start in range(len(done), len(rows), size):
            done += answered(config, rows[start : start + size], start, model, tokenizer)
            with file.open("a", encoding="utf-8") as out:
                out.write("".join(map(as_line, done[start:])))
        right = [score >= config.accept for line in done for score in line["scores"]]
        job.log(0, config.max_steps or 0, accepted=sum(right) / len(right), sampled=len(right))  # a step is logged once
    return done


def answered(config: Config, rows: list[dict[str, Any]], seed: int, model: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """One batch of prompts with their answers and scores."""
    import torch

    torch.manual_seed(config.seed + seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    tokenizer.padding_side = "left"
    batch = tokenizer(
        [rendered(row["prompt"], tokenizer) for row in rows],
        return_tensors="pt",
        padding=True,
        add_special_tokens=not tokenizer.chat_template,  # a template writes its own
        return_token_type_ids=False,
    ).to(device)
    settings = {"max_new_tokens": config.max_new_tokens, "num_return_sequences": config.samples}
    with torch.inference_mode():
        out = model.generate(**batch, **sampling(config.temperature), **settings, pad_token_id=tokenizer.pad_token_id)
    said = [read(ids, tokenizer, model) for ids in out[:, batch["input_ids"].shape[1] :].tolist()]
    lines = []
    for at, row in enumerate(rows):
        own = said[at * config.samples : (at + 1) * config.samples]
        scores = [sum(r.weight * r.score(a.text, a.tokens, row) for r in config.rules()) for a in own]
        answers = {"answers": [a.text for a in own], "finished": [a.finished for a in own]}
        lines.append({"prompt": row["prompt"], **answers, "scores": scores})
    return lines


def accepted(line: dict[str, Any], config: Config) -> list[dict[str, str]]:
    """The accepted answers of one prompt as rows of SFT: distinct, ended by themselves, the first `most_kept`."""
    answers = zip(line["answers"], line["finished"], line["scores"], strict=True)
    good = dict.fromkeys(text for text, finished, score in answers if finished and text and score >= config.accept)
    return [{"prompt": line["prompt"], "completion": text} for text in list(good)[: config.most_kept]]


def as_line(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    run(main, Config)
