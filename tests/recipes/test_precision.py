"""Where a recipe computes in bfloat16, and that its weights, its memory and its answers stay right."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from recipes import distill, grpo, sft
from recipes.job import Job
from recipes.memory import HALF_FROM, cpu_halves, halves, needed
from recipes.training import prepare_machine
from recipes.weights import in_half, load_tokenizer
from tests.recipes.rig import SMALL, STARTER, sft_rows
from tests.recipes.test_memory import PLAIN, shape


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """A random model that is large enough, with the starter's tokenizer."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1024, "num_attention_heads": 6}
    tokenizer = load_tokenizer(str(STARTER))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=320, tie_word_embeddings=True, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_gpu_that_can_does_and_a_cpu_where_it_pays():
    assert halves("cuda", True, 1, sampled=True) and not halves("cuda", False, 10**9, sampled=False)
    assert halves("cpu", True, HALF_FROM, sampled=False)
    assert not halves("cpu", True, HALF_FROM - 1, sampled=False)
    assert not halves("cpu", True, 10**9, sampled=True)
    assert not halves("cpu", False, 10**9, sampled=False)


def test_the_recipe_asks_the_model_that_it_trains(wide: Path):
    given = {"data": "rows.jsonl"}
    assert not in_half(sft.Config(model=str(STARTER), **given), "cpu")
    assert in_half(sft.Config(model=str(wide), **given), "cpu") == cpu_halves()
    assert not in_half(grpo.Config(model=str(wide), rewards=[{"kind": "exact"}], **given), "cpu")
    assert not in_half(distill.Config(model=str(wide), teacher_prefix="Think:", **given), "cpu")


@pytest.mark.slow
@pytest.mark.skipif(not cpu_halves(), reason="this processor does not compute in bfloat16")
def test_a_model_trained_in_bfloat16_is_kept_in_float32_and_learns(wide: Path, tmp_path: Path, monkeypatch):
    prepare_machine("cpu")
    rows, results = sft_rows(60), []
    for name, able in (("half", True), ("full", False)):
        monkeypatch.setattr("recipes.weights.cpu_halves", lambda able=able: able)
        config = sft.Config(model=str(wide), data="", **SMALL | {"lr": 1e-4, "max_steps": 12, "batch_size": 8})
        (tmp_path / name).mkdir()
        results.append(sft.train(config, Job(tmp_path / name), rows))
    half, full = results
    assert (half["precision"], full["precision"]) == ("bfloat16", "float32")
    assert half["loss"] == pytest.approx(full["loss"], rel=0.05) and half["loss"] != full["loss"]
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("half", "full"))
    assert {weight.dtype for weight in one.values()} == {torch.float32}
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_copies_of_autocast_are_counted_and_what_the_layers_keep_is_less():
    def need(length: int, device="cpu", **more) -> int:
        return needed(shape(), PLAIN | {"batch_size": 1}, length, device, **more)

    size = shape().parameters
    assert need(1, half=True) > need(1, half=False) + 2 * size
    longer = need(4000, half=True) - need(2000, half=True), need(4000, half=False) - need(2000, half=False)
    assert longer[0] < 0.75 * longer[1]
    assert need(2000, "cuda") == need(2000, "cuda", half=True) != need(2000, "cuda", half=False)
