"""What the training recipes share: the machine, the model, the recorder of metrics, checkpoints that survive a kill.

Models, tokenizers and trainers are `Any` in signatures: the Auto classes' declared types are unions that fit no use.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.job import ConfigError, Job

COMPLETE = "complete"  # written last into a checkpoint: without it a kill came first
MOST_THREADS = 16  # more do not help models that anybody trains on a CPU
# The trainer's own totals, which are not curves.
NOT_METRICS = ("profiling/", "train_", "total_flos", "eval_runtime", "eval_samples_per", "eval_steps_per")


def prepare_machine() -> str:
    """Quiet libraries, threads that fit the container; returns "cuda" or "cpu"."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers would warn on every batch
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two jobs that spin on the same cores stop each other
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # a job tells nobody that it runs
    import torch
    from datasets.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()
    torch.set_num_threads(min(cores(), MOST_THREADS))
    return "cuda" if torch.cuda.is_available() else "cpu"


def cores() -> int:
    """CPU cores this process may use: its affinity, or the container's quota (cgroup v2) where that is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if not quota.is_file():
        return allowed
    limit, period = quota.read_text().split()
    return allowed if limit == "max" else max(1, min(allowed, round(int(limit) / int(period))))


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer, with a pad token. Raises ConfigError where there is none, or none with an EOS token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"No tokenizer can be loaded from {model!r}: {first_line(error)}") from error
    if tokenizer.eos_token is None:
        raise ConfigError(f"The tokenizer of {model!r} has no EOS token, so nothing can learn to stop.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: str, half: bool) -> Any:
    """A causal language model in bfloat16 (`half`) or float32. Raises ConfigError where it cannot be loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if half else torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(f"No causal language model can be loaded from {model!r}: {first_line(error)}") from error


def resume_point(checkpoints: Path) -> Path | None:
    """The newest complete checkpoint; the incomplete ones, cut off by a kill, are deleted."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=step_of)
    for broken in (folder for folder in found if not (folder / COMPLETE).exists()):
        shutil.rmtree(broken)
    return next((folder for folder in reversed(found) if folder.exists()), None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def recorder(job: Job, before_step_one: Callable[[int], None], tokens_before: float = 0.0) -> Any:
    """A callback that writes metrics.jsonl, marks complete checkpoints, and stops after a save on SIGTERM.

    `before_step_one` is called with the total number of steps once the trainer knows it.
    `tokens_before` is added to TRL's `num_tokens`, which starts at zero again after a resume. A NaN loss shows only
    where the trainer runs with `logging_nan_inf_filter=False`.
    """
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        def __init__(self):
            self.tokens, self.since = tokens_before, time.time()

        def on_train_begin(self, args, state, control, **kwargs):
            before_step_one(state.max_steps)
            self.since = time.time()

        def on_log(self, args, state, control, logs=None, **kwargs):
            if not logs or "train_runtime" in logs:
                return
            kept = {k: v for k, v in logs.items() if is_metric(k, v)}
            if "num_tokens" in kept:
                kept["num_tokens"] += tokens_before
                now = time.time()
                kept["tokens_per_second"] = round((kept["num_tokens"] - self.tokens) / max(now - self.since, 1e-6), 1)
                self.tokens, self.since = kept["num_tokens"], now
            job.log(state.global_step, state.max_steps, **kept)

        def on_step_end(self, args, state, control, **kwargs):
            if job.stopping:
                control.should_save = control.should_training_stop = True

        def on_save(self, args, state, control, **kwargs):
            (job.folder / "checkpoints" / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    return Recorder()


def is_metric(name: str, value: Any) -> bool:
    return isinstance(value, (int, float)) and not name.startswith(NOT_METRICS)


def save_whole(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save weights, generation config and tokenizer, in one move: `folder` is never half a model."""
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
