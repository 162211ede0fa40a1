"""How much memory a job will take, before it starts; 0 where nobody knows. Reads files of this disk only."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.backend import Machine
from lab.hub import Hub
from lab.models import config_of, parameters, sizes
from lab.preflight import CHARACTERS, Space
from recipes.catalogue import RECIPES
from recipes.memory import RUNTIME, Shape


def demand(recipe: str, config: dict[str, Any], machine: Machine, shape: Shape | None = None) -> int:
    """Bytes at its peak, by the estimate of recipes.memory; of an evaluation its weights, of a person's script 0.

    Args:
        machine: What is told is the need of each of its accelerators.
        shape: The model's, where somebody has asked the Hub for it.
    """
    folder = Path(str(config.get("model", "")))  # of a Hub model that is on this disk, too: see lab.hub
    shape = shape or _shape(folder)
    if shape is None:
        return 0
    size = parameters(folder)
    if recipe == "evaluate":
        return RUNTIME[machine.device] + 4 * (size or shape.parameters)  # the judge works in float32
    if recipe not in RECIPES or recipe == "script":
        return 0
    kind = RECIPES[recipe]
    full = {name: field.default for name, field in kind.model_fields.items()} | config
    return Space(machine, shape, size).needs(kind, full, _tokens(full))


def space_of(config: dict[str, Any], hub: Hub, place: Machine) -> Space | None:
    """What a job has to fit into."""
    model = config["model"]
    shape = sizes(config_of(model, hub) or {})
    return Space(place, shape, parameters(model)) if shape else None


def _shape(folder: Path) -> Shape | None:
    try:
        return sizes(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def _tokens(full: dict[str, Any]) -> int:
    """Of the longest row, as far as it is not cut, and of what a recipe samples after it."""
    most, longest = full.get("max_length"), 0
    with suppress(OSError), open(full["data"], "rb") as rows:
        longest = max(map(len, rows), default=0) // CHARACTERS + 1
    return min(longest, most) if most else longest + full.get("max_new_tokens", 0)
