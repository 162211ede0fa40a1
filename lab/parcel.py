"""What travels to a rented machine for one job: our recipes, their pinned requirements, its settings, and the files that these name."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from lab.backend import RENTED, JobSpec
from lab.errors import Refused
from recipes.remote import HERE

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("model", "teacher")
FILES = ("data", "items", "script")
NOT_THERE = ("trackio_project", "trackio_run")  # curves go by the log
NEEDS = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "pydantic", "math-verify", "huggingface_hub")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
SOMETIMES = {
    ("quantize", "nf4"): ["bitsandbytes==0.50.2"],
    ("engine", "vllm"): ["vllm==0.31.0", "transformers==5.17.0"],
}  # vLLM's wants < 5.18


def pack(spec: JobSpec, folder: Path, accelerators: int = 1) -> dict[str, str]:
    """Fill a folder with all that the job needs, by hard links where the disk lets us.

    `accelerators` are those of its machine, all of which it is to use.

    Returns the models of the Hub that it is to find mounted, by the setting that names each. Raises OSError, Refused.
    """
    if spec.config.get("vllm_server"):
        raise Refused(
            "A rented machine cannot give its weights to a vllm_server; leave it out and use the engine 'vllm'."
        )
    if spec.config.get("engine") == "vllm" and spec.machine.startswith(f"{RENTED}cpu"):
        raise Refused(f"{spec.machine} has no GPU, and vLLM samples on one only; use the engine 'transformers'.")
    config = {name: value for name, value in spec.config.items() if name not in NOT_THERE}
    mounted: dict[str, str] = {}
    own = spec.folder.parent.absolute()
    for name in (name for name in (*MODELS, *FILES) if config.get(name)):
        source = Path(str(config[name]))
        if not source.is_absolute():  # a model's Hub id
            mounted[name] = config.pop(name)
            continue
        target = name if source.is_dir() else f"{name}{source.suffix}"
        _link(source, folder / target, own)
        config[name] = f"{HERE}/{target}"
    kind, _, table = str(config.get("benchmark", "")).partition(":")
    if os.path.isabs(table):  # a person's own questions
        _link(Path(table), folder / Path(table).name, own)
        config["benchmark"] = f"{kind}:{HERE}/{Path(table).name}"
    for file in (ROOT / "recipes").rglob("*.py"):
        _link(file, folder / "code" / file.relative_to(ROOT), own)
    (folder / "code" / "requirements.txt").write_text("\n".join(requirements(spec.config)) + "\n")
    (folder / "config.json").write_text(json.dumps(config))
    about = {"recipe": spec.recipe, "hours": spec.hours, "attempt": spec.attempt, "accelerators": accelerators}
    (folder / "job.json").write_text(json.dumps(about))
    return mounted


def requirements(config: dict[str, Any]) -> list[str]:
    """The pins of our own requirements that a job with these settings needs."""
    pins = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    more = [pin for (name, value), some in SOMETIMES.items() if config.get(name) == value for pin in some]
    instead = {pin.partition("==")[0] for pin in more}
    wanted = more + [pin for pin in pins if (name := pin.partition("==")[0]) in NEEDS and name not in instead]
    if str(config.get("benchmark", "")).startswith("gym:"):
        wanted.append((ROOT / "requirements-gym.txt").read_text().strip().splitlines()[-1])
    return wanted


def _link(source: Path, target: Path, own: Path) -> None:
    """The files of a folder's top, or one file. What a link leads to goes along as itself, but not out of `own`, the
    session's jobs: their trainers may have made links to what only we may read. Raises Refused."""
    made = source.absolute().is_relative_to(own)
    for file in source.iterdir() if source.is_dir() else [source]:
        if made and (file.is_symlink() or not (file.is_file() or file.is_dir())):
            raise Refused(f"{file.name} of {source.parent.name} is a link or no file; train it again.")
        if not file.is_file():
            continue
        place = target / file.name if source.is_dir() else target
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file if made else file.resolve(), place, follow_symlinks=False)
        except OSError:  # another disk
            shutil.copyfile(file, place, follow_symlinks=not made)
        if place.is_symlink():  # it was put there meanwhile
            place.unlink()
            raise Refused(f"{file.name} of {source.parent.name} is a link; train it again.")
