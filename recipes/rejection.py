"""Rejection-sampling fine-tuning: sample answers to train items, keep the accepted ones, and do SFT on them.

`python -m recipes.rejection FOLDER/config.json`. RFT (2308.01825), one round of STaR (2203.14465). Leaves every answer
with its score in samples.jsonl, which a resumed run does not sample again.
"""

import json
from random import Random
from typing import Any

from pydantic import PositiveInt

from recipes import sft
from recipes.answers import answered, summed_up
from recipes.job import ConfigError, Job, read_lines, run, write_json, write_whole
from recipes.preflight import look_at_feed
from recipes.rewards import Rewarded
from recipes.training import fit, load_model, load_tokenizer, prepare_machine, read_rows


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

    def look(trainer: Any, fed: list[dict[str, Any]], steps: int) -> dict[str, Any]:
        return look_at_feed(trainer, fed, steps) | said_of(asked, config)

    return shares | fit(config, job, sft.build, kept, look)


def sample(config: Config, job: Job, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """{"prompt", "answers", "finished", "scores"} of every row, in their order; batches already on disk are kept."""
    file = job.folder / "samples.jsonl"
    size = max(1, config.sample_batch // config.samples)  # prompts
    done = read_lines(file)
    done = done if len(done) == len(rows) else done[: len(done) // size * size]
    if job.first:
        write_whole(file, "".join(map(as_line, done)))
    if len(done) < len(rows):
        prepare_machine(config.device)
        model, tokenizer = load_model(config.model, half=False).eval(), load_tokenizer(config.model)
        for start in range(len(done), len(rows), size):
            done += answered(config, rows[start : start + size], config.samples, start, model, tokenizer)
            if not start:  # what the first say is known before the others are sampled
                write_json(job.folder / "preflight.json", {"rows": len(rows)} | said_of(done, config))
            with file.open("a", encoding="utf-8") as out:
                out.write("".join(map(as_line, done[start:])))
        right = [score >= config.accept for line in done for score in line["scores"]]
        job.log(0, config.max_steps or 0, accepted=sum(right) / len(right), sampled=len(right))  # a step is logged once
    return done


def said_of(lines: list[dict[str, Any]], config: Config) -> dict[str, Any]:
    """For preflight.json: the answers summed up, and the share of prompts that have no accepted one."""
    bare = sum(not accepted(line, config) for line in lines)
    return {"answers": summed_up(lines, config) | {"unaccepted": round(bare / len(lines), 4)}}


def accepted(line: dict[str, Any], config: Config) -> list[dict[str, str]]:
    """The accepted answers of one prompt as rows of SFT: distinct, ended by themselves, the first `most_kept`."""
    answers = zip(line["answers"], line["finished"], line["scores"], strict=True)
    good = dict.fromkeys(text for text, finished, score in answers if finished and text and score >= config.accept)
    return [{"prompt": line["prompt"], "completion": text} for text in list(good)[: config.most_kept]]


def as_line(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    run(main, Config)
