"""Jobs whose process breaks: out of memory, without disk, frozen, starved by its loader. For benchmarks.gallery.

Each runs as its own process, as a launcher starts it, and is wrecked from outside by what the system offers: resource
limits, SIGSTOP, a pipe that nobody writes to. What a supervisor sees of it is recorded.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from resource import RLIMIT_AS, RLIMIT_FSIZE, prlimit
from typing import Any, TextIO

import psutil
from pydantic import BaseModel

from lab.backend import JobState, read_json
from lab.pulse import Pulse
from recipes.benchmarks import load
from recipes.job import Job, read_lines, run, write_json

ROOT = Path(__file__).parents[1]
STARTER = ROOT / "starter" / "model"
SILENCE = 65.0  # seconds that a process which says nothing is watched
MIB = 2**20


def out_of_memory(trainer: psutil.Process) -> None:
    """32 MiB more than it has, before its first step."""
    most = trainer.memory_info().vms + 32 * MIB
    prlimit(trainer.pid, RLIMIT_AS, (most, most))


def full_disk(trainer: psutil.Process) -> None:
    """No file may grow beyond 64 KiB: metrics fit, a checkpoint does not."""
    prlimit(trainer.pid, RLIMIT_FSIZE, (2**16, 2**16))


def freeze(trainer: psutil.Process) -> None:
    trainer.send_signal(signal.SIGSTOP)


def wreck(
    folder: Path,
    seed: int,
    blow: Callable[[psutil.Process], None] | None,
    module: str = "recipes.sft",
    lines: int = 0,
    **config: Any,
) -> dict[str, Any]:
    """Start a job, strike once it has logged `lines` lines (None: its pipe runs dry by itself), and watch it to its end or for SILENCE seconds."""
    write_rows(folder / "data.jsonl", seed)
    made = {"model": str(STARTER), "data": str(folder / "data.jsonl"), "max_steps": 400, "log_steps": 2, "save_steps": 20,
            "batch_size": 16, "max_length": 64, "eval_fraction": 0.0, "seed": seed} | config  # fmt: skip
    write_json(folder / "config.json", made)
    for stale in ("preflight.json", "result.json", "heartbeat"):
        (folder / stale).unlink(missing_ok=True)
    with open(folder / "log.txt", "wb") as log:
        trainer = subprocess.Popen(
            [sys.executable, "-m", module, str(folder / "config.json")], cwd=ROOT, stdout=log, stderr=log
        )
    ready = folder / "preflight.json"
    while not ready.exists() or len(read_lines(folder / "metrics.jsonl")) < lines:
        assert trainer.poll() is None, (folder / "log.txt").read_text()[-2000:]
        time.sleep(0.005)
    if blow:
        blow(psutil.Process(trainer.pid))
    life = watch(folder, trainer)
    trainer.kill()
    trainer.wait()
    return {"config": made, "life": asdict(life)}


def watch(folder: Path, trainer: subprocess.Popen) -> Any:
    """The signs of life, looked for as the supervisor does, until the process ends or was silent for SILENCE seconds."""
    pulse, known = Pulse(), 0
    while trainer.poll() is None:
        lines = len(read_lines(folder / "metrics.jsonl"))
        life, known = pulse.look(folder, JobState("running"), lines > known), lines
        if life.silent_s > SILENCE and (life.beatless_s > SILENCE or life.beatless_s < 5):
            return life
        time.sleep(0.25)
    return pulse.look(folder, JobState("failed", reason=read_json(folder / "result.json").get("error", "")), False)


def write_rows(path: Path, seed: int) -> None:
    task = load("chains")
    rows = [
        {"prompt": task.prompt(item), "completion": task.completion(item, True)}
        for item in task.items("train", 600, seed)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Config(BaseModel):
    """Of the starved job, whose rows come through a pipe."""

    data: str
    max_steps: int
    seed: int


@cache
def opened(pipe: str) -> TextIO:
    """The pipe, opened once: a dataset is iterated several times, and each goes on where the last one left off."""
    return open(pipe)


def starved(config: Config, job: Job) -> dict[str, Any]:
    """SFT whose loader reads from a pipe that stays open and runs dry after 400 rows."""
    from datasets import Dataset, IterableDataset
    from trl import SFTConfig, SFTTrainer

    from recipes.recorder import recorder
    from recipes.training import load_model, load_tokenizer, prepare_machine

    prepare_machine()
    rows = read_lines(Path(config.data))[:400]
    pipe = job.folder / "rows"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)

    def feed() -> None:
        with open(pipe, "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
            out.flush()
            time.sleep(3600)  # nothing more comes, and nothing is closed

    def read() -> Any:
        yield from map(json.loads, opened(str(pipe)))

    threading.Thread(target=feed, daemon=True).start()
    about = recorder(job, lambda steps: write_json(job.folder / "preflight.json", {"steps": steps}))
    settings = SFTConfig(output_dir=str(job.folder / "out"), max_steps=config.max_steps, per_device_train_batch_size=8, logging_steps=2, save_strategy="no",
                         bf16=False, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, max_length=64, learning_rate=1e-3)  # fmt: skip
    stream = IterableDataset.from_generator(read, features=Dataset.from_list(rows[:1]).features)
    trainer = SFTTrainer(
        model=load_model(str(STARTER), half=False),
        args=settings,
        train_dataset=stream,
        processing_class=load_tokenizer(str(STARTER)),
        callbacks=[about],
    )
    trainer.train()
    return {}


WRECKS = (  # name, how, the rule that must speak, its level, within how many log lines
    ("out-of-memory", lambda f, s: wreck(f, s, out_of_memory, batch_size=256), "out_of_memory", "stop", 5),
    ("full-disk", lambda f, s: wreck(f, s, full_disk, lines=3), "no_disk", "stop", 30),
    ("frozen", lambda f, s: wreck(f, s, freeze, lines=8), "frozen", "warn", 60),
    ("starved", lambda f, s: wreck(f, s, None, "benchmarks.wreck", lines=6), "stalled", "warn", 60),
)

if __name__ == "__main__":
    run(starved, Config)
