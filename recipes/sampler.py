"""Who samples the answers that RL learns from: transformers, vLLM beside the trainer on its GPU, or a server of vLLM's.

TRL 1.16 gives vLLM the trainer's weights before it samples, at a resume as at the start, an adapter merged into them.
"""

import errno
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http.client import HTTPException
from importlib.util import find_spec
from typing import Any, Literal, Self
from urllib.request import urlopen

from pydantic import Field, model_validator

from recipes import processes
from recipes.job import ConfigError
from recipes.memory import USABLE, beside, needed, shape_of
from recipes.training import Parts, TrainingConfig, prepare_machine
from recipes.weights import context_of, has_bfloat16

PORTS = range(29500, 29516)  # torchrun's own, which lab.reach leaves open; vLLM alone in its process meets itself there
ELSEWHERE = 51216  # one of the many ports by which NCCL may connect
# Neither TRL 1.16's NCCL nor vLLM 0.31's build for CPUs, which packs its weights once, does without.
GPU_ONLY = "vLLM takes a trainer's weights on a GPU only, and this job trains on the CPU"
PATIENCE = 10  # seconds for a server to answer
SERVED = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs "
    """--weight-transfer-config '{"backend": "nccl"}'"""
)


class Sampled(TrainingConfig):
    """Settings of a recipe whose answers vLLM may sample."""

    engine: Literal["auto", "transformers", "vllm"] = "auto"  # auto: vLLM where it is there, on a GPU with room for it
    vllm_memory: float = Field(0.3, gt=0, lt=1)  # share of the GPU's that vLLM has for itself, in the trainer's process
    vllm_server: str = ""  # http://HOST:PORT of a server on GPUs of its own

    @model_validator(mode="after")
    def servers_are_vllm(self) -> Self:
        if self.vllm_server and self.engine == "transformers":
            raise ValueError("a vllm_server samples, and engine is 'transformers': leave one of them out")
        if self.vllm_server and not self.vllm_server.startswith(("http://", "https://")):
            raise ValueError(f"vllm_server is {self.vllm_server!r}, and no address like http://127.0.0.1:8000")
        return self


def decided(config: Any) -> Any:
    """The config with the engine that will sample. Raises ConfigError where what was asked for cannot be had."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # a job tells nobody that it runs
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    engine = chosen(config, prepare_machine(config.device))
    if engine == "vllm":  # vLLM keeps what its imports failed with, and so all that the callers of the first one hold
        import trl.generation.vllm_generation  # noqa: F401
    return config.model_copy(update={"engine": engine})


def chosen(config: Any, device: str) -> str:
    """Which engine it is; why not vLLM goes to the log, where nobody has said which. Raises ConfigError."""
    if config.engine == "transformers":
        return config.engine
    asked = config.engine == "vllm" or config.vllm_server
    why = "vLLM is not installed on this machine" if not find_spec("vllm") else None
    why = why or (GPU_ONLY if device != "cuda" else None)
    if asked and why:
        raise ConfigError(f"{why}; use the engine 'transformers'.")
    if config.vllm_server:
        look_at_server(config.vllm_server.rstrip("/"))
    if not asked and (why := why or lacking(config)):
        print(f"transformers samples the answers: {why}.", flush=True)
        return "transformers"
    return "vllm"


def lacking(config: Any) -> str | None:
    """Why vLLM, which is installed, should not sample beside the trainer on its GPU; None where it should."""
    import torch
    from transformers import AutoConfig
    from vllm import ModelRegistry  # pyright: ignore[reportMissingImports]

    try:
        model = AutoConfig.from_pretrained(config.model)
    except (OSError, ValueError):  # loading it will say it
        return "nobody knows what model it is"
    kinds = model.architectures or []
    if not set(kinds) & set(ModelRegistry.get_supported_archs()):
        return f"vLLM does not know {', '.join(kinds) or 'its architecture'}"
    shape, room = shape_of(model.to_dict()), torch.cuda.mem_get_info()[1]
    asks, half = config.model_dump() | {"engine": "vllm"}, has_bfloat16("cuda")
    takes = needed(shape, asks, config.max_new_tokens, "cuda", config.METHOD, half=half) if shape else 0
    if takes + beside(asks, room) > USABLE * room:
        return f"training leaves no {config.vllm_memory:.0%} of the GPU's memory for vLLM"
    return None


def look_at_server(address: str) -> None:
    """Raises ConfigError unless a server of vLLM's answers there that takes weights, and this process can send them."""
    with socket.socket() as own:
        if own.connect_ex(("127.0.0.1", ELSEWHERE)) == errno.EACCES:
            raise ConfigError(
                "This job may open no connection but to the web (Landlock), and weights reach a vllm_server by ports of "
                "their own choice; leave vllm_server out, and vLLM samples in the job's own process."
            )
    try:
        with urlopen(f"{address}/server_info?config_format=json", timeout=PATIENCE) as answer:
            about = json.load(answer)["vllm_config"]
        takes = about["weight_transfer_config"] is not None
        right = about["model_config"]["logprobs_mode"] == "processed_logprobs"
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        why = getattr(error, "reason", None) or error
        raise ConfigError(
            f"No server of vLLM's that takes weights answers at {address} ({why}); start one: {SERVED}."
        ) from error
    if not (takes and right):
        lacks = "--logprobs-mode processed_logprobs" if takes else "--weight-transfer-config"
        raise ConfigError(f"The server at {address} was started without {lacks}; start it so: {SERVED}.")


