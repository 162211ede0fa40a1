"""Models on their way in and out of a recipe: loaded, with an adapter, in four bits, merged and saved.

Models and tokenizers are `Any` in signatures, as in recipes.training.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recipes.job import ConfigError
from recipes.memory import Shape, cpu_halves, halves, shape_of

HEADS = {"CAUSAL_LM": "CausalLM", "SEQ_CLS": "SequenceClassification", "TOKEN_CLS": "TokenClassification"}  # PEFT's


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer, with a pad token. Raises ConfigError where there is none, or none with an EOS token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"No tokenizer can be loaded from {model!r}: {first_line(error)}") from error
    if tokenizer.eos_token is None:
        raise ConfigError(f"The tokenizer of {model!r} has no EOS token, so nothing can learn to stop.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: str, half: bool, head: str = "CausalLM", **more: Any) -> Any:
    """A model in bfloat16 (`half`) or float32, with the head of transformers' AutoModelFor<head>.

    Raises ConfigError where it cannot be loaded, or where a reward model is to write.
    """
    import torch
    import transformers

    loader = getattr(transformers, f"AutoModelFor{head}")
    try:
        kind = (transformers.AutoConfig.from_pretrained(model).architectures or [""])[0]
        if head == "CausalLM" and kind.endswith(("ForSequenceClassification", "ForTokenClassification")):
            raise ConfigError(f"The model {model!r} is a {kind}: it marks texts and writes none.")
        return loader.from_pretrained(model, dtype=torch.bfloat16 if half else torch.float32, **more)
    except ConfigError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"No model for {head} can be loaded from {model!r}: {first_line(error)}") from error


def context_of(model: str) -> int | None:
    """Tokens that a model can read; None where its config.json does not say."""
    from transformers import AutoConfig

    try:
        return getattr(AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None)
    except (OSError, ValueError):  # loading the model will say it
        return None


def has_bfloat16(device: str) -> bool:
    """Whether it computes in that: GPUs from Ampere on. A T4 trains in float32, where nothing overflows."""
    if device == "cpu":
        return cpu_halves()
    import torch

    return torch.cuda.get_device_capability() >= (8, 0)


def shape_in(model: str) -> Shape | None:
    """What its config.json says of its size; None where it cannot be read, or is no plain decoder's."""
    from transformers import AutoConfig

    try:
        return shape_of(AutoConfig.from_pretrained(model).to_dict())
    except (OSError, ValueError):  # loading the model will say it
        return None


def in_half(config: Any, device: Any) -> bool:
    """Whether a job computes in bfloat16 (see recipes.memory.halves)."""
    shape = shape_in(config.model) if device == "cpu" else None
    return halves(device, has_bfloat16(device), shape.parameters if shape else 0, config.PROBED == "sampled")


def lora(config: Any) -> Any:
    """A PEFT adapter on every linear layer; a new head is trained whole."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        exclude_modules=["score", "classifier"] if config.TASK == "TOKEN_CLS" else None,  # PEFT knows it for SEQ_CLS
        task_type=config.TASK,
    )


def nf4(device: str) -> dict[str, Any]:
    """What loads a model with 4 bits a weight of its linear layers (QLoRA, 2305.14314). Raises ConfigError."""
    if not find_spec("bitsandbytes"):
        raise ConfigError("bitsandbytes is not installed on this machine; install it, or leave quantize at 'none'.")
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if has_bfloat16(device) else torch.float32,
    )
    own = int(os.environ.get("LOCAL_RANK", "0"))  # see recipes.processes
    return {"quantization_config": config, "device_map": {"": own if device == "cuda" else "cpu"}}


def merged(model: Any) -> Any:
    """The adapter inside the weights. Those of 4 bits are unfolded first: merged into 4 bits, the adapter would be rounded."""
    if not getattr(model, "is_loaded_in_4bit", False):
        return model.merge_and_unload()
    from peft import PeftModel

    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return PeftModel.from_pretrained(model.unload().dequantize(), folder).merge_and_unload()


def saved(checkpoint: Path, config: Any, like: Any, half: bool) -> Any:
    """The whole model of a trainer's checkpoint, its adapter merged; `like` is the configuration of the trained model."""
    head = HEADS[config.TASK]
    if not config.lora_rank:
        return load_model(str(checkpoint), half, head)
    from peft import PeftModel

    base = load_model(config.model, half, head, config=like)
    return PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()


def save_whole(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save weights, generation config and tokenizer, in one move: `folder` is never half a model."""
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
