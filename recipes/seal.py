"""Hashes that tie a score to its judge, its items and its model. Pure standard library: the lab computes them again."""

from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
MODEL_SUFFIXES = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja")  # weights, configs, tokenizers
NOT_THE_MODEL = ("trainer_state.json",)  # a training run's own notes
SCORED_BY_PACKAGE = {"gym": "reasoning-gym"}  # the scorer lives in a package: its version is part of the judge


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, in hex. Raises OSError."""
    digest = sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def judge_hash(benchmark: str) -> str:
    """sha256 over this judge: recipes/evaluate.py, the benchmark's own file, and what both are built on.

    `benchmark` is a name as `benchmarks.load` takes it. Raises ValueError where no such benchmark exists.
    """
    kind = benchmark.partition(":")[0]
    own = HERE / "benchmarks" / f"{kind}.py"
    if kind == "base" or not kind.isidentifier() or not own.is_file():
        raise ValueError(f"There is no benchmark {benchmark!r}.")
    parts = [f"{path.name} {file_hash(path)}" for path in (HERE / "evaluate.py", HERE / "benchmarks" / "base.py", own)]
    if kind in SCORED_BY_PACKAGE:
        parts.append(f"{SCORED_BY_PACKAGE[kind]} {installed(SCORED_BY_PACKAGE[kind])}")
    return combined(parts)


def model_hash(path: str | Path) -> str:
    """sha256 over name and content of a model folder's weights, config and tokenizer files, sorted by name.

    Sub-folders, checkpoints' optimizer states and READMEs do not count. Raises ValueError where no such file is there.
    """
    folder = Path(path)
    files = sorted(p for p in folder.glob("*") if p.suffix in MODEL_SUFFIXES and p.name not in NOT_THE_MODEL)
    if not files:
        raise ValueError(f"{path} is not a folder with a model in it.")
    return combined(f"{p.name} {file_hash(p)}" for p in files)


def combined(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
