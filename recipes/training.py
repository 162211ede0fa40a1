"""What the training recipes share: settings, the run from rows to model/, the recorder, checkpoints that survive a kill.

Models, tokenizers and trainers are `Any` in signatures: the Auto classes' declared types are unions that fit no use.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from recipes import probe, processes
from recipes import rows as shapes
from recipes.faster import with_liger
from recipes.grace import checkpoint_bytes, grace
from recipes.job import ConfigError, Job, peak_rss_mb, write_json
from recipes.memory import Device, sharded, share
from recipes.recorder import is_last, recorder, resume_point, step_of
from recipes.seal import file_hash
from recipes.weights import (
    context_of,
    has_bfloat16,
    in_half,
    load_model,
    load_tokenizer,
    lora,
    merged,
    save_whole,
    saved,
    shape_in,
)

MOST_THREADS = 16  # more do not help models that anybody trains on a CPU


class TrainingConfig(BaseModel):
    """Settings of every training recipe. Defaults of TRL 1.16 and transformers 5.23 unless a comment says why not."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    SHAPE: ClassVar[type[shapes.Row]]  # of a row
    METHOD: ClassVar[str]
    TASK: ClassVar[str] = "CAUSAL_LM"  # PEFT's name of what the model does
    HEAD: ClassVar[dict[str, Any]] = {}  # what a new head is loaded with
    PROBED: ClassVar[Literal["", "cut", "left out", "sampled"]] = ""  # what becomes of long texts; "": not measured
    SHOWN: ClassVar[tuple[str, ...]] = ()  # metrics whose last value belongs into result.json
    LEAST: ClassVar[int] = 1  # rows of a pass

    model: str  # a folder or a Hub id
    data: str  # JSONL
    data_sha256: str | None = None  # of the rows that preflight has seen: others are not trained on
    lr: float = Field(1e-3, gt=0)  # for the starter (0.9M); a model of 100M or more wants 1e-5 to 5e-5, LoRA 2e-4
    epochs: float = Field(1.0, gt=0)
    max_steps: PositiveInt | None = None  # wins over epochs
    batch_size: PositiveInt = 64  # rows a pass, those of all devices together; 64 short rows keep two cores busy
    grad_accumulation: PositiveInt = 1
    warmup_steps: int = Field(10, ge=0)
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    gradient_checkpointing: bool = False  # a fifth slower; for models that do not fit otherwise
    lora_rank: int = Field(0, ge=0)  # 0 trains every weight
    lora_alpha: PositiveInt | None = None  # None: twice the rank
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    eval_fraction: float = Field(0.02, ge=0, lt=1)  # of the rows, held out for eval_ metrics; 0 for none
    eval_steps: PositiveInt = 50  # and at the last step
    log_steps: PositiveInt = 5
    save_steps: PositiveInt = 50
    save_total_limit: int = Field(2, ge=2)  # one could be half written when a kill comes
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"  # auto: see recipes.faster
    liger: bool | None = None  # its layers, on a GPU; None: where it is installed
    device: Literal["auto", "cpu"] = "auto"  # auto: the GPU where there is one; on the CPU a job waits for no GPU
    seed: int = 0
    trackio_project: str | None = None  # TRACKIO_DIR comes from the launcher
    trackio_run: str | None = None

    def sized(self, rows: list[dict[str, Any]], tokenizer: Any, context: int | None) -> Self:
        """What of it is fitted to the rows (see recipes.limit)."""
        return self

    def lengths(self, rows: list[dict[str, Any]], tokenizer: Any) -> list[int]:
        """Tokens of some rows, where they are known before step one and differ."""
        return []

    def with_template(self, tokenizer: Any) -> Any:
        """The tokenizer with the chat template to train with."""
        return tokenizer

    def passes(self, lengths: list[int], device: str) -> int:
        """Into how many passes of like rows each batch of its own is cut."""
        return 1

    def flat(self, rows: list[dict[str, Any]], tokenizer: Any) -> int | None:
        """Tokens of a batch at most, where it can be trained on as one sequence without padding; None where it cannot."""
        return None

    @classmethod
    def full(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Some settings, and the defaults of all others."""
        return {name: field.default for name, field in cls.model_fields.items()} | dict(config)

    @classmethod
    def misfit(cls, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str | None:
        """Which row these settings cannot use and why, or that all are too few, in one sentence; None where all fit."""
        return shapes.misfit(rows, cls.SHAPE, cls.METHOD) or cls._too_few(len(rows), config)

    @classmethod
    def _too_few(cls, rows: int, config: Mapping[str, Any]) -> str | None:
        """Where answers are sampled, TRL leaves out a batch that is not full, and would train nothing."""
        full = cls.full(config)
        prompts = full["batch_size"] * full["grad_accumulation"] // full.get("generations", 1)
        left = rows - shapes.held_out(rows, full["eval_fraction"])
        if cls.PROBED != "sampled" or left >= prompts:
            return None
        return (
            f"A step of {cls.METHOD} takes {prompts} prompts, and {left} rows are there to train on; "
            f"give more rows, or a batch_size below {full['batch_size']}."
        )


@dataclass(frozen=True)
class Parts:
    """What a recipe puts its trainer together from."""

    config: Any
    device: str
    tokenizer: Any
    train: list[dict[str, Any]]
    held: list[dict[str, Any]]
    arguments: dict[str, Any]  # of transformers' TrainingArguments
    callbacks: list[Any]
    lengths: list[int]  # tokens of some of the rows that it will train on; [] where a recipe does not know them

    @property
    def frozen(self) -> bool:
        """Whether weights that are not trained are kept in bfloat16."""
        return self.device == "cuda" and has_bfloat16("cuda")

    def load(self, head: str = "CausalLM", **more: Any) -> Any:
        how = {} if self.config.attention == "auto" else {"attn_implementation": self.config.attention}
        return load_model(self.config.model, self.frozen and self.config.lora_rank > 0, head, **how, **more)

    def common(self) -> dict[str, Any]:
        """What every trainer of TRL takes."""
        from datasets import Dataset

        return {
            "train_dataset": Dataset.from_list(self.train),
            "eval_dataset": Dataset.from_list(self.held) if self.held else None,
            "processing_class": self.tokenizer,
            "peft_config": lora(self.config) if self.config.lora_rank else None,
            "callbacks": self.callbacks,
        }


Build = Callable[[Parts], Any]
Look = Callable[[Any, list[dict[str, Any]], int], dict[str, Any]]


def look_at_rows(trainer: Any, rows: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """The least that preflight.json holds."""
    return {"rows": len(rows), "steps": steps}


def fit(config: Any, job: Job, build: Build, rows: list[dict[str, Any]], look: Look = look_at_rows) -> dict[str, Any]:
    """Train on these rows, and leave model/ and preflight.json in the job's folder; returns the result.

    With several accelerators this process becomes the launcher of those that train (see recipes.processes).
    """
    started, asked = time.time(), config
    device = prepare_machine(config.device)  # before torch is imported
    from transformers import set_seed

    checkpoint = resume_point(job.folder / "checkpoints")
    resumed_from = step_of(checkpoint) if checkpoint else 0
    job.rewind(resumed_from)
    tokens_before = job.latest().get("num_tokens", 0.0)
    count, config = shared(config, job.accelerators)
    tokenizer = config.with_template(load_tokenizer(config.model))
    train, held = shapes.split(
        [shapes.as_chat(row) for row in rows] if tokenizer.chat_template else rows, config.eval_fraction, config.seed
    )
    config = config.sized(train + held, tokenizer, context_of(config.model))
    parts = Parts(config, device, tokenizer, train, held, {}, [], config.lengths(train, tokenizer))
    measured = foreseen(parts, job, build, count, checkpoint is not None)
    config = config.model_copy(update=measured.get("fitted", {}) | measured.get("faster", {}))
    set_seed(config.seed)  # a new head is drawn at random

    def before_step_one(steps: int) -> None:
        seen = look(trainer, train, steps) | probe.foretold(
            measured, config, steps, len(train) // count, len(held) // count
        )
        if job.first:
            write_json(job.folder / "preflight.json", seen)

    callbacks = [recorder(job, before_step_one, tokens_before)]
    trainer = build(
        replace(parts, config=config, arguments=arguments(config, job.folder, device, bool(held)), callbacks=callbacks)
    )
    job.saves_before_stopping()
    steps, trained_for = trained(trainer, checkpoint)
    job.stop_if_asked()
    if job.first:
        save_whole(whole(trainer, config, device, steps), tokenizer, job.folder / "model")
    final = job.latest()
    return {
        "steps": steps,
        "seconds": round(time.time() - started, 1),
        "loss": final.get("loss"),
        "eval_loss": final.get("eval_loss"),
        **{name: final[name] for name in config.SHOWN if name in final},
        "tokens": final.get("num_tokens"),
        "tokens_per_second": round((final.get("num_tokens", 0.0) - tokens_before) / max(trained_for, 1e-6), 1),
        "peak_rss_mb": peak_rss_mb(),
        "device": device,
        "precision": "bfloat16" if in_half(config, device) else "float32",
        "resumed_from": resumed_from,
        "faster": measured.get("faster", {}),
    } | (said_of(asked, config, count, job.accelerators) if job.accelerators > 1 else {})


def foreseen(parts: Parts, job: Job, build: Build, count: int, resumes: bool) -> dict[str, Any]:
    """What the probe measures on one accelerator, or an earlier attempt's did; {} for a model that none can hold.

    Does not return where `count` processes are to train: this one becomes their launcher, and finds them the measured.
    """
    file = job.folder / "preflight.json"
    if resumes or job.launched:
        measured = probe.again(file)
    elif count > 1 and too_large(parts.config, parts.device):
        measured = {}
    else:
        built = small(parts, job, build)
        measured = probe.measure(parts.config, parts.train, parts.held, parts.tokenizer, parts.device, built, count)
    if count > 1 and not job.launched:
        write_json(file, measured)
        half = in_half(parts.config, parts.device)
        patience = grace(job.folder, checkpoint_bytes(parts.config.model_dump()))
        threads = max(1, cores() // count)
        processes.start(count, too_large(parts.config, parts.device), parts.device, half, threads, patience)
    return measured


def small(parts: Parts, job: Job, build: Build) -> probe.Build:
    """How the probe builds its trainers."""
    from transformers import set_seed

    def made(config: Any, rows: list[dict[str, Any]], more: dict[str, Any], callbacks: list[Any]) -> Any:
        set_seed(config.seed)
        given = arguments(config, job.folder, parts.device, False) | more
        return build(replace(parts, config=config, train=rows, held=[], arguments=given, callbacks=callbacks))

    return made


def shared(config: Any, accelerators: int) -> tuple[int, Any]:
    """How many processes train, and the config of one of them: a step has as many rows as the config says."""
    count, batch, times = share(config.batch_size, config.grad_accumulation, accelerators, config.LEAST)
    return count, config.model_copy(update={"batch_size": batch, "grad_accumulation": times})


def too_large(config: Any, device: str) -> bool:
    """Whether weights, gradients and optimizer do not fit on one GPU; what nobody can estimate is taken to fit."""
    if device == "cpu":
        return False
    import torch

    shape, room = shape_in(config.model), torch.cuda.mem_get_info()[1]
    half = has_bfloat16(device)
    return shape is not None and sharded(shape, config.model_dump(), config.METHOD, room, half=half)


def said_of(asked: Any, config: Any, count: int, accelerators: int) -> dict[str, Any]:
    """For the result: how the rows of a step were spread, and over how many of the accelerators."""
    rows = asked.batch_size * asked.grad_accumulation
    own = {"batch_size": config.batch_size, "grad_accumulation": config.grad_accumulation, "rows_a_step": rows}
    return {"accelerators": accelerators, "processes": count, "sharded": processes.is_sharded(), "of_each": own}


def trained(trainer: Any, checkpoint: Path | None) -> tuple[int, float]:
    """Train to the end; returns the last step and the seconds that it took.

    What a kill leaves after the last step is only loaded: transformers 5.23 would take one step more.
    """
    if checkpoint and is_last(checkpoint):
        if not processes.is_sharded():  # see `whole`
            trainer._load_from_checkpoint(str(checkpoint))
        return step_of(checkpoint), 0.0
    output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return output.global_step, output.metrics["train_runtime"]


def whole(trainer: Any, config: Any, device: str, steps: int) -> Any:
    """The trained model; of one that is in pieces, from its last checkpoint, which is whole."""
    if processes.is_sharded():
        folder = Path(trainer.args.output_dir) / f"checkpoint-{steps}"
        return saved(folder, config, trainer.model.config, device == "cuda")
    model = merged(trainer.model) if config.lora_rank else trainer.model
    return model.bfloat16() if device == "cuda" else model


def read_rows(config: Any) -> list[dict[str, Any]]:
    """All rows of the config's data file. Raises ConfigError, naming the line, for a row that is not of its shape."""
    path = Path(config.data)
    try:
        lines = shapes.read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The data {path} cannot be read: {error}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(config.SHAPE.model_validate_json(line).model_dump())
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "the row"
            raise ConfigError(f"Line {number} of {path} cannot be used: {place}: {problem['msg']}.") from error
    if not rows:
        raise ConfigError(f"The data {path} has no rows.")
    if why := config.misfit(rows, config.model_dump()):
        raise ConfigError(f"The data {path} cannot be used: {why}")
    if config.data_sha256 and file_hash(path) != config.data_sha256:
        raise ConfigError(f"{path} is not the file that was checked before the launch; prepare it again.")
    return rows


def arguments(config: Any, folder: Path, device: str, evaluates: bool) -> dict[str, Any]:
    """Our settings in transformers' words."""
    from transformers.utils import is_torch_tf32_available

    return {
        "output_dir": str(folder / "checkpoints"),
        "learning_rate": config.lr,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.grad_accumulation,
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_liger_kernel": with_liger(config, device),
        "liger_kernel_config": {
            "fused_linear_cross_entropy": False,
            "cross_entropy": False,
        },  # no head, no loss of ours
        "warmup_steps": config.warmup_steps,
        "lr_scheduler_type": config.schedule,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": in_half(config, device),
        "tf32": is_torch_tf32_available() or None,  # for what autocast leaves in float32
        "use_cpu": device == "cpu",
        "seed": config.seed,
        "data_seed": config.seed,
        "logging_steps": config.log_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # True would replace a NaN loss by the running mean, and hide it
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": config.eval_steps,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": config.save_total_limit,
        "report_to": "trackio" if config.trackio_project else "none",
        "project": config.trackio_project or "",
        "run_name": config.trackio_run,
        "trackio_static_space_id": False,  # curves stay here: nothing is published from a trainer
        "disable_tqdm": True,
        "dataloader_pin_memory": device == "cuda",
    }


def prepare_machine(device: str = "auto") -> Device:
    """Quiet libraries, threads that fit the container; returns "cuda" or "cpu". One process sees one GPU, or none for "cpu"."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif processes.world() == 1:  # transformers would put rows of each batch on all that it sees
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers would warn on every batch
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two jobs that spin on the same cores stop each other
    # torch's and oneDNN's of bfloat16 on a CPU: a megabyte for each length of rows; with 1024, a leak
    for cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # a job tells nobody that it runs
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # by name: the judge does without datasets' 1 s
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), cores(), MOST_THREADS))  # it knows OMP_NUM_THREADS
    return "cuda" if torch.cuda.is_available() else "cpu"


def cores() -> int:
    """CPU cores this process may use: its affinity, or the container's quota (cgroup v2) where that is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if not quota.is_file():
        return allowed
    limit, period = quota.read_text().split()
    return allowed if limit == "max" else max(1, min(allowed, round(int(limit) / int(period))))
