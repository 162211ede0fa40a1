"""What stands beside a trainer at each of its steps: writes its curves, marks its checkpoints, and stops it when it is told to."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes import processes
from recipes.grace import COMPLETE
from recipes.job import Job

OF_A_CHECKPOINT = ("metrics.jsonl", "preflight.json")  # what a resume wants beside it: the curve, and what was fitted
# The trainer's own totals, which are not curves.
NOT_METRICS = (
    "profiling/",
    "train_",
    "total_flos",
    "eval_runtime",
    "eval_samples_per",
    "eval_steps_per",
    "eval_num_tokens",
)


def unmark(checkpoints: Path, limit: int | None) -> None:
    """Take COMPLETE off what the next save will delete: a kill in the middle of that leaves half of it."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=step_of)
    for folder in found[: -(limit - 1)] if limit else []:
        (folder / COMPLETE).unlink(missing_ok=True)


def recorder(job: Job, before_step_one: Callable[[int], None], tokens_before: float = 0.0) -> Any:
    """A callback that writes metrics.jsonl, marks complete checkpoints, and stops after a save on SIGTERM.

    `before_step_one` is called with the total number of steps once the trainer knows it.
    `tokens_before` is added to TRL's `num_tokens`, which starts at zero again after a resume; trainers that generate
    keep it in their state, which is resumed. The last step is evaluated, whatever `eval_steps` says, and what is saved
    is logged: a resume knows nothing of the loss and the tokens since the last log. A NaN loss shows only where the
    trainer runs with `logging_nan_inf_filter=False`. Several processes stop at the same step, whichever was told to.
    """
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        def __init__(self):
            self.tokens, self.since, self.offset = tokens_before, time.time(), tokens_before

        def on_train_begin(self, args, state, control, **kwargs):
            before_step_one(state.max_steps)
            self.offset = 0.0 if state.num_input_tokens_seen else tokens_before
            self.since = time.time()

        def on_log(self, args, state, control, logs=None, **kwargs):
            if not logs or not job.first or "train_runtime" in logs:
                return
            kept = {k: v for k, v in logs.items() if is_metric(k, v)}
            if "num_tokens" in kept:
                kept["num_tokens"] += self.offset
                now = time.time()
                kept["tokens_per_second"] = round((kept["num_tokens"] - self.tokens) / max(now - self.since, 1e-6), 1)
                self.tokens, self.since = kept["num_tokens"], now
            job.log(state.global_step, state.max_steps, **kept)

        def on_step_end(self, args, state, control, **kwargs):
            if processes.anywhere(job.stopping):
                job.stopping = True
                control.should_save = control.should_training_stop = True
            elif state.global_step >= state.max_steps and args.eval_strategy != "no":
                control.should_evaluate = True
            if control.should_save:
                control.should_log = True
            if control.should_save and job.first:
                unmark(job.folder / "checkpoints", args.save_total_limit)

        def on_save(self, args, state, control, **kwargs):
            processes.anywhere(False)  # each has a file of its own in it
            if job.first:
                (job.folder / "checkpoints" / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    return Recorder()


def is_metric(name: str, value: Any) -> bool:
    return isinstance(value, (int, float)) and not name.startswith(NOT_METRICS)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def resume_point(checkpoints: Path) -> Path | None:
    """The newest complete checkpoint; the incomplete ones, cut off by a kill, are deleted."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=step_of)
    for broken in (folder for folder in found if not (folder / COMPLETE).exists()):
        shutil.rmtree(broken)
    return next((folder for folder in reversed(found) if folder.exists()), None)


def is_last(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"] >= state["max_steps"]
