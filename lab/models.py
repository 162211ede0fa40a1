"""What a model is called and where it lies: the starter model, a folder, or a Hub id."""

import json
import re
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.hub import Hub
from lab.tidy import given_path
from recipes.memory import Shape, shape_of

STARTER = Path(__file__).resolve().parent.parent / "starter" / "model"
HEADER = 10**8  # bytes of a safetensors file's header, at most (its own limit)
MOST = 2**50  # parameters, and any size of a model
NO_JSON = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)  # or not what we look for in it


def check_model(name: str, hub: Hub) -> str:
    """The name to store for what a person wrote: "starter", an absolute folder, or a Hub id that is there.

    Raises:
        BadInput: A folder without a model, a name that is neither, or a model that cannot be had.
    """
    path = given_path(name)
    if name == "starter":
        return name
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BadInput(f"{path} holds no config.json; give the folder of a model, a Hub id, or 'starter'.")
        return str(path.resolve())
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise BadInput(f"The model {name!r} is unknown; give a model's folder, a Hub id like org/name, or 'starter'.")
    if found := hub.look(name):
        raise BadInput(f"{found[0].what} {found[0].advice}")
    return name


def where(name: str) -> Path | str:
    """The folder of a stored name on this machine; a Hub id stays one."""
    if name == "starter":
        return STARTER
    return Path(name) if Path(name).is_dir() else name


def parameters(model: Path | str) -> int | None:
    """How many parameters a model has, by the headers of its safetensors files; None when they are not on this disk, or are none."""
    total = 0
    try:
        for file in Path(model).glob("*.safetensors"):
            if not file.is_file():  # a pipe would hold us up
                return None
            with open(file, "rb") as source:
                header = json.loads(source.read(min(HEADER, int.from_bytes(source.read(8), "little"))))
            total += sum(prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    except NO_JSON:
        return None
    return total if 0 < total < MOST else None


def sizes(config: Any) -> Shape | None:
    """recipes.memory.shape_of what stands in a config.json, which a trainer may have written; None where that is no decoder's."""
    try:
        shape = shape_of(config)
    except (TypeError, AttributeError):
        return None
    numbers = [value for name, value in vars(shape).items() if name != "kind"] if shape else []
    return shape if all(isinstance(number, int) and 0 <= number < MOST for number in numbers) else None


def config_of(model: Path | str, hub: Hub, name: str = "config.json") -> dict[str, Any] | None:
    """A model's config.json, of a Hub id from the cache or the Hub; None where it cannot be had."""
    file = Path(model) / name
    try:
        if not file.is_file():
            file = hub.file(str(model), name)
        config = json.loads(file.read_text(encoding="utf-8"))
    except NO_JSON:  # the Hub's errors are of these kinds
        return None
    return config if isinstance(config, dict) else None


def has_template(model: Path | str, hub: Hub) -> bool:
    """Whether a model has a chat template, as far as its files can be had."""
    if (config_of(model, hub, "tokenizer_config.json") or {}).get("chat_template"):
        return True
    file = Path(model) / "chat_template.jinja"
    try:
        return (file if Path(model).is_dir() else hub.file(str(model), file.name)).is_file()
    except NO_JSON:
        return False


def token_counter(model: str) -> Callable[[Sequence[str]], list[int]] | None:
    """A function that counts tokens of many texts, when the model's tokenizer lies on this disk."""
    file = Path(model) / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer  # 30 ms; the rest of the lab does without

    tokenizer = Tokenizer.from_file(str(file))
    return lambda texts: [len(encoding) for encoding in tokenizer.encode_batch(list(texts))]
