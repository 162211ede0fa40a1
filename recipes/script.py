"""A training script of one's own under the contract of every job: `python -m recipes.script FOLDER/config.json`.

The script is one file and runs as the main program, in the job's folder, with config.json as its argument: the settings
that it was launched with, its own included. Its environment says the rest:

    JOB_DATA, JOB_MODEL, JOB_SEED   what to train on, the folder or Hub id to start from, and the seed, which is set
    JOB_OUTPUT                      where it saves the model and its tokenizer, to be loaded by AutoModelForCausalLM
    JOB_CHECKPOINTS, JOB_RESUME     the output_dir of a Trainer, and the checkpoint to go on from, "" without one; give
                                    the Trainer its tokenizer as processing_class, and each is a whole model
    JOB_DEADLINE                    unix time at which it is ended; absent where nobody has set one

What a transformers Trainer logs is the job's curve, and so is trackio.log({"loss": 2.1}, step=1) of a plain loop.
"""

import gc
import json
import os
import runpy
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from recipes.job import ConfigError, Job, peak_rss_mb, read_lines, run
from recipes.recorder import COMPLETE, is_metric, resume_point, step_of
from recipes.rows import Row, leaves
from recipes.seal import file_hash
from recipes.training import TrainingConfig, load_model, load_tokenizer, prepare_machine

WHOLE = 1000  # log lines that are all kept; of N, about WHOLE * ln(N / WHOLE) more: each becomes a fact of the session
OURS = ("step", "steps", "at", "train/global_step")  # no metrics; the last is the Trainer's, which is recorded itself


class Free(Row):
    """A row of any shape: the script knows what it means."""

    model_config = ConfigDict(extra="allow")
    NEEDS = "JSON objects"

    def plain(self, longest: bool = False) -> dict[str, str]:
        """Every key and value of the row, each by itself; how long it is for the model, nobody knows."""
        return {"prompt": "", "completion": "" if longest else "\n;\n".join(leaves(self.model_extra))}


class Config(TrainingConfig):
    """Settings of the other recipes are checked as they are there; any further one is the script's own. None has a default."""

    model_config = ConfigDict(extra="allow")
    SHAPE = Free
    METHOD = "a script"

    script: str  # a Python file
    script_sha256: str | None = None  # of the text that preflight has seen


class ScriptFailed(RuntimeError):
    """The script ended itself, and not well."""


