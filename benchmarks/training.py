"""What our SFT costs beside bare TRL, and how right its forecasts are: `python -m benchmarks.training [--rounds 3]`.

Where there is a GPU, on it with random weights of published configs, and on a CPU with the starter and small random
Llamas; `--models NAME ...` names some of the published ones, on either (benchmarks.models).

Speed: arms take turns in one process, on the same model and rows; tokens of text a second of training, padding and the
last checkpoint not counted, by the wall's clock and by the processor's, which counts what others take from a shared
machine less, and says nothing of a GPU. "bare TRL" is an SFTTrainer with the settings of ours and nothing of ours; "TRL's
defaults" is SFTConfig(), on a CPU in float32. Forecasts: one process for each of the models and settings; memory before
anything is loaded against the peak of its steps and of the whole process (on a GPU what torch had allocated and had
reserved), and the time that the probe foretells against the time that training then takes, by both clocks: by the
wall's it means something on a quiet machine only. What the machine itself allows is said beside it: how often three
steps in a row of the job itself, all that a forecast has seen of its like, would have foretold the whole of it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

from agent.settings import ROOT
from benchmarks.models import PUBLISHED, llama
from recipes import probe, sft
from recipes.job import Job, peak_rss_mb
from recipes.memory import MIB, RUNTIME, needed, shape_of
from recipes.training import arguments, prepare_machine
from recipes.weights import in_half, load_tokenizer

STARTER = ROOT / "starter" / "model"
GOAL, GOAL_MIXED, GOAL_OFF = 0.98, 1.5, 0.15
STEPS, TIMED = 100, 3  # of a forecast's job, and of them those by which its time is foretold (recipes.probe)
STEADY = {"epochs": 1.0, "eval_fraction": 0.0, "save_steps": 10_000, "log_steps": 1, "max_length": 256}
FEW = 16  # rows a step of the speed table, for published models; the starter has the 64 of sft.Config
SHORT, MIXED = (60, 60), (8, 250)  # numbers a row; one is about a token
WORDS = 320  # the starter's


class Case(NamedTuple):
    """A forecast: whose config, rows of up to so many tokens, so many a batch, and further settings."""

    model: str | tuple[int, ...]  # a published one, or the numbers of benchmarks.models.llama
    length: int
    batch: int
    more: dict[str, Any] = {}

    @property
    def config(self) -> dict[str, Any]:
        return PUBLISHED[self.model] if isinstance(self.model, str) else llama(*self.model)

    def __str__(self) -> str:
        model = self.model if isinstance(self.model, str) else f"{self.model[0]} × {self.model[1]}"
        return f"{model}, {self.batch} × {self.length}{''.join(f', {k} {v}' for k, v in self.more.items())}"


CASES = [
    Case((128, 4, 384, 4, WORDS), 128, 32),
    Case((128, 4, 384, 4, WORDS), 256, 16),
    Case((128, 4, 384, 4, WORDS), 256, 32),
    Case((128, 4, 384, 4, WORDS), 256, 32, {"gradient_checkpointing": True}),
    Case((256, 4, 1024, 8, WORDS), 128, 8),
    Case((256, 4, 1024, 8, WORDS), 256, 4, {"grad_accumulation": 2}),
    Case((256, 8, 768, 4, 8_000), 128, 8),
    Case((256, 8, 768, 4, 8_000), 128, 8, {"lora_rank": 8}),
    Case((384, 8, 1024, 6, 16_000), 64, 8),
    Case((512, 6, 1536, 8, WORDS), 128, 4),
    Case((512, 8, 1536, 8, 8_000), 64, 4),
    Case((512, 8, 1536, 8, WORDS), 256, 2, {"packing": True}),
    Case("SmolLM2-135M", 256, 64),
    Case("SmolLM2-135M", 1024, 16),
    Case("SmolLM2-135M", 1024, 16, {"packing": True}),
    Case("SmolLM2-360M", 512, 16),
    Case("SmolLM2-360M", 1024, 16, {"gradient_checkpointing": True}),
    Case("Qwen2.5-0.5B", 512, 16),
    Case("Qwen2.5-0.5B", 1024, 8, {"grad_accumulation": 2}),
    Case("Qwen2.5-0.5B", 1024, 16, {"lora_rank": 16}),
    Case("Llama-3.2-1B", 512, 16),
    Case("Llama-3.2-1B", 1024, 8, {"gradient_checkpointing": True}),
    Case("Llama-3.2-1B", 1024, 16, {"lora_rank": 16, "packing": True}),
    Case("Qwen2.5-1.5B", 512, 8),
    Case("Qwen2.5-1.5B", 1024, 16, {"lora_rank": 16, "gradient_checkpointing": True}),
    Case("gemma-2-2b", 512, 8, {"lora_rank": 16}),
]


def rows(count: int, numbers: tuple[int, int], seed: int = 0) -> list[dict[str, str]]:
    """Lists of digits, each of as many as lie between two numbers."""
    draw = Random(seed)
    lengths = [draw.randint(*numbers) for _ in range(count)]
    return [{"prompt": "Go on:", "completion": " ".join(draw.choices("123456789", k=n // 2))} for n in lengths]


def config(folder: Path, model: Path, fed: list[dict[str, str]], **settings: Any) -> sft.Config:
    folder.mkdir(parents=True)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fed))
    return sft.Config(**{"model": str(model), "data": str(folder / "data.jsonl")} | settings)


def drawn(model: dict[str, Any], folder: Path) -> Path:
    """A random model with the starter's tokenizer, made once and by a child: its memory is not ours."""
    if folder.exists():
        return folder
    folder.mkdir()
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(model | ends))
    make = "import sys, transformers as t; t.AutoModelForCausalLM.from_config(t.AutoConfig.from_pretrained(sys.argv[1])).save_pretrained(sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, str(folder)], check=True, capture_output=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((STARTER / name).read_bytes())
    return folder


