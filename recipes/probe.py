"""A few real steps before step one, in a trainer that is thrown away: do the longest rows fit, and how long will it take?

Nothing of it stays: the trainer that counts is built afterwards, from the same seed. Where answers are sampled, the second
step is kept from ending them before their limit, so that it is the longest there can be.
"""

import gc
import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from math import ceil
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from pydantic import ValidationError

from recipes.faster import fastest, ways
from recipes.job import out_of_memory, peak_rss_mb, visible
from recipes.memory import needed, rungs
from recipes.preflight import token_count
from recipes.weights import in_half, shape_in

STEPS = 3  # usual rows, so that AdamW has its moments; the longest, for memory; usual ones again, for the time
FROM = 10 * STEPS  # steps of a job that is measured: the probe costs a tenth of it at most
TIMED, TIMED_S = 8, 5.0  # usual steps for the time, as far as all are a tenth of the job: so many, or seconds
FORWARD = 1 / 3  # of a step's time is an evaluation's: the backward pass is twice the forward
LEFT_OUT = 0.85  # of what a machine has: an estimate within 15 % above it may yet fit, and is tried
FEW, OFTEN = 8, 30  # rows, and steps on them, for as long as the three took, or
SHORT = 3.0  # seconds
KEYS = (
    "overfit", "peak_mb", "step_s", "usual_s", "tokens_per_second_worst", "eta_s", "fitted", "faster", "slower", "answers",
)  # fmt: skip
QUIET = {
    "warmup_steps": 0, "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no",
    "report_to": "none", "train_sampling_strategy": "sequential",
}  # fmt: skip

Build = Callable[[Any, list[dict[str, Any]], dict[str, Any], list[Any]], Any]
Fits = Callable[[dict[str, Any]], bool]