class Curve:
    """metrics.jsonl as the script's own logging fills it: one curve, whatever trains in it, thinned where it gets long."""

    def __init__(self, job: Job, steps: int):
        self.job, self.steps = job, steps
        self.values: dict[str, float] = {}  # the latest of each
        self.last, self._shift, self._seen = 0, 0, 0
        self._begun = False

    def begin(self, step: int) -> None:
        """A training goes on after this step: the job's first one there, each further one where the last has ended."""
        if self._begun:
            self._shift = self.last - step
            return
        self._begun = True
        self.job.rewind(step)
        self.last = max((line["step"] for line in read_lines(self.job.metrics)), default=0)

    def add(self, step: int | None, steps: int, metrics: Mapping[str, Any]) -> None:
        """Keep what of it are numbers. Steps never go back: a second loop that counts from 0 goes on from the first."""
        values = {name: value for name, value in _numbers(metrics).items() if is_metric(name, value)}
        if not values:
            return
        if not self._begun:
            self.begin((step or 0) - 1)
        at = self.last + 1 if step is None else step + self._shift
        if at < self.last:
            self._shift += self.last - at
            at = self.last
        self.last = at
        self.values |= values
        self._seen += 1
        if self._seen % max(1, self._seen // WHOLE) == 0 or not all(map(isfinite, values.values())):
            self.job.log(at, steps and steps + self._shift, **values)


def main(config: Config, job: Job) -> dict[str, Any]:
    """Run the script, and take the model that it leaves, once it loads, as the job's model/."""
    started = time.time()
    _check(config)
    device = prepare_machine(config.device)
    curve, output = Curve(job, config.max_steps or 0), job.folder / "output"
    checkpoint = resume_point(job.folder / "checkpoints")
    output.mkdir(exist_ok=True)
    os.environ.update(_told(config, job, output, checkpoint))
    _watch_trainers(job, curve)
    _watch_trackio(config, curve)
    _run(config, job)
    gc.collect()  # its models
    check_model(output)
    shutil.rmtree(job.folder / "model", ignore_errors=True)
    os.replace(output, job.folder / "model")
    return {
        "steps": curve.last,
        "seconds": round(time.time() - started, 1),
        **{name: curve.values[name] for name in ("loss", "eval_loss") if name in curve.values},
        "peak_rss_mb": peak_rss_mb(),
        "device": device,
        "resumed_from": step_of(checkpoint) if checkpoint else 0,
    }


def check_model(folder: Path) -> None:
    """Raise ConfigError unless a whole causal language model and its tokenizer can be loaded from this folder."""
    how = "save model and tokenizer in the folder that JOB_OUTPUT names, with save_pretrained"
    if not (folder / "config.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ConfigError(f"The script has left no model: there is no config.json in {folder} (but {there}); {how}.")
    load_tokenizer(str(folder))
    _, loaded = load_model(str(folder), False, output_loading_info=True)
    if missing := sorted(loaded["missing_keys"]):
        raise ConfigError(f"The model that the script has left lacks {len(missing)} weights, e.g. {missing[0]}; {how}.")


def _check(config: Config) -> None:
    """Raise ConfigError where data or script are not the files that were checked before the launch."""
    for path, expected in ((config.data, config.data_sha256), (config.script, config.script_sha256)):
        try:
            found = file_hash(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
        if expected and found != expected:
            raise ConfigError(f"{path} is not the file that was checked before the launch; launch it again.")


def _told(config: Config, job: Job, output: Path, checkpoint: Path | None) -> dict[str, str]:
    """What the script is told through its environment."""
    about = {
        "JOB_DATA": config.data,
        "JOB_MODEL": config.model,
        "JOB_SEED": str(config.seed),
        "JOB_OUTPUT": str(output),
        "JOB_CHECKPOINTS": str(job.folder / "checkpoints"),
        "JOB_RESUME": str(checkpoint or ""),
    }
    with suppress(FileNotFoundError):  # run by hand: it has all the time
        launched = json.loads((job.folder / "job.json").read_text())
        about["JOB_DEADLINE"] = str(time.time() + launched["hours"] * 3600)
    return about


def _run(config: Config, job: Job) -> None:
    """The script as the main program. Raises what it raises, and ScriptFailed where it exits with anything but 0."""
    from transformers import set_seed

    set_seed(config.seed)
    sys.argv = [config.script, str(job.folder / "config.json")]
    try:
        runpy.run_path(config.script, run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise ScriptFailed(f"The script ended itself with {ended.code!r}.") from ended
    finally:
        _close_trackio()


def _watch_trainers(job: Job, curve: Curve) -> None:
    """Every Trainer that is made from now on records its curve, marks its checkpoints, and saves when it is told to stop."""
    from transformers import TrainerCallback, trainer

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            args.logging_nan_inf_filter = False  # True would replace a NaN loss by the running mean, and hide it
            curve.begin(state.global_step)
            job.saves_before_stopping()

        def on_log(self, args, state, control, logs=None, **kwargs):
            if logs and "train_runtime" not in logs:
                curve.add(state.global_step, state.max_steps, logs)

        def on_step_end(self, args, state, control, **kwargs):
            if job.stopping:
                control.should_save = control.should_training_stop = True

        def on_save(self, args, state, control, **kwargs):
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if folder.is_dir():
                (folder / COMPLETE).touch()

        def on_train_end(self, args, state, control, **kwargs):
            job.stop_if_asked()

    trainer.DEFAULT_CALLBACKS.append(Watch)


def _watch_trackio(config: Config, curve: Curve) -> None:
    """What is logged to trackio is the job's curve, too, and all of it goes to the job's own run there."""
    import trackio
    from trackio.run import Run

    begin, keep = trackio.init, Run.log

    def init(project: str = "script", name: str | None = None, **more: Any) -> Any:
        own = {key: more[key] for key in ("config", "group") if key in more}
        return begin(config.trackio_project or project, config.trackio_run or name, resume="allow", **own)

    def log(metrics: dict[str, Any], step: int | None = None) -> None:
        (trackio.context_vars.current_run.get() or init()).log(metrics, step)

    def kept(self: Any, metrics: dict[str, Any], step: int | None = None) -> None:
        if "train/global_step" not in metrics:
            curve.add(step, curve.steps, metrics)
        keep(self, metrics, step)

    trackio.init, trackio.log, Run.log = init, log, kept


def _close_trackio() -> None:
    """Write out what trackio still holds."""
    import trackio

    if trackio.context_vars.current_run.get() is not None:
        trackio.finish()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn, under the names that a Trainer gives: train/loss is loss, eval/loss is eval_loss."""
    found = {}
    for name, value in metrics.items():
        if name not in OURS and not isinstance(value, str | bytes):
            with suppress(TypeError, ValueError, RuntimeError):  # a table, a picture, a tensor of several numbers
                found[name.removeprefix("train/").replace("eval/", "eval_", 1)] = float(value)
    return found


if __name__ == "__main__":
    run(main, Config)
