"""A process reward model: is each step of a solution right? `python -m recipes.prm FOLDER/config.json`

model/ is transformers' AutoModelForTokenClassification; its label 1 at the last token of each line is the probability
that the step is right. TRL 1.16 has no trainer for it, so transformers' own is used. A prompt comes first, as a line
of its own, without a chat template.
"""

from typing import Any, ClassVar

from pydantic import Field

from recipes.job import ConfigError, Job, run
from recipes.limit import Limited
from recipes.preflight import without
from recipes.rows import Steps
from recipes.training import Parts, fit, read_rows

IGNORED = -100  # torch's label that has no loss


class Config(Limited):
    SHAPE = Steps
    METHOD = "a PRM"
    TASK = "TOKEN_CLS"
    HEAD: ClassVar = {"num_labels": 2, "id2label": {0: "wrong", 1: "right"}}
    PROBED = "cut"
    SHOWN = (
        "eval_accuracy",
        "eval_majority",
    )  # of steps held out: marked right, and what always saying one thing gives

    eval_fraction: float = Field(0.1, ge=0, lt=1)
    last_step_only: bool = False  # learn from the last step alone (an outcome reward model)


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    look = without("labels", "stop_token_trained")  # labels are no tokens, and steps end in a line break
    return fit(config, job, build, read_rows(config), look)


def build(parts: Parts) -> Any:
    from datasets import Dataset
    from transformers import DataCollatorForTokenClassification, Trainer, TrainingArguments

    config, tokenizer = parts.config, parts.tokenizer
    model = parts.load("TokenClassification", **config.HEAD)
    if config.lora_rank:
        from peft import get_peft_model

        from recipes.training import lora

        model = get_peft_model(model, lora(config))
    sets = [[encode(row, tokenizer, config) for row in rows] for rows in (parts.train, parts.held)]
    train, held = ([row for row in rows if any(label != IGNORED for label in row["labels"])] for rows in sets)
    if not train:
        raise ConfigError(f"No step ends within max_length = {config.max_length} tokens; raise it.")
    args: Any = TrainingArguments(**parts.arguments)
    args.max_length = config.max_length  # where TRL's trainers have it, and recipes.preflight looks for it
    return Trainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(held) if held else None,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=step_accuracy,
        callbacks=parts.callbacks,
    )


def encode(row: dict[str, Any], tokenizer: Any, config: Config) -> dict[str, list[int]]:
    """Token ids of the prompt and its steps, a line each, and a label at the last token of each step."""
    prompt = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][0]["content"]
    ids: list[int] = tokenizer(prompt.rstrip("\n") + "\n")["input_ids"]
    if tokenizer.eos_token_id == ids[-1]:
        ids = ids[:-1]  # some tokenizers close every text
    labels = [IGNORED] * len(ids)
    for number, (step, right) in enumerate(zip(row["steps"], row["labels"], strict=True), start=1):
        piece = tokenizer(step.strip("\n") + "\n", add_special_tokens=False)["input_ids"]
        ids += piece
        counts = number == len(row["steps"]) or not config.last_step_only
        labels += [IGNORED] * (len(piece) - 1) + [int(right) if counts else IGNORED]
    return {"input_ids": ids[: config.max_length], "labels": labels[: config.max_length]}


def step_accuracy(prediction: Any) -> dict[str, float]:
    """Share of steps marked right, and the share that the more frequent label has."""
    asked = prediction.label_ids != IGNORED
    labels, said = prediction.label_ids[asked], prediction.predictions.argmax(-1)[asked]
    return {"accuracy": float((said == labels).mean()), "majority": float(max(labels.mean(), 1 - labels.mean()))}


if __name__ == "__main__":
    run(main, Config)
