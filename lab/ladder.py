"""What to change after a job ran out of memory: one rung at a time, never the method, the length or the data. Pure.

And what to try side by side after its reward fell. Settings have the names that the recipes share.
"""

from itertools import islice
from typing import Any

from recipes.catalogue import RECIPES
from recipes.memory import rungs

OFFER = "ablation"  # in a finding's evidence: the changes that `ablation` offers (see lab.offer)


def next_rung(recipe: str, config: dict[str, Any], sampling: bool = False) -> tuple[dict[str, Any], str]:
    """(settings to change, what to do in words) for the same run in less memory.

    First smaller batches with more accumulation, so that the effective batch stays; then gradient checkpointing; then
    a bigger machine (see lab.place.larger), with no settings to change. While answers are sampled for rejection, only how many at a time.

    Args:
        config: The job's; what it leaves out is the recipe's default.
        sampling: Whether memory ran out before its training began.
    """
    known = settings(recipe, config)
    if sampling and "sample_batch" in known:
        fewer = max(known["samples"], known["sample_batch"] // 2)  # one prompt at a time
        changes = {"sample_batch": fewer} if fewer < known["sample_batch"] else {}
        why = "It samples the same number of answers."
    elif {"batch_size", "grad_accumulation", "gradient_checkpointing"} <= known.keys():
        least = RECIPES[recipe].LEAST if recipe in RECIPES else 1
        lighter = next(islice(rungs(known, least), 1, None), {})
        changes = {name: value for name, value in lighter.items() if value != known[name]}
        whole = known["batch_size"] * known["grad_accumulation"]
        slower = "gradient_checkpointing" in changes
        why = "It is about a fifth slower and learns the same." if slower else f"The effective batch stays {whole}."
    else:
        changes, why = {}, ""
    if not changes:
        return {}, "No setting is left that saves memory: it needs a bigger machine. Method, length and data stay."
    said = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return changes, f"Train it again with {said}. {why} Method, length and data stay."


def ablation(recipe: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings to try side by side after a reward collapse, one change in each: what helps says what it was.

    A third of the learning rate, and a KL penalty of 0.04 (0.01 to 0.04 are usual) where there is less.
    """
    known = config if recipe == "script" else settings(recipe, config)  # a script knows its own settings only
    slower = [{"lr": float(f"{known['lr'] / 3:.2g}")}] if "lr" in known else []
    return slower + ([{"beta": 0.04}] if known.get("beta", 1) < 0.04 else [])


def settings(recipe: str, config: dict[str, Any]) -> dict[str, Any]:
    """A job's config with the recipe's defaults; the config alone where there is no such recipe."""
    return RECIPES[recipe].full(config) if recipe in RECIPES else config