# Speed


Speed = tuple[float, float]  # tokens a second: of the wall's, of the processor's


def ours(folder: Path, model: Path, fed: list[dict[str, str]]) -> Speed:
    told = config(folder, model, fed, **steadily(model))
    with taken() as spent:
        result = sft.train(told, Job(folder), fed)
    return result["tokens"] / spent["wall"], result["tokens"] / spent["processor"]


def bare(folder: Path, model: Path, fed: list[dict[str, str]]) -> Speed:
    told = config(folder, model, fed, **steadily(model))
    ours = arguments(told, folder, prepare_machine(), False)
    return _trl(model, fed, **ours, max_length=told.max_length, completion_only_loss=told.completion_only)


def defaults(folder: Path, model: Path, fed: list[dict[str, str]]) -> Speed:
    whole = {"bf16": False} if prepare_machine() == "cpu" else {}
    return _trl(model, fed, output_dir=str(folder), num_train_epochs=1, report_to="none", save_strategy="no", **whole)


def steadily(model: Path) -> dict[str, Any]:
    return STEADY | ({} if model == STARTER else {"batch_size": FEW})


def _trl(model: Path, fed: list[dict[str, str]], **settings: Any) -> Speed:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    trainer = SFTTrainer(model=str(model), args=SFTConfig(**settings), train_dataset=Dataset.from_list(fed))
    with taken() as spent:
        trainer.train()
    tokens = next(line["num_tokens"] for line in reversed(trainer.state.log_history) if "num_tokens" in line)
    return tokens / spent["wall"], tokens / spent["processor"]


