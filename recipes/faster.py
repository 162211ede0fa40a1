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
# Of the logits' size: 3e-7 of models that keep rows apart, 0.02 to 0.5 of others with random weights; bfloat16 rounds [H]
APART, APART_HALF = 0.005, 0.05
SAME = 0.005  # two losses differ by rounding; bfloat16's of the starter by 0.002
FLASH = {"attention": "flash_attention_2"}  # the flash-attn package, or the Hub's kernel where `kernels` is installed
MASK = 4096  # tokens of a flattened batch, whose rows are kept apart by a mask of their square where there is no FLASH

NOT_HERE = (ImportError, OSError, RuntimeError, MemoryError, ValueError, TypeError, AttributeError, AssertionError)

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
    return found


def has_flash() -> bool:
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    return is_flash_attn_2_available() or is_kernels_available()


def with_liger(config: Any, device: str) -> bool:
    """Whether a job uses liger's layers: unless it says so, where they are installed on a GPU.

    They are no way to be tried: liger changes the classes of its process, for all that comes after. Where answers are
    sampled, TRL 1.16 would take its loss, too.

    Raises:
        ConfigError: It asks for them, and they cannot run.
    """
    able, installed = device == "cuda" and config.PROBED != "sampled", bool(find_spec("liger_kernel"))
    if config.liger and not (able and installed):
        lacks = "liger-kernel is not installed" if able else "it needs a GPU, and a recipe that samples no answers"
        raise ConfigError(f"liger = True cannot be used: {lacks}; leave it out.")
    return able and installed and config.liger is not False


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
    tried: list[dict[str, Any]] = [taken]
    for number, way in enumerate(found, start=1):
        if taken | way in tried or number * cost > SHARE * steps * best["usual_s"]:
            continue
        tried.append(taken | way)
        name = ", ".join(f"{key} = {value}" for key, value in way.items())
        try:
            seen, now = few(config.model_copy(update=taken | way))
        except NOT_HERE as error:
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


def keeps_apart(model: Any) -> bool:
    """Whether rows of one sequence do not read each other, told apart by their positions alone.

    In transformers 5.23 OPT, Falcon and Bloom do not give positions to their mask.
    """
    import torch

    ids = torch.tensor([[1, 2, 3, 4, 5, 6]], device=model.device)
    places = torch.tensor([[0, 1, 2, 0, 1, 2]], device=model.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            both = model(ids, position_ids=places, use_cache=False).logits[0, 3:]
            alone = model(ids[:, 3:], position_ids=places[:, :3], use_cache=False).logits[0]
    except NOT_HERE:  # what cannot read it will not learn from it
        return False
    finally:
        model.train(training)
    return bool((both - alone).norm() <= (APART if both.dtype == torch.float32 else APART_HALF) * alone.norm())