def measure(
    config: Any, rows: list[dict[str, Any]], held: list[dict[str, Any]], tokenizer: Any, device: str, build: Build,
    count: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Peak memory in MiB and seconds a step, and in `fitted` the settings that fit where the config's own do not.

    A long job also tries other ways to make the same steps (see recipes.faster).

    {} for a job of fewer than FROM steps, whose own first steps tell, and for recipes that are not PROBED.

    Args:
        config: Of one process, of which there will be `count`.
        held: The rows that are evaluated.
        build: A trainer for (config, rows, further arguments of it, callbacks).

    Raises:
        RuntimeError: Torch's own, where not even one row at a time with gradient checkpointing fits.
    """
    texts = len(rows) * _group(config) // count
    steps = config.max_steps or ceil(texts / (config.batch_size * config.grad_accumulation)) * config.epochs
    if not config.PROBED or steps < FROM:
        return {}
    timed = min(TIMED, max(1, int(steps) // 10 - 2))
    fits = None if device == "cuda" else _room_for(config, rows, tokenizer)

    def quicker(choice: Any) -> list[dict[str, Any]]:
        """Ways to make its steps; where answers are sampled anew no two runs have the same losses to compare."""
        roomy = device == "cuda" or (fits is not None and fits(choice.model_dump()))
        flat = choice.flat(rows + held, tokenizer) if roomy else None
        return ways(choice, device, flat) if config.PROBED != "sampled" else []

    def few(choice: Any) -> tuple[dict[str, Any], list[float]]:
        _free(device)  # of a trainer that did not fit
        return _few_steps(choice, rows, tokenizer, device, build, timed)

    *others, last = _choices(config, rows, tokenizer, fits)
    for choice in others:
        try:
            seen = fastest(choice, few, quicker(choice), steps)
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
    else:
        choice, seen = last, fastest(last, few, quicker(last), steps)
    _free(device)  # of a way that this machine has not
    return seen | _fitted(config, choice)


def again(file: Path) -> dict[str, Any]:
    """What an earlier attempt at the job measured."""
    seen = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {name: seen[name] for name in KEYS if name in seen}


def foretold(measured: dict[str, Any], config: Any, steps: int, rows: int, held: int) -> dict[str, Any]:
    """`measured` with `eta_s`: seconds for all steps and evaluations of the config that runs. Saving is not counted."""
    if "usual_s" not in measured:
        return measured
    full = steps
    if config.PROBED != "sampled" and not config.model_dump().get("packing"):
        step = config.batch_size * config.grad_accumulation
        epochs, rest = divmod(steps, ceil(rows / step))
        full = epochs * rows / step + rest  # an epoch's last step has the rows that are left
    passes = ceil(held * _group(config) / config.batch_size) * ceil(steps / config.eval_steps)
    pass_s = measured["usual_s"] / config.grad_accumulation * (1 if config.PROBED == "sampled" else FORWARD)
    return measured | {"eta_s": round(measured["usual_s"] * full + passes * pass_s, 1)}


def _choices(config: Any, rows: list[dict[str, Any]], tokenizer: Any, fits: Fits | None) -> list[Any]:
    """The config, and those that need less. A CPU's kernel kills who takes too much, so there the estimate goes first."""
    made = [one for rung in rungs(config.model_dump(), config.LEAST) if (one := _with(config, rung))]
    if fits is None:
        return made
    lengths = config.lengths(rows, tokenizer)
    light = (at for at, one in enumerate(made) if fits(one.model_dump() | _pass(one, lengths)))
    return made[next(light, len(made) - 1) :]


def _room_for(config: Any, rows: list[dict[str, Any]], tokenizer: Any) -> Fits | None:
    """Whether a CPU's memory holds a step with such settings, by the estimate; None for a model that it does not know."""
    shape = shape_in(config.model)
    if not shape:
        return None
    from psutil import virtual_memory

    room = virtual_memory().available / LEFT_OUT
    longest = max(len(tokenizer(_text(row, config))["input_ids"]) for row in _longest(rows, 8, config, tokenizer))
    length = longest + config.max_new_tokens if config.PROBED == "sampled" else min(longest, config.max_length)
    half = in_half(config, "cpu")
    return lambda settings: needed(shape, settings, length, "cpu", config.METHOD, half=half) <= room


def _pass(config: Any, lengths: list[int]) -> dict[str, int]:
    cut = config.passes(lengths, "cpu")
    return {"batch_size": config.batch_size // cut, "grad_accumulation": config.grad_accumulation * cut}


def _with(config: Any, rung: dict[str, Any]) -> Any:
    """The config with these settings; None where its recipe forbids them."""
    try:
        return type(config).model_validate(config.model_dump(exclude_unset=True) | rung)
    except ValidationError:
        return None


def _fitted(config: Any, choice: Any) -> dict[str, Any]:
    names = ("batch_size", "grad_accumulation", "gradient_checkpointing")
    before, after = ({name: getattr(one, name) for name in names} for one in (config, choice))
    return {"fitted": after} if before != after else {}


def _few_steps(
    config: Any, rows: list[dict[str, Any]], tokenizer: Any, device: str, build: Build, timed: int
) -> tuple[dict[str, Any], list[float]]:
    """What it measures, and the loss of each step."""
    sampled, more = config.PROBED == "sampled", QUIET | {"max_steps": STEPS - 1 + timed}
    passes = config.grad_accumulation if sampled else min(config.grad_accumulation, 2)  # 2: gradients are there by then
    count = config.batch_size * passes // _group(config)
    if sampled:  # TRL leaves out a batch that is not full
        rows = rows * ceil(count / len(rows))
    count = min(count, len(rows))
    usual = Random(0).sample(rows, count)
    others = [row for at in range(timed) for row in Random(at).sample(rows, count)]
    fed = [*usual, *_longest(rows, count, config, tokenizer), *others]
    if sampled:  # a step's answers are sampled at once, whatever the accumulation, and TRL has its own order
        more |= {"shuffle_dataset": False}
    if config.model_dump().get("packing"):
        fed = _enough(rows, more["max_steps"] * count * config.max_length, tokenizer)
    _forget_peak(device)
    clock = _clock(device)
    trainer = build(config, fed, more | {"gradient_accumulation_steps": passes}, [clock])
    if sampled:
        trainer.add_callback(_endless(trainer, config.max_new_tokens))
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    whole = config.grad_accumulation / passes
    worst = clock.seconds[1]
    seen = {
        "peak_mb": _peak_mb(device),
        "step_s": round(worst * whole, 4),
        "usual_s": round(median(clock.seconds[STEPS - 1 :]) * whole, 4),
    }
    if not sampled:  # of answers that a model samples anew at each step none can be learned by heart
        seen |= _overfit(trainer, config, max(SHORT, sum(clock.seconds[:STEPS])))
    if len(clock.tokens) > 1:
        seen["tokens_per_second_worst"] = round((clock.tokens[1] - clock.tokens[0]) / worst, 1)
    losses = clock.losses
    del trainer, clock
    _free(device)
    return seen, losses


def _overfit(trainer: Any, config: Any, seconds: float) -> dict[str, Any]:
    """The loss on a few rows before and after steps on nothing else, at the full learning rate; {} where time is short.

    Labels that are masked wrongly, a learning rate that is none, an adapter that is not attached: nothing falls then.
    """
    import torch

    model, optimizer = trainer.model, trainer.optimizer
    rows = [trainer.train_dataset[at] for at in range(min(FEW, len(trainer.train_dataset)))]
    size = min(trainer.args.per_device_train_batch_size, len(rows))  # of a pass, which has fewer rows than a batch
    batches = [trainer.data_collator(rows[at : at + size]) for at in range(0, len(rows), size)]
    for group in optimizer.param_groups:
        group["lr"] = config.lr

    def loss(batch: Any) -> Any:
        with trainer.compute_loss_context_manager():
            return trainer.compute_loss(model, trainer._prepare_inputs(batch)) / len(batches)

    def now() -> float:
        with torch.no_grad():
            return sum(float(loss(batch)) for batch in batches)

    before, began, steps = (model.eval(), now())[1], time.perf_counter(), 0
    model.train()
    while steps < OFTEN and time.perf_counter() - began < seconds:
        for batch in batches:
            trainer.accelerator.backward(loss(batch))
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    model.eval()
    if steps < OFTEN / 3:
        return {}
    return {"overfit": {"rows": len(rows), "steps": steps, "before": visible(before), "after": visible(now())}}


def _group(config: Any) -> int:
    """Texts that a trainer makes of a row: the answers that GRPO samples."""
    return getattr(config, "generations", 1)


def _text(row: dict[str, Any], config: Any) -> str:
    """What a model reads of it: all columns together, or the prompt alone."""
    return str(row["prompt"] if config.PROBED == "sampled" else row)


def _longest(rows: list[dict[str, Any]], count: int, config: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """By characters; of rows that are left out when they are too long, those that are not."""
    by_length = sorted(rows, key=lambda row: len(_text(row, config)), reverse=True)
    if config.PROBED == "left out":
        by_length = [
            *islice((row for row in by_length if token_count(row, tokenizer) <= config.max_length), count)
        ] or by_length
    return by_length[:count]


def _endless(trainer: Any, tokens: int) -> Any:
    """A callback under which every answer of the second step has all its tokens."""
    from transformers import TrainerCallback

    class Endless(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            least = tokens if state.global_step == 1 else 0
            if hasattr(trainer, "vllm_generation"):
                trainer.vllm_generation.generation_kwargs["min_tokens"] = least
            else:
                trainer.generation_config.min_new_tokens = least or None

    return Endless()


def _enough(rows: list[dict[str, Any]], tokens: int, tokenizer: Any) -> list[dict[str, Any]]:
    """As many rows as make so many tokens and half more, where there are so many. Packed rows are nearly of one length."""
    some = [" ".join(map(str, row.values())) for row in rows[:32]]
    a_row = sum(len(tokenizer(text)["input_ids"]) for text in some) / len(some)
    return rows[: ceil(1.5 * tokens / a_row)]


def _clock(device: str) -> Any:
    """A callback that notes the seconds and the loss of each step, and tokens so far where the trainer logs them."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self):
            self.seconds, self.tokens, self.losses, self.since = [], [], [], 0.0

        def on_step_begin(self, args, state, control, **kwargs):
            self.since = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            if device == "cuda":
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.since)
            control.should_training_stop |= sum(self.seconds[STEPS - 1 :]) > TIMED_S

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.tokens += [logs["num_tokens"]] if logs and "num_tokens" in logs and "train_runtime" not in logs else []
            self.losses += [logs["loss"]] if logs and "loss" in logs else []

    return Clock()


def _forget_peak(device: str) -> None:
    """Where Linux or the confinement (lab.reach) does not let us, the peak of the whole process so far counts."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM


def _peak_mb(device: str) -> int:
    """The most memory since then, in MiB: of the process, or of the tensors on the GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() // 2**20
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024 if status.exists() else peak_rss_mb()


def _free(device: str) -> None:
    gc.unfreeze()  # vLLM's start has made all that there was permanent, and the trainer refers to itself
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
