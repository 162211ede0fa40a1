"""The gallery: real runs of tiny models, healthy and broken. benchmarks.verdicts puts the rules of lab.diagnose to them.

    python -m benchmarks.gallery [CASE ...]   make the runs again (about half an hour on two cores), record them

A recorded run is tests/golden/gallery/<case>-<seed>.jsonl: one line about the job, then its metrics.jsonl, rounded to
four digits and without the metrics that no rule reads, then what the supervisor saw of its process at the end.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.rows import dice, formatted, length, near, numbers, problems, short_chains
from benchmarks.wreck import WRECKS
from lab.backend import read_json
from lab.rules import Life
from recipes.job import Job, sentence, write_json

ROOT = Path(__file__).parents[1]
STARTER = ROOT / "starter" / "model"
RUNS = ROOT / "tests" / "golden" / "gallery"
SEEDS = (0, 1, 2)  # of what must stay quiet; most of what is broken is recorded once
PROBED = (
    "steps",
    "vocabulary",
    "stop_token",
    "stop_token_trained",
    "masked_share",
    "truncated_share",
    "length_max",
    "answers",
    "overfit",
)
UNREAD = (
    "min_length",
    "max_length",
    "_min",
    "_max",
    "/min",
    "/max",
    "/std",
    "logits/",
    "num_tokens",
    "tokens_per",
)
NO_STOP = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@dataclass(frozen=True)
class Case:
    """A kind of run. A broken one must yield `rule` at `level` within `within` log lines (0: before the first step)."""

    name: str
    make: Callable[[Path, int], dict[str, Any]]  # (folder, seed) -> the config; leaves metrics.jsonl in the folder
    rule: str = ""
    level: str = ""
    within: int = 0
    also: tuple[str, ...] = ()  # rules that are right about it, too
    seeds: tuple[int, ...] = (0,)

    @property
    def broken(self) -> bool:
        return bool(self.rule)


# How runs are made. torch and trl are imported only here, inside functions.


def sft(
    folder: Path,
    seed: int,
    rows: int = 600,
    bare: float = 0.0,
    hide_nan: bool = False,
    template: str | None = None,
    **config: Any,
) -> dict[str, Any]:
    """SFT with the real recipe's trainer on worked chains, a share of them as bare answers."""
    from transformers import set_seed

    from recipes import sft as recipe
    from recipes.preflight import look_at_feed
    from recipes.recorder import recorder
    from recipes.rows import as_chat, split
    from recipes.training import Parts, arguments, load_tokenizer

    made = {"batch_size": 16, "max_steps": 120, "log_steps": 2, "eval_steps": 20, "eval_fraction": 0.1, "lr": 1e-3}
    made |= {"model": str(STARTER), "data": "", "seed": seed, "max_length": 64} | config
    if template:
        made["model"] = str(with_template(Path(made["model"]), folder / "start", template))
    settings = recipe.Config(**made)
    job, tokenizer = Job(folder), load_tokenizer(settings.model)
    texts: list[dict[str, Any]] = [
        {"prompt": prompt, "completion": good} for prompt, good, _, _ in problems(rows, seed, bare)
    ]
    given, held = split(
        [as_chat(row) for row in texts] if tokenizer.chat_template else texts, settings.eval_fraction, seed
    )

    def look(steps: int) -> None:
        write_json(folder / "preflight.json", look_at_feed(trainer, given, steps))

    set_seed(seed)
    shared = arguments(settings, folder, "cpu", bool(held))
    lengths = settings.lengths(given, tokenizer)
    trainer = recipe.build(Parts(settings, "cpu", tokenizer, given, held, shared, [recorder(job, look)], lengths))
    trainer.args.save_strategy = "no"
    if hide_nan:  # as trainers do by default: TRL and transformers show a running mean where the loss is NaN
        trainer.args.logging_nan_inf_filter, trainer.args.max_grad_norm = True, 0.0
    trainer.train()
    model = trainer.model.merge_and_unload() if settings.lora_rank else trainer.model
    model.save_pretrained(folder / "model")
    trainer.processing_class.save_pretrained(folder / "model")
    return made


def failing(make: Callable[..., dict[str, Any]], folder: Path, seed: int, **config: Any) -> dict[str, Any]:
    """A run whose trainer raises: its error is what is seen of it."""
    try:
        make(folder, seed, **config)
    except ValueError as error:
        (folder / "metrics.jsonl").touch()
        return {"config": config, "life": asdict(Life(error=sentence(error)))}
    raise AssertionError("it did not fail")


