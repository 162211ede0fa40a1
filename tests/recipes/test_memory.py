"""What a training step takes, foretold from a config.json."""

import json
from itertools import pairwise

import pytest

from recipes.memory import MIB, RUNTIME, SLACK, Shape, needed, needed_each, rungs, shape_of, sharded
from tests.recipes.rig import STARTER

PLAIN = {"batch_size": 8, "grad_accumulation": 1, "gradient_checkpointing": False, "lora_rank": 0}
# Qwen2.5-0.5B's published config.json; its card says 0.49B parameters, 0.36B without the embeddings
QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50_257}  # 124M, its card says


def shape(config=QWEN) -> Shape:
    made = shape_of(config)
    assert made
    return made


def test_parameters_are_those_of_the_cards():
    assert shape().parameters == pytest.approx(0.494e9, rel=0.01)
    assert shape().parameters - 151_936 * 896 == pytest.approx(0.358e9, rel=0.01)
    assert shape(GPT2).parameters == pytest.approx(124e6, rel=0.01)


def test_the_starter_has_the_parameters_that_its_file_has():
    from lab.models import parameters

    real = parameters(STARTER)
    assert shape(json.loads((STARTER / "config.json").read_text())).parameters == pytest.approx(real, rel=0.01)


def test_what_is_no_plain_decoder_is_not_guessed_at():
    assert shape_of({}) is None
    assert shape_of(QWEN | {"num_experts": 60}) is None
    assert shape_of({"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12}) is None
    assert shape_of({"model_type": "some_vlm", "text_config": QWEN}) == shape()


def test_a_long_batch_pays_for_what_the_layers_keep():
    """24 layers keep 44 bytes for each of 896 widths and 16 for each of 4,864 between, a token, in float32."""
    layers = 24 * (44 * 896 + 16 * 4864)
    longer = needed(shape(), PLAIN, 1025, "cpu") - needed(shape(), PLAIN, 1024, "cpu")
    assert longer / 8 == pytest.approx(
        SLACK["cpu"] * layers, rel=0.03
    )  # 8 rows, a token each; the last norms are the rest


def test_weights_and_optimizer_are_sixteen_bytes_a_parameter_while_the_rows_are_short():
    """Weights, gradients and two moments, 4 bytes each; and twice the gradient of the head, which is made first."""
    one = {"batch_size": 1} | {name: value for name, value in PLAIN.items() if name != "batch_size"}
    size, head = shape().parameters, 8 * 151_936 * 896
    assert needed(shape(), one, 1, "cpu") - RUNTIME["cpu"] == pytest.approx(16 * size + head, rel=0.02)
    assert needed(shape(), one, 1, "cpu", size=2 * size) - RUNTIME["cpu"] == pytest.approx(32 * size + head, rel=0.02)


def test_an_adapter_saves_gradients_and_moments_and_a_reference_costs_weights():
    lora = PLAIN | {"lora_rank": 16}
    assert needed(shape(), lora, 128, "cuda") < needed(shape(), PLAIN, 128, "cuda") / 2
    twice = PLAIN | {"batch_size": 16}
    reference = needed(shape(), PLAIN, 128, "cpu", "DPO") - needed(shape(), twice, 128, "cpu", "SFT")
    assert reference == 4 * shape().parameters


def test_each_rung_needs_less_and_keeps_the_rows_of_a_step():
    settings = PLAIN | {"batch_size": 12, "grad_accumulation": 2}
    steps = list(rungs(settings))
    assert [step["batch_size"] for step in steps] == [12, 6, 3, 1, 1]
    assert {step["batch_size"] * step["grad_accumulation"] for step in steps} == {24}
    assert [step["gradient_checkpointing"] for step in steps] == [False] * 4 + [True]
    sizes = [needed(shape(), settings | step, 1024, "cuda") for step in steps]
    assert all(more > less for more, less in pairwise(sizes))
    assert [step["batch_size"] for step in rungs(settings | {"gradient_checkpointing": True})] == [12, 6, 3, 1]
    assert sizes[0] > 1000 * MIB


def test_several_gpus_hold_a_share_each_of_what_one_cannot():
    """Qwen2.5-0.5B has 16 bytes a parameter in weights, gradients and moments, 8 GB: more than a GPU of 6, less than one of 16."""
    plain, size, gib = PLAIN | {"batch_size": 8}, shape().parameters, 2**30
    assert sharded(shape(), plain, "SFT", 6 * gib)
    assert not sharded(shape(), plain, "SFT", 16 * gib)
    assert not sharded(shape(), plain | {"lora_rank": 8}, "SFT", 6 * gib)
    assert not sharded(
        shape(), plain | {"lora_rank": 8, "quantize": "nf4"}, "SFT", 2**20
    )  # accelerate leaves those out

    def each(count: int, room: int) -> int:
        return needed_each(shape(), plain, 1, "cuda", "SFT", None, count, room)

    states = each(1, 6 * gib) - each(4, 6 * gib)  # of 16 bytes, one process of four keeps a quarter, and gathers some
    gathered = 4 * (151_936 * 896 + 2 * (size - 151_936 * 896) / 24)
    copies = 2 * size  # in bfloat16, of autocast; what FSDP gathers takes their place
    assert states == pytest.approx(0.75 * 16 * size + copies - gathered, rel=0.02)
    whole = needed(shape(), PLAIN | {"batch_size": 2}, 1, "cuda")
    assert each(4, 16 * gib) - whole == 4 * size  # data parallel: all of it, and the buckets of the gradients


def test_what_vllm_has_for_itself_is_no_trainers():
    vllm, room = PLAIN | {"engine": "vllm", "vllm_memory": 0.3, "vllm_server": ""}, 24 * 2**30
    asks = (512, "cuda", "GRPO", None, 1, room)
    alone = needed_each(shape(), PLAIN, *asks)
    assert needed_each(shape(), vllm, *asks) - alone == int(0.3 * room)
    assert needed_each(shape(), vllm | {"vllm_server": "http://h:1"}, *asks) == alone
    assert needed_each(shape(), vllm | {"engine": "auto"}, *asks) == alone
    least = needed(shape(), PLAIN | {"batch_size": 1}, 1, "cuda", "GRPO")
    tight = int(least / 0.8)  # holds it, and not 0.3 of itself besides
    assert not sharded(shape(), PLAIN, "GRPO", tight) and sharded(shape(), vllm, "GRPO", tight)
