"""How much memory a training job takes, from its model's config.json and its settings. Pure: nothing is loaded.

Counted are weights, gradients, the two moments of AdamW and what a decoder like Llama's keeps for the backward pass.
It does not know mixtures of experts, vision towers or answers that are sampled, and says None or too little there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Device = Literal["cpu", "cuda"]

MIB = 2**20
USABLE = 0.9  # of the memory, what a job may plan with [H]
# Without a model. cpu: Python, torch and TRL 1.16, measured; cuda: the context [H].
RUNTIME = {"cpu": 490 * MIB, "cuda": 600 * MIB}
PEFT = 100 * MIB  # its import on top, measured
# What the heap holds for each byte that is asked of it. cpu: glibc 2.36 with tensors of 1 to 32 MiB, measured, and 1.0
# with MALLOC_MMAP_THRESHOLD_=65536, which takes twice as long; cuda: not measured.
SLACK = {"cpu": 1.45, "cuda": 1.0}
# What a layer keeps a token, in bytes times (hidden width, width between): transformers 5.23's Llama, read off with
# torch.autograd.graph.saved_tensors_hooks. A count by hand of its float32 gives the same: two norms keep 3 widths each,
# attention q, k, v, what it sums to and that once more turned round, the MLP 4 of its own. bfloat16 is autocast's.
HALF_FROM = 8_000_000  # parameters from which bfloat16 saves a CPU a quarter of a step or more: docs/performance.md
COMPILED = 64 * MIB  # what oneDNN keeps for bfloat16, measured with prepare_machine's limit
HALF_FLAGS = {"avx512_bf16", "amx_bf16"}  # of /proc/cpuinfo
KEPT = {"float32": (44, 16), "bfloat16": (39, 8), "bfloat16 LoRA": (31, 8)}
HEAD_TOKENS, HEAD_WORDS, HEAD_COPIES = 4096, 32768, 8  # TRL 1.16 never makes all logits: tiles of this size, and copies
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # 4 bits, 8 for a block of 64, and 32 for 256 blocks (QLoRA, 2305.14314, section 3)
UNGATED = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi")  # two matrices an MLP, not three
TEXTS = {"DPO": 2, "KTO": 2, "a reward model": 2}  # a row: two answers; KTO's second is the KL's
MODELS = {"DPO": 2, "KTO": 2, "distillation": 2}  # the reference or the teacher; with LoRA the base serves as reference


@dataclass(frozen=True)
class Shape:
    """What decides a decoder's size. Widths in elements."""

    kind: str
    layers: int
    hidden: int
    inner: int  # between the matrices of the MLP
    heads: int  # width of all queries
    shared: int  # width of all keys
    words: int  # of the vocabulary
    tied: bool

    @property
    def parameters(self) -> int:
        """Norms and biases are left out: less than one in a hundred."""
        mlp = (2 if self.kind in UNGATED else 3) * self.hidden * self.inner
        attention = 2 * self.hidden * (self.heads + self.shared)
        return self.layers * (attention + mlp) + (1 if self.tied else 2) * self.words * self.hidden

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA of this rank on every linear layer."""
        ends = 4 * self.hidden + 2 * (self.heads + self.shared) + 3 * (self.hidden + self.inner)
        return self.layers * rank * ends


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """What a config.json says; None for one that does not name a decoder's sizes, or has several experts."""
    config = config.get("text_config") or config

    def first(*names: str) -> int:
        return next((config[name] for name in names if config.get(name)), 0)

    hidden, layers = first("hidden_size", "n_embd"), first("num_hidden_layers", "n_layer")
    words, heads = first("vocab_size"), first("num_attention_heads", "n_head")
    if not (hidden and layers and words and heads) or first("num_experts", "num_local_experts", "n_routed_experts"):
        return None
    wide = first("head_dim") or hidden // heads
    kind, inner = str(config.get("model_type", "")), first("intermediate_size", "ffn_dim", "n_inner") or 4 * hidden
    few = wide * (first("num_key_value_heads") or heads)
    return Shape(kind, layers, hidden, inner, wide * heads, few, words, bool(config.get("tie_word_embeddings", True)))


@cache
def cpu_halves() -> bool:
    """Whether this machine's processor computes in bfloat16."""
    try:
        return bool(HALF_FLAGS & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))
    except OSError:
        return False


def halves(device: Device, able: bool, size: int, sampled: bool) -> bool:
    """Whether training computes in bfloat16, its weights and optimizer aside (autocast): what is `able` to does, but a
    CPU only where that pays. A model that samples its answers there reads all weights for a few tokens at a time.
    """
    return able and (device == "cuda" or (size >= HALF_FROM and not sampled))


def needed(
    shape: Shape,
    settings: Mapping[str, Any],
    length: int,
    device: Device,
    method: str = "SFT",
    size: int | None = None,
    shards: int = 1,
    half: bool | None = None,
) -> int:
    """Bytes at the peak of a training step.

    Args:
        settings: batch_size, grad_accumulation, gradient_checkpointing, lora_rank and quantize, where a recipe has it.
        length: Tokens of the longest row.
        method: A recipe's METHOD.
        size: Parameters, where the files of the model say so.
        shards: Over how many accelerators FSDP spreads weights, gradients and moments: what one of them needs then.
        half: Whether it computes in bfloat16 (see `halves`); None for what is usual, which is a GPU does.
    """
    size, rank = size or shape.parameters, settings["lora_rank"]
    half = device == "cuda" if half is None else half
    small = (
        half and device == "cuda" and rank > 0
    )  # see Parts.load: only a base that is not trained is kept in bfloat16
    models = 1 if rank and method != "distillation" else MODELS.get(method, 1)
    trained = shape.adapter(rank) if rank else size
    fixed = models * (weights(shape, size, settings.get("quantize") == "nf4", 2 if small else 4)) + 8 * trained
    fixed += (
        2 * size if half and not small and shards == 1 else 0
    )  # autocast's copies of the weights; FSDP gathers them
    fixed += COMPILED if half and device == "cpu" else 0
    kept, working = _activations(shape, settings, length, device, method, half)
    gradients = 4 * trained // shards
    if shards > 1:  # and what is gathered while it is worked on: the ends, a layer, and the next one
        ends = (1 if shape.tied else 2) * shape.words * shape.hidden
        fixed = fixed // shards + (2 if small else 4) * (ends + 2 * (size - ends) // shape.layers)
    # they grow while the activations go; with accumulation those of the pass before are there all the time
    peak = gradients + kept if settings["grad_accumulation"] > 1 else max(gradients, kept)
    runtime = RUNTIME[device] + (PEFT if rank and device == "cpu" else 0)
    return runtime + fixed + peak + working