def preference(folder: Path, seed: int, method: str = "dpo", swapped: float = 0.0, **config: Any) -> dict[str, Any]:
    """DPO on pairs of a right and a wrong solution, or KTO on the same rows without their pairs."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    rng = Random(seed)
    pairs = [
        (p, *((bad, good) if rng.random() < swapped else (good, bad))) for p, good, bad, _ in problems(600, seed + 50)
    ]
    made = {"learning_rate": 1e-4, "beta": 0.1, "max_steps": 50, "per_device_train_batch_size": 8} | config
    if method == "dpo":
        rows = [{"prompt": p, "chosen": good, "rejected": bad} for p, good, bad in pairs]
        kind, settings = DPOTrainer, DPOConfig(**common(folder, seed, made))
    else:
        rows = [
            {"prompt": p, "completion": text, "label": label}
            for p, a, b in pairs
            for text, label in ((a, True), (b, False))
        ]
        kind, settings = KTOTrainer, KTOConfig(**common(folder, seed, made))
    train(kind, folder, seed, args=settings, train_dataset=Dataset.from_list(rows))
    return made


def grpo(
    folder: Path, seed: int, rewards: tuple[Callable, ...] = (), model: Path | None = None, **config: Any
) -> dict[str, Any]:
    """GRPO from the format-trained starter: eight completions a prompt, an exact check for a reward."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    made = {"learning_rate": 3e-5, "max_steps": 36, "per_device_train_batch_size": 32, "num_generations": 8,
            "max_completion_length": 20, "warmup_steps": 3, "temperature": 1.0} | config  # fmt: skip
    rows = [{"prompt": prompt, "answer": answer} for prompt, _, _, answer in problems(600, seed + 90)]
    settings = GRPOConfig(**common(folder, seed, made))
    train(
        GRPOTrainer,
        folder,
        seed,
        model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        reward_funcs=list(rewards or (near, formatted)),
    )
    return made


def by_recipe(
    recipe: str, folder: Path, seed: int, model: Path = STARTER, rows: list[dict[str, str]] | None = None, **config: Any
) -> dict[str, Any]:
    """A recipe as it is, with all that it looks at before step one, on these rows; None: on 600 chains of three terms."""
    module = import_module(f"recipes.{recipe}")
    lines = [json.dumps(row) + "\n" for row in rows or short_chains(600, seed)]
    (folder / "data.jsonl").write_text("".join(lines))
    made = {"max_steps": 30, "log_steps": 1, "save_steps": 1000, "seed": seed}
    made |= {"max_length": 64} if recipe == "sft" else {"benchmark": "chains", "max_new_tokens": 32}
    made |= {"batch_size": 64, "model": str(model), "data": str(folder / "data.jsonl")} | config
    module.main(module.Config(**made), Job(folder))
    return made


