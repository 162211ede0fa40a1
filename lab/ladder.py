"""What to change after a job ran out of memory: one rung at a time, never the method, the length or the data. Pure.

And what to try side by side after its reward fell. Settings have the names that the recipes share.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def next_rung(recipe: str, config: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """(settings to change, what to do in words) for the same run in less memory.

    First smaller batches with more accumulation, so that the effective batch stays; then gradient checkpointing; then
    a bigger machine, with no settings to change. `config` is the job's; what it leaves out is the recipe's default.
    """
    known = settings(recipe, config)
    batch, whole = known.get("batch_size", 1), known.get("batch_size", 1) * known.get("grad_accumulation", 1)
    smaller = max((size for size in range(1, batch // 2 + 1) if whole % size == 0), default=None)
    if smaller and "grad_accumulation" in known:
        changes = {"batch_size": smaller, "grad_accumulation": whole // smaller}
        why = f"The effective batch stays {whole}."
    elif known.get("gradient_checkpointing") is False:
        changes, why = {"gradient_checkpointing": True}, "It is about a fifth slower and learns the same."
    else:
        return {}, "No setting is left that saves memory: it needs a bigger machine. Method, length and data stay."
    said = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return changes, f"Train it again with {said}. {why} Method, length and data stay."


def ablation(recipe: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings to try side by side after a reward collapse, one change in each: what helps says what it was.

    A third of the learning rate, and a KL penalty of 0.04 (0.01 to 0.04 are usual) where there is less.
    """
    known = settings(recipe, config)
    slower = [{"lr": float(f"{known['lr'] / 3:.2g}")}] if "lr" in known else []
    return slower + ([{"beta": 0.04}] if known.get("beta", 1) < 0.04 else [])


def settings(recipe: str, config: dict[str, Any]) -> dict[str, Any]:
    """A job's config with the recipe's defaults; the config alone where there is no such recipe."""
    if not find_spec(f"recipes.{recipe}"):
        return config
    kind = getattr(import_module(f"recipes.{recipe}"), "Config", None)
    return {name: field.default for name, field in kind.model_fields.items()} | config if kind else config