@contextmanager
def taken() -> Iterator[dict[str, Any]]:
    """Seconds of the training in between, of the wall's clock and of the processor's; of the last one where there are several.

    Up to the end of its last step: what a checkpoint takes depends on the disk. `ends` are the wall's when training
    began and after each step.
    """
    import torch
    from transformers import Trainer, TrainerCallback

    spent: dict[str, Any] = {}
    inner = Trainer._inner_training_loop

    class Stamps(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            spent["ends"] = [time.perf_counter()]

        def on_step_end(self, args, state, control, **kwargs):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            spent["ends"].append(time.perf_counter())
            spent["processor"] = time.process_time() - spent["began"]

    def timed(trainer: Any, *args: Any, **more: Any) -> Any:
        trainer.add_callback(Stamps())
        wall, spent["began"] = time.perf_counter(), time.process_time()
        try:
            return inner(trainer, *args, **more)
        finally:
            spent["wall"] = spent["ends"][-1] - wall

    Trainer._inner_training_loop = timed
    try:
        yield spent
    finally:
        Trainer._inner_training_loop = inner


ARMS: dict[str, Callable[[Path, Path, list, list], Speed]] = {
    "bare TRL": lambda folder, model, short, mixed: bare(folder, model, short),
    "ours": lambda folder, model, short, mixed: ours(folder, model, short),
    "mixed lengths: TRL's defaults": lambda folder, model, short, mixed: defaults(folder, model, mixed),
    "mixed lengths: bare TRL": lambda folder, model, short, mixed: bare(folder, model, mixed),
    "mixed lengths: ours": lambda folder, model, short, mixed: ours(folder, model, mixed),
}
RATIOS = (
    ("ours", "bare TRL", GOAL),
    ("mixed lengths: ours", "mixed lengths: TRL's defaults", GOAL_MIXED),
    ("mixed lengths: ours", "mixed lengths: bare TRL", 1.0),
)


def speed(model: Path, rounds: int, count: int) -> str:
    device = prepare_machine()
    short, mixed = rows(count, SHORT), rows(count, MIXED)
    made: dict[str, list[Speed]] = {name: [] for name in ARMS}
    for turn in range(rounds):
        for name in sorted(ARMS, reverse=bool(turn % 2)):
            with tempfile.TemporaryDirectory() as home:
                made[name].append(ARMS[name](Path(home) / "job", model, short, mixed))
            probe._free(device)
            print(turn, name, *(f"{one:.0f}" for one in made[name][-1]), file=sys.stderr, flush=True)
    lines = ["| arm | tokens/s, median | least | most | tokens/s of the processor's, median |", "|---|---|---|---|---|"]
    for name, got in made.items():
        wall, processor = ([one[clock] for one in got] for clock in (0, 1))
        lines.append(f"| {name} | {median(wall):.0f} | {min(wall):.0f} | {max(wall):.0f} | {median(processor):.0f} |")
    for one, other, goal in RATIOS:
        for clock, of in enumerate(("wall", "processor")):
            ratios = [a[clock] / b[clock] for a, b in zip(made[one], made[other], strict=True)]
            lines += ["", _verdict(f"{one} / {other}, by the {of}'s clock", ratios, goal)]
    return "\n".join(lines)


def _verdict(name: str, ratios: list[float], goal: float) -> str:
    middle, said = median(ratios), ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"{name}: {middle:.2f} (rounds {said}; goal: at least {goal}): {'met' if middle >= goal else 'NOT met'}"


# Forecasts


def forecast(case: Case, home: Path) -> dict[str, float]:
    """One case in this process: what was foretold, and what came. MiB without the runtime's own, and seconds.

    `home` keeps the model for the next case. `runtime` are the MiB that peaks have of it: a GPU's have none.
    """
    device = prepare_machine()
    from trl.trainer.sft_trainer import SFTTrainer  # noqa: F401  its import is the runtime's, not the job's

    shape = shape_of(case.config)
    assert shape
    model = drawn(case.config, home / str(case.model))
    fed = rows(300, (case.length // 4, case.length - 8))
    settings: dict[str, Any] = {"max_length": case.length, "batch_size": case.batch, "max_steps": STEPS}
    settings |= {"eval_fraction": 0.0, "save_steps": 10_000} | case.more
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job"
        told = config(job, model, fed, **settings)
        cut, half = told.passes(told.lengths(fed, load_tokenizer(told.model)), device), in_half(told, device)
        with taken() as spent, stopped() as steps:
            sft.train(told, Job(job), fed)
        seen = json.loads((job / "preflight.json").read_text())
    longest = case.length if told.packing else seen["length_max"]
    one = {"batch_size": case.batch // cut, "grad_accumulation": told.grad_accumulation * cut}
    expected = needed(shape, told.model_dump() | one, longest, device, half=half)
    runtime = RUNTIME["cpu"] / MIB if device == "cpu" else 0
    return {
        "parameters": shape.parameters,
        "runtime": runtime,
        "foretold": (expected - RUNTIME[device]) / MIB,
        "peak": seen["peak_mb"] - runtime,
        "job": most(device),
        "eta": seen["eta_s"],
        "took": spent["wall"],
        "eta_processor": seen["eta_s"] / seen["usual_s"] * median(steps),
        "took_processor": spent["processor"],
        "steady": steady(spent["ends"]),
    }


def most(device: str) -> float:
    """MiB of the process, or what torch reserved of the GPU since the probe's last try."""
    if device == "cpu":
        return peak_rss_mb()
    import torch

    return torch.cuda.max_memory_reserved() / MIB


def steady(ends: list[float]) -> float:
    """The share of all TIMED steps in a row whose median foretells the job they belong to as well as the goal wants."""
    steps = [later - sooner for sooner, later in pairwise(ends)]
    told = [median(steps[at : at + TIMED]) * len(steps) for at in range(len(steps) - TIMED + 1)]
    return sum(abs(one / sum(steps) - 1) <= GOAL_OFF for one in told) / len(told)


@contextmanager
def stopped() -> Iterator[list[float]]:
    """Seconds of the processor's clock that the usual steps of the probe took, which it stops by the wall's."""
    looks: list[tuple[float, float]] = []
    steps: list[float] = []

    def look() -> float:
        looks.append((time.perf_counter(), time.process_time()))
        return looks[-1][0]

    probe.time, kept = SimpleNamespace(perf_counter=look), probe.time  # type: ignore[assignment]
    try:
        yield steps
    finally:
        probe.time = kept
    spans = [(end[0] - start[0], end[1] - start[1]) for start, end in pairwise(looks)][::2]
    steps += [processor for _, processor in spans[2 : 2 + TIMED]]


def forecasts(cases: list[Case]) -> str:
    lines = [
        "| case | M parameters | foretold MiB | peak of a step | off | job's peak MiB | off "
        "| foretold s | took s | off | off by the processor's | three steps of its own within 15% |"
    ]
    lines += ["|" + "---|" * 12]
    memory, total, times, processor, own = [], [], [], [], []
    with tempfile.TemporaryDirectory() as home:
        for case in cases:
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.training", "--case", str(CASES.index(case)), home],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=600,
            )  # fmt: skip
            got = json.loads(child.stdout.strip().splitlines()[-1])
            memory.append(got["foretold"] / got["peak"] - 1)
            whole = (got["foretold"] + got["runtime"]) / got["job"] - 1
            total.append(whole)
            times.append(got["eta"] / got["took"] - 1)
            processor.append(got["eta_processor"] / got["took_processor"] - 1)
            own.append(got["steady"])
            lines.append(
                f"| {case} | {got['parameters'] / 1e6:.1f} | {got['foretold']:.0f} | {got['peak']:.0f} | {memory[-1]:+.0%} "
                f"| {got['job']:.0f} | {whole:+.0%} | {got['eta']:.1f} | {got['took']:.1f} | {times[-1]:+.0%} | {processor[-1]:+.0%} | {own[-1]:.0%} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(
        [
            *lines,
            "",
            _within("memory of a step, runtime left out", memory),
            _within("memory of the job", total),
            _within("time by the wall's clock", times),
            _within("time by the processor's clock", processor),
            f"three steps of the jobs themselves would have foretold {sum(own):.1f} of {len(own)}",
        ]
    )


def _within(name: str, off: list[float]) -> str:
    good = sum(abs(one) <= GOAL_OFF for one in off)
    said = "met" if good == len(off) else "NOT met"
    return f"{name}: {good} of {len(off)} within {GOAL_OFF:.0%}, median off {median(map(abs, off)):.0%} (goal: all): {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=384)
    parser.add_argument("--only", choices=("speed", "forecasts"))
    parser.add_argument("--models", nargs="+", choices=PUBLISHED, default=[])
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.case:
        return print(json.dumps(forecast(CASES[int(told.case[0])], Path(told.case[1]))))
    began = time.time()
    names = told.models or (list(PUBLISHED) if prepare_machine() == "cuda" else [])
    if told.only != "speed":
        cases = [case for case in CASES if (case.model in names if names else isinstance(case.model, tuple))]
        print(forecasts(cases), end="\n\n", flush=True)
    if told.only != "forecasts":
        with tempfile.TemporaryDirectory() as home:
            for name in names:
                print(
                    f"{name}\n\n{speed(drawn(PUBLISHED[name], Path(home) / name), told.rounds, told.rows)}\n",
                    flush=True,
                )
        if not names:
            print(speed(STARTER, told.rounds, told.rows))
    print(f"\n{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