def settings_of(parts: Parts) -> dict[str, Any]:
    """What TRL's configs are told of vLLM; {} where transformers samples."""
    config = parts.config
    if config.engine != "vllm":
        return {}
    os.environ.setdefault("MASTER_PORT", str(free_port(PORTS)))
    server = {
        "vllm_mode": "server",
        "vllm_server_base_url": config.vllm_server.rstrip("/"),
        "vllm_group_port": free_port([0]),  # TRL's own stays taken by the trainer that the probe has thrown away
    }
    prompts = [row["prompt"] for row in parts.train + parts.held]
    longest = max(_tokens(prompt, parts.tokenizer) for prompt in prompts) + config.max_new_tokens
    here = {
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": config.vllm_memory,
        "vllm_max_model_length": min(longest, context_of(config.model) or longest),  # or memory for the whole context
    }
    return {"use_vllm": True} | (server if config.vllm_server else here)


class Orders:
    """TRL's RepeatSampler, but a resume goes on in the order of the epoch that it is in.

    TRL 1.16 draws each epoch's order from one generator, which a new process begins anew: in its second epoch it would
    sample answers to other prompts than the run that was cut off.
    """

    def __init__(self, sampler: Any, epoch: Callable[[], int]):
        self.sampler, self._epoch = sampler, epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        import torch

        own = self.sampler
        if own.shuffle:  # not in the probe
            own.generator.manual_seed(own.seed)
            for _ in range(self._epoch()):
                torch.randperm(own.num_samples, generator=own.generator)
        return iter(own)


def settled(trainer: Any, config: Any) -> Any:
    """The trainer, resumed exactly, and without what vLLM's start leaves: its own seed, and names by which the next were
    one of several."""
    given = trainer._get_train_sampler
    trainer._get_train_sampler = lambda *rows: Orders(given(*rows), lambda: int(trainer.state.epoch or 0))
    if config.engine == "vllm":
        from accelerate.utils import set_seed

        set_seed(config.seed, device_specific=True)
        if processes.world() == 1:
            for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
                os.environ.pop(name, None)
    return trainer


def free_port(ports: Iterable[int]) -> int:
    """One of these at which nobody listens; for 0 the system chooses. Raises ConfigError where all are taken."""
    for port in ports:
        with socket.socket() as own, suppress(OSError):
            own.bind(("127.0.0.1", port))
            return own.getsockname()[1]
    raise ConfigError(f"All ports by which vLLM could meet itself are taken: {ports}; end another job first.")


def _tokens(prompt: Any, tokenizer: Any) -> int:
    if isinstance(prompt, str):
        return len(tokenizer(prompt)["input_ids"])
    return len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])