def common(folder: Path, seed: int, made: dict[str, Any]) -> dict[str, Any]:
    """What every TrainingArguments gets."""
    return made | {"output_dir": str(folder / "out"), "seed": seed, "logging_steps": 1, "save_strategy": "no", "bf16": False,
                   "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False, "logging_nan_inf_filter": False}  # fmt: skip


def train(kind: Any, folder: Path, seed: int, model: Path | None = None, **parts: Any) -> None:
    """Run a TRL trainer with our recorder, from the format-trained starter where no model is given."""
    from recipes.recorder import recorder
    from recipes.training import load_model, load_tokenizer

    job = Job(folder)
    start = model or formatted_starter(folder.parent)
    about = recorder(job, lambda steps: write_json(folder / "preflight.json", {"steps": steps}))
    trainer = kind(
        model=load_model(str(start), half=False),
        processing_class=load_tokenizer(str(start)),
        callbacks=[about],
        **parts,
    )
    trainer.train()


def formatted_starter(scratch: Path) -> Path:
    """Half of the starter's layers after a short SFT on bare answers: it answers in the format, and mostly wrong."""
    return prepared(scratch / "formatted", max_steps=150)


def working_starter(scratch: Path) -> Path:
    """The starter after a little SFT on worked solutions: it is often right."""
    if not (scratch / "working" / "model").exists():
        sft(scratch / "working", 7, 1600, batch_size=32, lr=2e-3, max_steps=50, eval_fraction=0.0)
    return scratch / "working" / "model"


def endless_starter(scratch: Path) -> Path:
    """The same on a template that never ends a turn."""
    return prepared(scratch / "endless", max_steps=100, template=NO_STOP)


def prepared(folder: Path, **config: Any) -> Path:
    """A start for other runs, made once."""
    from recipes.training import load_model, load_tokenizer

    if not (folder / "model").exists():
        half = load_model(str(STARTER), half=False)
        half.model.layers, half.config.num_hidden_layers = half.model.layers[:2], 2
        half.save_pretrained(folder / "half")
        load_tokenizer(str(STARTER)).save_pretrained(folder / "half")
        sft(folder, 7, 2000, 1.0, model=str(folder / "half"), batch_size=32, lr=3e-3, eval_fraction=0.0, **config)
    return folder / "model"


def with_template(model: Path, folder: Path, template: str) -> Path:
    """A copy of a model whose tokenizer has this chat template."""
    from recipes.training import load_model, load_tokenizer

    tokenizer = load_tokenizer(str(model))
    tokenizer.chat_template = template
    load_model(str(model), half=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


HEALTHY = (
    Case("sft", sft, seeds=SEEDS),
    Case("lora", lambda f, s: sft(f, s, lora_rank=8, lr=5e-3), seeds=SEEDS),
    Case("dpo", preference, seeds=SEEDS),
    Case("kto", lambda f, s: preference(f, s, method="kto"), seeds=SEEDS),
    Case("grpo", lambda f, s: grpo(f, s, learning_rate=2e-4, beta=0.02), seeds=SEEDS),
    Case("looked-at", lambda f, s: by_recipe("sft", f, s, batch_size=16), seeds=SEEDS),
    Case("rl", lambda f, s: by_recipe("grpo", f, s, working_starter(f.parent), lr=3e-4, schedule="constant_with_warmup"), seeds=SEEDS),
)  # fmt: skip
BROKEN = (
    Case("nan", lambda f, s: sft(f, s, lr=1e25, max_steps=30, warmup_steps=4), "not_finite", "stop", 8, seeds=SEEDS),
    Case("nan-hidden", lambda f, s: sft(f, s, lr=1e25, max_steps=60, warmup_steps=4, hide_nan=True), "not_finite", "stop", 12),
    Case("divergence", lambda f, s: sft(f, s, bare=1.0, model=str(formatted_starter(f.parent)), max_steps=100, lr=0.06, warmup_steps=45, schedule="constant_with_warmup"), "divergence", "stop", 50, ("gradient_spike",)),
    Case("overfit", lambda f, s: sft(f, s, rows=80, bare=1.0, eval_fraction=0.4, lr=2e-3, max_steps=120, eval_steps=10, schedule="constant"), "overfit", "warn", 75),
    Case("plateau", lambda f, s: sft(f, s, lr=1e-9), "plateau", "info", 60),
    Case("masked", lambda f, s: failing(sft, f, s, max_length=8, max_steps=10), "all_masked", "stop", 0, ("truncated", "stop_token_not_trained", "no_learning_rate")),
    Case("no-stop-token", lambda f, s: sft(f, s, template=NO_STOP, max_steps=20), "stop_token_not_trained", "stop", 0, ("no_learning_rate",)),
    Case("truncated", lambda f, s: sft(f, s, max_length=40, max_steps=20), "truncated", "stop", 0, ("stop_token_not_trained", "no_learning_rate")),
    Case("wrong-template", lambda f, s: sft(f, s, template=CHATML, max_length=128, max_steps=20), "stop_token_not_trained", "stop", 0, ("no_learning_rate",)),
    Case("never-ends", lambda f, s: grpo(f, s, model=endless_starter(f.parent), max_steps=15), "no_eos", "stop", 5, ("cut_off", "no_signal")),
    Case("no-variance", lambda f, s: grpo(f, s, rewards=(formatted,)), "no_signal", "stop", 20, ("dead_gradients", "all_masked"), (0, 1)),
    Case("reward-stands-still", lambda f, s: grpo(f, s, learning_rate=1e-9, max_steps=64), "reward_flat", "warn", 64),
    Case("length-hacking", lambda f, s: grpo(f, s, rewards=(length,), learning_rate=1e-3, max_completion_length=48), "reward_hacking", "warn", 60, ("cut_off", "slowdown", "entropy_collapse")),
    Case("entropy-collapse", lambda f, s: grpo(f, s, rewards=(dice,), learning_rate=1e-3, max_steps=48), "entropy_collapse", "warn", 48),
    Case("kl-blow-up", lambda f, s: grpo(f, s, rewards=(length,), learning_rate=1e-3, beta=0.001), "kl_blow_up", "stop", 40, ("kl_jump", "reward_hacking", "cut_off", "slowdown"), (0, 1)),
    Case("entropy-for-nothing", lambda f, s: grpo(f, s, learning_rate=5e-3, warmup_steps=20), "entropy_collapse", "warn", 36, ("no_learning_rate",)),
    Case("reward-collapse", lambda f, s: grpo(f, s, learning_rate=0.1, warmup_steps=20, max_steps=44), "reward_collapse", "stop", 44, ("dead_gradients", "entropy_collapse", "no_signal", "cut_off", "length_collapse", "gradient_spike")),
    Case("dpo-displacement", lambda f, s: preference(f, s, learning_rate=2e-3), "dpo_displacement", "warn", 60),
    Case("dpo-nothing", lambda f, s: preference(f, s, swapped=0.5, learning_rate=1e-6), "dpo_no_preference", "warn", 60),
    Case("nothing-right", lambda f, s: by_recipe("grpo", f, s, max_steps=20), "nothing_to_learn", "stop", 0, ("dead_gradients", "no_signal")),
    Case("all-solved", lambda f, s: by_recipe("grpo", f, s, working_starter(f.parent), rewards=[{"kind": "format", "pattern": "."}], max_steps=20), "nothing_to_learn", "stop", 0, ("dead_gradients", "no_signal")),
    Case("answers-cut-off", lambda f, s: by_recipe("grpo", f, s, working_starter(f.parent), max_new_tokens=4, max_steps=20), "cut_off_answers", "stop", 0, ("nothing_to_learn", "dead_gradients", "no_signal", "no_eos", "cut_off")),
    Case("nothing-moves", lambda f, s: by_recipe("sft", f, s, lr=1e-9, batch_size=16), "cannot_overfit", "warn", 0, ("no_learning_rate", "plateau")),
    Case("by-heart", lambda f, s: by_recipe("sft", f, s, rows=numbers(25, s), eval_fraction=0.2, eval_steps=20, log_steps=2, batch_size=1, max_steps=140, warmup_steps=4, schedule="constant"), "memorised", "info", 77, ("overfit",), SEEDS),
    Case("few-prompts", lambda f, s: by_recipe("grpo", f, s, formatted_starter(f.parent), short_chains(40, s), eval_fraction=0.8, eval_steps=5, lr=1e-3, max_new_tokens=16, schedule="constant_with_warmup"), "reward_gap", "warn", 36, ("entropy_collapse", "no_signal")),
    Case("none-accepted", lambda f, s: failing(lambda *a: by_recipe("rejection", *a, rows=short_chains(128, s)), f, s), "none_accepted", "stop", 0),
    *(Case(name, make, rule, level, within, ("stalled",)) for name, make, rule, level, within in WRECKS),
)  # fmt: skip
CASES = {case.name: case for case in (*HEALTHY, *BROKEN)}


def make(names: list[str], seeds: list[int], scratch: Path) -> None:
    """Make the runs that are not in `scratch` yet, and record them."""
    from recipes.training import prepare_machine

    prepare_machine()  # before torch is imported: it reads the environment once

    import torch

    torch.set_num_threads(1)
    wanted = [CASES[name] for name in names] or list(CASES.values())
    for seed, case in ((seed, case) for seed in seeds for case in wanted if seed in case.seeds):
        folder = scratch / f"{case.name}-{seed}"
        if not (folder / "made.json").exists():
            began = time.time()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.jsonl").unlink(missing_ok=True)
            made = case.make(folder, seed)
            made = made if "life" in made else {"config": made}
            write_json(folder / "made.json", made | {"seconds": round(time.time() - began, 1)})
        record(case, seed, folder)
        print(f"{folder.name}: {read_json(folder / 'made.json')['seconds']} s", flush=True)


def record(case: Case, seed: int, folder: Path) -> None:
    """Store a run, short enough for a repository."""
    made, probe = read_json(folder / "made.json"), read_json(folder / "preflight.json")
    config = {
        k: v for k, v in made["config"].items() if isinstance(v, int | float | str) and k not in ("model", "data")
    }
    probe.get("answers", {}).pop("shown", None)
    head = {"case": case.name, "seed": seed, "config": config, "probe": {k: probe[k] for k in PROBED if k in probe}}
    head["life"] = made.get("life", asdict(Life()))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    start = lines[0]["at"] - 1 if lines else 0
    lines = [
        {k: short(v) for k, v in line.items() if k in ("step", "steps") or not any(part in k for part in UNREAD)}
        | {"at": round(line["at"] - start, 2)}
        for line in lines
    ]
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / f"{case.name}-{seed}.jsonl").write_text(
        "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in [head, *lines])
    )


def short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "ml-intern-gallery")
    given = parser.parse_args()
    make(given.cases, given.seeds, given.scratch)
