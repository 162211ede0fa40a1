"""What the recipe tests share: job folders with real data, and real runs of the recipes on the starter model."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from recipes.benchmarks import load
from recipes.job import Job, read_lines

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "starter" / "model"
SMALL = {"batch_size": 16, "max_steps": 6, "log_steps": 1, "eval_steps": 100, "save_steps": 100, "warmup_steps": 1}


def with_rows(folder: Path, rows: list[dict[str, Any]], **config: Any) -> Path:
    """A job folder with these rows and settings; returns its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model": str(STARTER), "data": str(folder / "data.jsonl")} | config
    (folder / "config.json").write_text(json.dumps(settings))
    return folder / "config.json"


def run(recipe: str, folder: Path, rows: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
    """A recipe in this process; returns what result.json would hold."""
    module = import_module(f"recipes.{recipe}")
    path = with_rows(folder, rows, **config)
    return module.main(module.Config.model_validate_json(path.read_bytes()), Job(folder))


def sft_rows(rows: int) -> list[dict[str, str]]:
    """Worked chains."""
    chains = load("chains")
    items = chains.items("train", rows, seed=1)
    return [{"prompt": chains.prompt(item), "completion": chains.completion(item, worked=True)} for item in items]


def sft_folder(folder: Path, rows: int = 200, **config: Any) -> Path:
    """A job folder for SFT on worked chains; returns its config.json."""
    return with_rows(folder, sft_rows(rows), **SMALL | config)


def run_sft(folder: Path, rows: int = 200, **config: Any) -> dict[str, Any]:
    """SFT in this process; returns what result.json would hold."""
    return run("sft", folder, sft_rows(rows), **SMALL | config)


def start(recipe: str, config: Path, accelerators: int = 1) -> subprocess.Popen:
    """The recipe as a launcher starts it."""
    command = [sys.executable, "-m", f"recipes.{recipe}", str(config), str(accelerators)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def metric(folder: Path, name: str) -> list[Any]:
    return [line[name] for line in read_lines(folder / "metrics.jsonl") if name in line]
