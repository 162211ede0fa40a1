"""What a model is called and where it lies: the starter model, a folder, or a Hub id."""

import json
import re
from math import prod
from pathlib import Path

from lab.errors import BadInput

STARTER = Path(__file__).resolve().parent.parent / "starter" / "model"


def check_model(name: str) -> str:
    """The name to store for what a person wrote: "starter", an absolute folder, or a Hub id.

    Raises:
        BadInput: A folder without a model, or a name that is neither.
    """
    path = Path(name).expanduser()
    if name == "starter":
        return name
    if not path.is_dir() and not _is_hub_id(name):
        raise BadInput(f"The model {name!r} is unknown; give a model's folder, a Hub id like org/name, or 'starter'.")
    if path.is_dir() and not (path / "config.json").is_file():
        raise BadInput(f"{path} holds no config.json; give the folder of a model, a Hub id, or 'starter'.")
    return str(path.resolve()) if path.is_dir() else name


def where(name: str) -> Path | str:
    """The folder of a stored name on this machine; a Hub id stays one."""
    if name == "starter":
        return STARTER
    return Path(name) if Path(name).is_dir() else name


def parameters(model: Path | str) -> int | None:
    """How many parameters a model has, by the headers of its safetensors files; None when they are not on this disk."""
    total = 0
    for file in Path(model).glob("*.safetensors"):
        with open(file, "rb") as source:
            header = json.loads(source.read(int.from_bytes(source.read(8), "little")))
        total += sum(prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    return total or None


def _is_hub_id(name: str) -> bool:
    return not name.startswith((".", "~", "/")) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
