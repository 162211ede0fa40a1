"""Other ways to compute the very same steps, one of which may be faster on this machine: tried by the probe, not guessed.

A way is taken for a long job, where its steps gave the same losses in less time. It changes no row of a step and no
number but by rounding. Which one wins depends on the device, on the model and on how much the rows differ in length.
"""

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from recipes.job import ConfigError
from recipes.weights import first_line, has_bfloat16

SHARE = 1 / 20  # of a job, that trying costs at most [H]
GAIN = 0.9  # of the seconds a step; less is the machine's own noise [H]
SAME = 0.02  # two losses differ by rounding; bfloat16's of the starter by 0.002
FLASH = {"attention": "flash_attention_2"}  # the flash-attn package, or the Hub's kernel where `kernels` is installed
MASK = 4096  # tokens of a flattened batch, whose rows are kept apart by a mask of their square where there is no FLASH

Few = Callable[[Any], tuple[dict[str, Any], list[float]]]


def ways(config: Any, device: str, flat: int | None) -> list[dict[str, Any]]:
    """Settings for the same steps that may be faster, the likeliest first; none for what the config itself says.

    Args:
        flat: Tokens of a batch without padding, where its recipe can train on it as one sequence (see recipes.sft).
    """
    full = config.model_dump()
    flash = device == "cuda" and full["attention"] == "auto" and has_bfloat16("cuda") and has_flash()
    found = [FLASH] if flash else []
    if flat is not None and full.get("padding_free") is None:
        found = [{"padding_free": True} | way for way in found] + found
        found += [{"padding_free": True}] if flat <= MASK else []
    liger = device == "cuda" and full["liger"] is None and find_spec("liger_kernel")
    return found + ([{"liger": True}] if liger else [])


def has_flash() -> bool:
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    return is_flash_attn_2_available() or is_kernels_available()


def with_liger(config: Any, device: str) -> bool:
    """Whether a job uses liger's layers. Raises ConfigError where it asks for them and they cannot run."""
    if config.liger and (device == "cpu" or not find_spec("liger_kernel")):
        lacks = "this machine has no GPU" if device == "cpu" else "liger-kernel is not installed"
        raise ConfigError(f"liger = True cannot be used: {lacks}; leave it out.")
    return bool(config.liger)


def fastest(config: Any, few: Few, found: Sequence[dict[str, Any]], steps: float) -> dict[str, Any]:
    """What the config's own steps measured, or the fastest way's; `faster` has its settings, and `slower` why others were left.

    Each way is tried on top of the best so far, while all of it stays within SHARE of the job.

    Args:
        few: Runs the probe's steps with a config; returns what it measured, and the loss of each step.
        steps: Of the whole job.

    Raises:
        RuntimeError: Torch's own, where the config's own steps do not fit.
    """
    began = time.perf_counter()
    best, losses = few(config)
    cost, taken, left = time.perf_counter() - began, dict[str, Any](), dict[str, str]()
    for number, way in enumerate(found, start=1):
        if taken | way == taken or number * cost > SHARE * steps * best["usual_s"]:
            continue
        name = ", ".join(f"{key} = {value}" for key, value in way.items())
        try:
            seen, now = few(config.model_copy(update=taken | way))
        except (RuntimeError, MemoryError, ImportError, ValueError, OSError) as error:  # not on this machine
            left[name] = first_line(error)
            continue
        ratio = seen["usual_s"] / best["usual_s"]
        if not alike(losses, now):
            left[name] = "its losses are others"
        elif ratio > GAIN:
            left[name] = f"{ratio:.2f} times as long"
        else:
            best, taken = seen, taken | way
    return best | ({"faster": taken} if taken else {}) | ({"slower": left} if left else {})


def alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two runs of the same steps had the same losses, as far as rounding lets them."""
    pairs = list(zip(one, other, strict=False))
    return bool(pairs) and all(abs(a - b) <= SAME * max(abs(a), abs(b)) for a, b in pairs)