def share(batch: int, times: int, most: int, least: int = 1) -> tuple[int, int, int]:
    """(processes, rows a pass of each, passes): together as many rows a step as `batch` × `times`.

    As many processes as divide that, `most` at most; then as few passes as the rows of one allow. A pass has at least
    `least` rows.
    """
    for count in range(most, 1, -1):
        own, rest = divmod(batch * times, count)
        sizes = (size for size in range(min(batch, own), least - 1, -1) if own % size == 0)
        if not rest and (size := next(sizes, None)):
            return count, size, own // size
    return 1, batch, times


def sharded(
    shape: Shape,
    settings: Mapping[str, Any],
    method: str,
    room: int,
    size: int | None = None,
    half: bool | None = None,
) -> bool:
    """Whether weights, gradients and moments need more than a GPU of `room` bytes: several then share them (FSDP).

    Those of four bits are never shared: accelerate 1.15 leaves them out.
    """
    least = {**settings, "batch_size": 1, "grad_accumulation": 1}
    free = USABLE * room - beside(settings, room)
    return settings.get("quantize") != "nf4" and needed(shape, least, 1, "cuda", method, size, half=half) > free


def needed_each(
    shape: Shape,
    settings: Mapping[str, Any],
    length: int,
    device: Device,
    method: str,
    size: int | None,
    accelerators: int,
    room: int,
    least: int = 1,
    half: bool | None = None,
) -> int:
    """`needed` on each of a machine's accelerators, which have `room` bytes each; `least` rows make a pass.

    With it what vLLM has for itself there.
    """
    count, batch, times = share(settings["batch_size"], settings["grad_accumulation"], accelerators, least)
    own = {**settings, "batch_size": batch, "grad_accumulation": times}
    taken = beside(settings, room)
    if count == 1:
        return taken + needed(shape, own, length, device, method, size, half=half)
    if sharded(shape, settings, method, room, size, half):
        return taken + needed(shape, own, length, device, method, size, count, half)
    trained = shape.adapter(settings["lora_rank"]) if settings["lora_rank"] else size or shape.parameters
    buckets = 4 * trained  # in which gradients are summed
    return taken + buckets + needed(shape, own, length, device, method, size, half=half)


def beside(settings: Mapping[str, Any], room: int) -> int:
    """Bytes of an accelerator that vLLM takes, where it was asked to sample in the trainer's process."""
    here = settings.get("engine") == "vllm" and not settings.get("vllm_server")
    return int(settings["vllm_memory"] * room) if here else 0


def weights(shape: Shape, size: int, quantized: bool, each: int) -> int:
    """Bytes of a model of `each` bytes a parameter; quantised to NF4, its embeddings and head stay as they are."""
    ends = (1 if shape.tied else 2) * shape.words * shape.hidden
    return int(ends * each + (size - ends) * (NF4 if quantized else each))


def _activations(
    shape: Shape, settings: Mapping[str, Any], length: int, device: Device, method: str, half: bool
) -> tuple[int, int]:
    """Bytes kept for the backward pass, and bytes in use only while one layer or the head is worked on."""
    tokens = settings["batch_size"] * TEXTS.get(method, 1) * length
    a_width, a_inner = KEPT[("bfloat16 LoRA" if settings["lora_rank"] else "bfloat16") if half else "float32"]
    layer = SLACK[device] * tokens * (a_width * max(shape.hidden, shape.heads) + a_inner * shape.inner)
    head = min(tokens, HEAD_TOKENS) * min(shape.words, HEAD_WORDS) * 4 * HEAD_COPIES
    if not settings["lora_rank"]:
        head += 2 * shape.words * shape.hidden * 4  # its gradient, summed in float32 and then once more
    ends = SLACK[device] * 4 * tokens * shape.hidden * 4  # embeddings, the last norm, and the gradient of both
    if settings["gradient_checkpointing"]:
        return int(4 * tokens * shape.hidden * shape.layers + ends), int(max(2.5 * layer, head))  # 2.5: measured
    return int(shape.layers * layer + ends), int(max(layer / 2, head))


def rungs(settings: Mapping[str, Any], least: int = 1) -> Iterator[dict[str, Any]]:
    """Settings that need less and less, with as many rows a step: smaller batches, and then gradient checkpointing.

    A pass keeps at least `least` rows.
    """
    names = ("batch_size", "grad_accumulation", "gradient_checkpointing")
    batch, times, saves = (settings[name] for name in names)
    yield dict(zip(names, (batch, times, saves), strict=True))
    for part in range(batch // 2, least - 1, -1):
        if batch % part == 0 and part <= batch // 2:
            batch, times = part, times * (batch // part)
            yield dict(zip(names, (batch, times, saves), strict=True))
    if not saves:
        yield dict(zip(names, (batch, times, True), strict=True))
