"""Supervised fine-tuning with TRL: `python -m recipes.sft FOLDER/config.json`. Run again after a kill, it resumes."""

import time
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from recipes.job import ConfigError, Job, peak_rss_mb, run, write_json
from recipes.preflight import look_at_feed
from recipes.seal import file_hash
from recipes.training import load_model, load_tokenizer, prepare_machine, recorder, resume_point, save_whole, step_of

EVAL_ROWS = 128  # at most: the curve needs a direction, not a third digit


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str  # a folder or a Hub id
    data: str  # JSONL with string columns `prompt` and `completion`
    data_sha256: str | None = None  # of the rows that preflight has seen: others are not trained on
    lr: float = Field(1e-3, gt=0)  # for the starter (0.9M); a model of 100M or more wants 1e-5 to 5e-5, LoRA 2e-4
    epochs: float = Field(1.0, gt=0)
    max_steps: PositiveInt | None = None  # wins over epochs
    batch_size: PositiveInt = 64  # rows a device; 64 short rows keep two cores busy
    grad_accumulation: PositiveInt = 1
    max_length: PositiveInt = 128  # tokens; longer rows lose their end, and preflight.json says how many
    warmup_steps: int = Field(10, ge=0)
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    packing: bool = False
    completion_only: bool = True  # a prompt is given, so there is nothing to learn in it
    gradient_checkpointing: bool = False  # a fifth slower; for models that do not fit otherwise
    lora_rank: int = Field(0, ge=0)  # 0 trains every weight
    lora_alpha: PositiveInt | None = None  # None: twice the rank
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    eval_fraction: float = Field(0.02, ge=0, lt=1)  # of the train rows, for eval_loss; 0 for none
    eval_steps: PositiveInt = 50
    log_steps: PositiveInt = 5
    save_steps: PositiveInt = 50
    save_total_limit: int = Field(2, ge=2)  # one could be half written when a kill comes
    seed: int = 0
    trackio_project: str | None = None  # TRACKIO_DIR comes from the launcher
    trackio_run: str | None = None


class Row(BaseModel):
    """A line of the data file; further columns are allowed, and not used."""

    prompt: str = Field(min_length=1)
    completion: str = Field(min_length=1)


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    started = time.time()
    rows = read_rows(Path(config.data))
    if config.data_sha256 and file_hash(config.data) != config.data_sha256:
        raise ConfigError(f"{config.data} is not the file that was checked before the launch; prepare it again.")
    device = prepare_machine()
    checkpoint = resume_point(job.folder / "checkpoints")
    resumed_from = step_of(checkpoint) if checkpoint else 0
    job.rewind(resumed_from)
    tokens_before = job.latest().get("num_tokens", 0.0)

    trainer = build(config, job, rows, device, tokens_before)
    job.saves_before_stopping()
    output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    job.stop_if_asked()
    model = trainer.model.merge_and_unload() if config.lora_rank else trainer.model
    save_whole(model.bfloat16() if device == "cuda" else model, trainer.processing_class, job.folder / "model")
    final = job.latest()
    trained_for = output.metrics["train_runtime"]
    return {
        "steps": output.global_step,
        "seconds": round(time.time() - started, 1),
        "loss": final.get("loss"),
        "eval_loss": final.get("eval_loss"),
        "tokens": final.get("num_tokens"),
        "tokens_per_second": round((final.get("num_tokens", 0.0) - tokens_before) / max(trained_for, 1e-6), 1),
        "peak_rss_mb": peak_rss_mb(),
        "device": device,
        "resumed_from": resumed_from,
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of the data file. Raises ConfigError, naming the line, for a row that is not two strings."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n") if path.stat().st_size else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The data {path} cannot be read: {error}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "the row"
            raise ConfigError(f"Line {number} of {path} cannot be used: {place}: {problem['msg']}.") from error
        rows.append({"prompt": row.prompt, "completion": row.completion})
    if not rows:
        raise ConfigError(f"The data {path} has no rows.")
    return rows


def build(config: Config, job: Job, rows: list[dict[str, Any]], device: str, tokens_before: float) -> Any:
    """TRL's SFTTrainer over these rows, with our recorder and the preflight look."""
    from datasets import Dataset
    from trl.trainer.sft_trainer import SFTTrainer

    tokenizer = load_tokenizer(config.model)
    if tokenizer.chat_template:
        rows = [as_chat(row) for row in rows]
    train_rows, eval_rows = split(rows, config.eval_fraction, config.seed)

    def before_step_one(steps: int) -> None:
        write_json(job.folder / "preflight.json", look_at_feed(trainer, train_rows, config.max_length, steps))

    trainer = SFTTrainer(
        model=load_model(config.model, half=device == "cuda" and config.lora_rank > 0),
        args=arguments(config, job.folder, device, bool(eval_rows)),
        train_dataset=Dataset.from_list(train_rows),
        eval_dataset=Dataset.from_list(eval_rows) if eval_rows else None,
        processing_class=tokenizer,
        peft_config=lora(config) if config.lora_rank else None,
        callbacks=[recorder(job, before_step_one, tokens_before)],
    )
    return trainer


def arguments(config: Config, folder: Path, device: str, evaluates: bool) -> Any:
    """Our config in TRL's words."""
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        learning_rate=config.lr,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.grad_accumulation,
        gradient_checkpointing=config.gradient_checkpointing,
        max_length=config.max_length,
        packing=config.packing,
        completion_only_loss=config.completion_only,
        warmup_steps=config.warmup_steps,
        lr_scheduler_type=config.schedule,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=device == "cuda",
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=config.log_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # True would replace a NaN loss by the running mean, and hide it
        eval_strategy="steps" if evaluates else "no",
        eval_steps=config.eval_steps,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        report_to="trackio" if config.trackio_project else "none",
        project=config.trackio_project or "",
        run_name=config.trackio_run,
        trackio_static_space_id=False,  # curves stay here: nothing is published from a trainer
        disable_tqdm=True,
        dataloader_pin_memory=device == "cuda",
    )


def lora(config: Config) -> Any:
    """A PEFT adapter on every linear layer."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def as_chat(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """One user turn and one assistant turn, for models with a chat template."""
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


def split(rows: list[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """(train, eval): a random share of the rows, between 1 and EVAL_ROWS; none for fraction 0 or a single row."""
    shuffled = Random(seed).sample(rows, len(rows))
    held = min(EVAL_ROWS, max(1, round(len(rows) * fraction))) if fraction and len(rows) > 1 else 0
    return shuffled[held:], shuffled[:held]


if __name__ == "__main__":
    run(main, Config)
