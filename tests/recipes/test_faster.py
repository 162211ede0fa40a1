"""Other ways to make the same steps: which are tried, which is taken, and that they learn the same."""

import json
import time

import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer

from recipes import cpt, faster, probe, sft
from recipes.job import ConfigError
from recipes.training import load_tokenizer
from tests.recipes.rig import STARTER, metric, run, run_sft

GIVEN = {"model": "m", "data": "d"}
MIXED = [{"prompt": "Go on:", "completion": "7 " * (1 + 3 * (at % 11))} for at in range(96)]
STEPS = {"batch_size": 8, "max_steps": 6, "log_steps": 1, "warmup_steps": 0, "eval_fraction": 0.0}


def test_what_is_tried_where_there_is_no_gpu():
    config = sft.Config.model_validate(GIVEN)
    assert faster.ways(config, "cpu", 1000) == [{"padding_free": True}]
    assert faster.ways(config, "cpu", faster.MASK + 1) == []  # the mask of such a batch takes more than padding
    assert faster.ways(config, "cpu", None) == []
    assert faster.ways(config.model_copy(update={"padding_free": False}), "cpu", 1000) == []


SECONDS = {"": 1.0, "a": 0.5, "b": 0.4, "c": 0.95, "d": 0.1}
LOSSES = {"": [2.0, 1.0], "d": [2.0, 1.5]}


def few(config: sft.Config):
    """Steps that take as long as SECONDS say of the ways in `trackio_run`, after a try of a hundredth of a second."""
    time.sleep(0.01)
    said = config.trackio_run or ""
    if said == "broken":
        raise ImportError("no such kernel\nand more")
    return {"usual_s": SECONDS[said]}, LOSSES.get(said, [2.0, 1.003])


def test_the_fastest_is_taken_and_of_the_others_it_is_said_why_not():
    config = sft.Config.model_validate(GIVEN)
    found = [{"trackio_run": name} for name in ("c", "broken", "a", "d", "b")]
    seen = faster.fastest(config, few, found, 10**6)
    assert seen["usual_s"] == 0.4 and seen["faster"] == {"trackio_run": "b"}
    assert seen["slower"] == {
        "trackio_run = c": "0.95 times as long",
        "trackio_run = broken": "no such kernel",
        "trackio_run = d": "its losses are others",
    }


def test_a_job_that_is_short_beside_what_trying_costs_tries_nothing():
    config = sft.Config.model_validate(GIVEN)
    found = [{"trackio_run": "a"}, {"trackio_run": "b"}]
    assert faster.fastest(config, few, found, 0.1) == {"usual_s": 1.0}


def test_a_model_whose_rows_read_each_other_is_known_and_refused(tmp_path):
    """OPT does not tell its mask the positions; Llama's and GPT-2's rows do not differ by a millionth."""
    from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig

    made = {"vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    opt = AutoModelForCausalLM.from_config(OPTConfig(**made, ffn_dim=128, word_embed_proj_dim=64))
    assert not faster.keeps_apart(opt) and opt.training
    assert faster.keeps_apart(
        AutoModelForCausalLM.from_config(GPT2Config(vocab_size=100, n_embd=64, n_layer=2, n_head=4))
    )
    words = AutoTokenizer.from_pretrained(STARTER)
    AutoModelForCausalLM.from_config(
        OPTConfig(**made | {"vocab_size": len(words)}, ffn_dim=128, word_embed_proj_dim=64)
    ).save_pretrained(tmp_path / "opt")
    words.save_pretrained(tmp_path / "opt")
    for how in ({"packing": True}, {"padding_free": True}):
        with pytest.raises(
            ConfigError, match="does not keep rows apart in one sequence; leave packing and padding_free out"
        ):
            run("sft", tmp_path / "job", MIXED, model=str(tmp_path / "opt"), **STEPS | how)


def test_a_row_that_is_only_evaluated_is_not_cut_either(tmp_path, monkeypatch):
    """Its length counts, wherever the split has put it."""
    monkeypatch.setattr(faster, "SHARE", 10.0)
    monkeypatch.setattr(faster, "GAIN", 100.0)
    config = sft.Config(model=str(STARTER), data="d", max_length=64, **STEPS | {"max_steps": 30})
    seen: list[int | None] = []
    monkeypatch.setattr(probe, "ways", lambda choice, device, flat: seen.append(flat) or [])
    monkeypatch.setattr(probe, "_few_steps", lambda *given: ({"usual_s": 1.0}, [1.0]))
    long = {"prompt": "Go on:", "completion": "7 " * 90}
    tokenizer = load_tokenizer(config.model)
    for held in ([], [long]):
        probe.measure(config, MIXED[:8], held, tokenizer, "cpu", lambda *given: None)
    assert seen[0] and seen[1] is None


@pytest.mark.slow
def test_every_way_learns_the_same(tmp_path):
    runs = {
        "usual": {},
        "flat": {"padding_free": True},
        "eager": {"attention": "eager"},
        "both": {"padding_free": True, "attention": "eager"},
    }
    for name, how in runs.items():
        run("sft", tmp_path / name, MIXED, **STEPS | how)
    for name in list(runs)[1:]:
        for of in ("loss", "grad_norm"):
            assert metric(tmp_path / name, of) == pytest.approx(metric(tmp_path / "usual", of), rel=5e-3)
        assert metric(tmp_path / name, "num_tokens") == metric(tmp_path / "usual", "num_tokens")
    seen = json.loads((tmp_path / "flat" / "preflight.json").read_text())
    assert seen["truncated_share"] == 0 and seen["stop_token_trained"] == 1
    assert seen["max_length"] == json.loads((tmp_path / "usual" / "preflight.json").read_text())["max_length"]


@pytest.mark.slow
def test_a_long_job_tries_it_and_says_what_came_of_it(tmp_path, monkeypatch):
    """What is long is made shorter here; all else is the real trainer."""
    monkeypatch.setattr(faster, "SHARE", 10.0)
    monkeypatch.setattr(faster, "GAIN", 100.0)  # so that it is taken, whatever else this machine does
    run("sft", tmp_path, MIXED, **STEPS | {"max_steps": 30})
    seen = json.loads((tmp_path / "preflight.json").read_text())
    assert seen["faster"] == {"padding_free": True}, seen
    assert seen["peak_mb"] > 100 and seen["eta_s"] > 0 and seen["overfit"]["rows"] == 8
    assert len(metric(tmp_path, "loss")) == 30


def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path):
    with pytest.raises(ValidationError, match="packed rows have no padding"):
        sft.Config.model_validate(GIVEN | {"packing": True, "padding_free": True})
    with pytest.raises(ValidationError, match="packed rows have no padding"):
        cpt.Config.model_validate(GIVEN | {"padding_free": True})
    with pytest.raises(ConfigError, match=r"padding_free cuts no row, and one has \d+ tokens where 16 are allowed"):
        run_sft(tmp_path / "cut", padding_free=True, max_length=16)
    with pytest.raises(ConfigError, match="liger = True cannot be used: it needs a GPU, and a recipe that samples no"):
        run_sft(tmp_path / "liger", liger=True, device="cpu")
    with pytest.raises(ConfigError, match="FlashAttention2"):
        run_sft(tmp_path / "flash", attention="flash_attention_2", device="cpu")
