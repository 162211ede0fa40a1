"""The frozen judge: ask every item once, mark the answers, seal the score. `python -m recipes.evaluate FOLDER/config.json`

The seal is the hash of this file and the benchmark's, of the items' bytes and of the model: a score without the same
three hashes is another measurement.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from recipes.benchmarks import Benchmark, Item, Split, load
from recipes.job import ConfigError, Job, peak_rss_mb, run, write_whole
from recipes.seal import file_hash, judge_hash, model_hash
from recipes.training import load_model, load_tokenizer, prepare_machine


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str  # a folder or a Hub id
    benchmark: str
    items: str  # JSONL of the benchmark's items
    split: Split  # a label for the reader: the items file is what is asked
    batch_size: PositiveInt = 128  # prompts at a time; samples multiply it
    max_new_tokens: PositiveInt | None = None  # None: the benchmark's own
    temperature: float = Field(0.0, ge=0)  # 0 is greedy
    samples: PositiveInt = 1  # answers an item; more than one needs a temperature
    seed: int = 0  # matters only with a temperature


class Answer(BaseModel):
    """One generation: its text, its length with EOS, and whether EOS ended it."""

    text: str
    tokens: int
    finished: bool


def main(config: Config, job: Job) -> dict[str, Any]:
    """Ask, mark, and leave items.jsonl in the items' order."""
    started = time.time()
    benchmark, items = load_task(config)
    prepare_machine()
    tokenizer = load_tokenizer(config.model)
    model = load_model(config.model, half=False).eval()
    seal = {
        "judge": judge_hash(config.benchmark),
        "split": file_hash(config.items),
        "model": model_hash(folder_of(config.model)),
    }
    job.rewind(0)
    marked: dict[int, dict[str, Any]] = {}
    for place, answers in generate(config, benchmark, items, model, tokenizer):
        marked[place] = mark(benchmark, items[place], answers)
        if len(marked) % config.batch_size == 0 or len(marked) == len(items):
            right = sum(row["correct"] for row in marked.values())
            job.log(len(marked), len(items), accuracy_so_far=round(right / len(marked), 4))
    rows = [marked[place] for place in range(len(items))]
    write_whole(job.folder / "items.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    correct = sum(row["correct"] for row in rows)
    return {
        "n": len(rows),
        "correct": correct,
        "value": correct / len(rows),
        "metric": benchmark.metric,
        "split": config.split,
        "finished_share": sum(row["finished"] for row in rows) / len(rows),
        "seal": seal,
        "items_sha256": file_hash(job.folder / "items.jsonl"),
        "seconds": round(time.time() - started, 1),
        "peak_rss_mb": peak_rss_mb(),
    }


def load_task(config: Config) -> tuple[Benchmark, list[Item]]:
    """The benchmark and its items. Raises ConfigError for a name or a file that cannot be used."""
    if config.samples > 1 and not config.temperature:
        raise ConfigError(f"{config.samples} samples at temperature 0 would all be the same: set a temperature.")
    try:
        benchmark = load(config.benchmark)
        lines = [line for line in Path(config.items).read_text(encoding="utf-8").split("\n") if line]
        items = [Item.model_validate_json(line) for line in lines]
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{config.items} is not a file of items: {problem['loc']}: {problem['msg']}.") from error
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    if not items:
        raise ConfigError(f"{config.items} has no items.")
    return benchmark, items


def generate(
    config: Config, benchmark: Benchmark, items: list[Item], model: Any, tokenizer: Any
) -> Iterator[tuple[int, list[Answer]]]:
    """(place in `items`, its answers), longest prompts first, so that memory runs out at once or never."""
    import torch

    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    tokenizer.padding_side = "left"
    prompts = [rendered(benchmark.prompt(item), tokenizer) for item in items]
    order = sorted(range(len(items)), key=lambda place: len(prompts[place]), reverse=True)
    settings = sampling(config.temperature)
    for start in range(0, len(order), config.batch_size):
        places = order[start : start + config.batch_size]
        batch = tokenizer(
            [prompts[place] for place in places],
            return_tensors="pt",
            padding=True,
            add_special_tokens=not tokenizer.chat_template,  # a template writes its own
            return_token_type_ids=False,
        ).to(device)
        with torch.inference_mode():
            out = model.generate(
                **batch,
                **settings,
                max_new_tokens=config.max_new_tokens or benchmark.max_new_tokens,
                num_return_sequences=config.samples,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts = [read(row, tokenizer, model) for row in out[:, batch["input_ids"].shape[1] :].tolist()]
        for index, place in enumerate(places):
            yield place, texts[index * config.samples : (index + 1) * config.samples]


def sampling(temperature: float) -> dict[str, Any]:
    """Greedy, or the plain distribution at this temperature; the model's own sampling defaults do not count."""
    if not temperature:
        return {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    return {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}


def rendered(prompt: str, tokenizer: Any) -> str:
    """The prompt as the model reads it: through its chat template where it has one."""
    if not tokenizer.chat_template:
        return prompt
    turn = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)


def read(ids: list[int], tokenizer: Any, model: Any) -> Answer:
    """The new token ids of one generation, up to the first stop token."""
    configured = model.generation_config.eos_token_id
    stops = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    said = ids if end is None else ids[:end]
    tokens = len(ids) if end is None else end + 1
    return Answer(text=tokenizer.decode(said, skip_special_tokens=True), tokens=tokens, finished=end is not None)


def mark(benchmark: Benchmark, item: Item, answers: list[Answer]) -> dict[str, Any]:
    """A row of items.jsonl. `correct` is a bool, or with several samples the share that is right."""
    right = [benchmark.score(answer.text, item) for answer in answers]
    first = answers[0]
    row = {
        "id": item.id,
        "question": item.question,
        "prompt": benchmark.prompt(item),
        "output": first.text,
        "extracted": benchmark.extract(first.text),
        "answer": item.answer,
        "correct": right[0] if len(right) == 1 else sum(right) / len(right),
        "tokens": first.tokens,
        "finished": first.finished,
    }
    return row if len(answers) == 1 else row | {"others": [answer.text for answer in answers[1:]]}


def folder_of(model: str) -> Path:
    """Where a model's files lie: its own folder, or the Hub cache's snapshot, which loading has just filled."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, allow_patterns="config.json"))


if __name__ == "__main__":
    run(main, Config)
