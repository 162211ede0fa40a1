"""What to change after a job ran out of memory: one rung at a time, never the method, the length or the data. Pure."""

from importlib import import_module
from typing import Any

NAMES = ("batch_size", "grad_accumulation", "gradient_checkpointing")


def next_rung(recipe: str, config: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """(settings to change, what to do in words) for the same run in less memory.

    First smaller batches with more accumulation, so that the effective batch stays; then gradient checkpointing; then
    a bigger machine, with no settings to change. `config` is the job's; what it leaves out is the recipe's default.
    """
    batch, accumulation, checkpointing = settings_of(recipe, config)
    whole = batch * accumulation
    smaller = max((size for size in range(1, batch // 2 + 1) if whole % size == 0), default=None)
    if smaller:
        changes = {"batch_size": smaller, "grad_accumulation": whole // smaller}
        why = f"The effective batch stays {whole}."
    elif not checkpointing:
        changes, why = {"gradient_checkpointing": True}, "It is about a fifth slower and learns the same."
    else:
        return {}, "Nothing is left to save: it needs a machine with more memory. Method, max_length and data stay."
    said = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return changes, f"Train it again with {said}. {why} Method, max_length and data stay."


def settings_of(recipe: str, config: dict[str, Any]) -> list[Any]:
    """The values of NAMES in a job's config, or the recipe's defaults."""
    fields = import_module(f"recipes.{recipe}").Config.model_fields
    return [config.get(name, fields[name].default) for name in NAMES]
