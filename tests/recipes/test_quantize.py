"""QLoRA: an adapter on weights of four bits, trained for real where bitsandbytes is installed."""

from importlib.util import find_spec

import pytest
from pydantic import ValidationError

from recipes.job import ConfigError
from recipes.memory import needed
from recipes.sft import Config
from tests.recipes.rig import STARTER, metric, run_sft
from tests.recipes.test_memory import PLAIN, shape

HERE = find_spec("bitsandbytes") is not None
QLORA = {"quantize": "nf4", "lora_rank": 4}


def test_four_bits_alone_are_not_trained():
    with pytest.raises(ValidationError, match="quantize = nf4 cannot be trained by itself: give a lora_rank"):
        Config.model_validate({"model": "m", "data": "d", "quantize": "nf4"})


@pytest.mark.skipif(HERE, reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_job_says_so(tmp_path):
    with pytest.raises(ConfigError, match="bitsandbytes is not installed on this machine"):
        run_sft(tmp_path, **QLORA)


def test_the_layers_take_a_quarter_of_what_they_take_in_sixteen_bits():
    """16 bits against 4, 8/64 and 32/(64 × 256): 4.127; the embeddings stay."""
    lora = PLAIN | {"lora_rank": 16}
    layers = shape().parameters - 151_936 * 896
    saved = needed(shape(), lora, 8, "cuda") - needed(shape(), lora | {"quantize": "nf4"}, 8, "cuda")
    assert saved == pytest.approx(layers * (16 - 4.127) / 8, rel=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="bitsandbytes is not installed")
def test_an_adapter_on_four_bits_learns_and_leaves_a_whole_model(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    run_sft(tmp_path, **QLORA, lr=1e-2, max_steps=10)
    losses = metric(tmp_path, "loss")
    assert losses[-1] < losses[0] - 0.5
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    before = AutoModelForCausalLM.from_pretrained(STARTER)
    assert not any("lora" in name for name, _ in whole.named_parameters())
    assert not hasattr(whole.config, "quantization_config")
    assert {one.dtype for one in whole.parameters()} == {torch.float32}
    assert torch.equal(whole.model.embed_tokens.weight, before.model.embed_tokens.weight)
    layer, was = (one.model.layers[0].mlp.up_proj.weight for one in (whole, before))
    assert 0 < (layer - was).abs().mean() < was.abs().mean()
