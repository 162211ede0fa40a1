"""A base model without a chat template is given one: trained with, saved with the model, asked through, and ended by."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.benchmarks import load
from recipes.job import ConfigError, Job
from recipes.template import CHATML, chosen, dressed
from tests.recipes.rig import STARTER, run, sft_rows

TALK = [{"role": "user", "content": "1 + 1 ="}, {"role": "assistant", "content": "2"}]
SHORT: dict[str, Any] = {"batch_size": 8, "warmup_steps": 1, "log_steps": 1, "eval_steps": 100, "save_steps": 100}


def with_marks(folder: Path) -> str:
    """The starter with ChatML's two tokens, as many base models have them, and no template."""
    tokenizer, model = AutoTokenizer.from_pretrained(STARTER), AutoModelForCausalLM.from_pretrained(STARTER)
    tokenizer.add_special_tokens({"additional_special_tokens": list(CHATML)})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


def conversations(rows: int) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": role, "content": row[name]} for role, name in (("user", "prompt"), ("assistant", "completion"))]}
        for row in sft_rows(rows)
    ]  # fmt: skip


def test_chatml_is_for_models_that_know_its_tokens_and_no_token_is_ever_added(tmp_path):
    bare, marked = (AutoTokenizer.from_pretrained(model) for model in (STARTER, with_marks(tmp_path / "m")))
    assert [chosen("auto", bare, False), chosen("auto", marked, False), chosen("auto", marked, True)] == [
        "plain", "chatml", "plain",
    ]  # fmt: skip
    assert chosen("chatml", marked, True) == "chatml" and chosen("plain", marked, False) == "plain"
    with pytest.raises(ConfigError, match=r"no tokens <\|im_start\|> and <\|im_end\|>; leave template at auto"):
        chosen("chatml", bare, False)
    sizes = len(bare), len(marked)
    plain, chatml = dressed(bare, "plain"), dressed(marked, "chatml")
    assert (len(plain), len(chatml)) == sizes
    assert chosen("auto", chatml, False) == "own" and chosen("plain", chatml, False) == "plain"
    assert dressed(chatml, "own").chat_template == chatml.chat_template


def test_a_turn_begins_with_who_speaks_and_ends_with_the_stop_token(tmp_path):
    plain = dressed(AutoTokenizer.from_pretrained(STARTER), "plain")
    chatml = dressed(AutoTokenizer.from_pretrained(with_marks(tmp_path / "m")), "chatml")
    for tokenizer, whole, asked in (
        (plain, "User:\n1 + 1 =<|endoftext|>\nAssistant:\n2<|endoftext|>\n", "Assistant:\n"),
        (
            chatml,
            "<|im_start|>user\n1 + 1 =<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
    ):
        assert tokenizer.apply_chat_template(TALK, tokenize=False) == whole
        said = tokenizer.apply_chat_template(TALK[:1], tokenize=False, add_generation_prompt=True)
        assert said == whole[: whole.index(asked)] + asked
        masked = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
        learned = [i for i, on in zip(masked["input_ids"], masked["assistant_masks"], strict=True) if on]
        assert tokenizer.decode(learned) == f"2{tokenizer.eos_token}"


def test_a_text_that_began_with_a_bos_token_begins_with_it_in_the_template(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.bos_token = "<|pad|>"
    assert dressed(tokenizer, "plain").apply_chat_template(TALK, tokenize=False).startswith("User")
    made = TemplateProcessing(single="<|pad|> $A", special_tokens=[("<|pad|>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = made
    assert dressed(tokenizer, "plain").apply_chat_template(TALK, tokenize=False).startswith("<|pad|>User")


@pytest.mark.slow
def test_a_base_model_learns_to_converse_and_the_judge_asks_and_stops_as_it_was_taught(tmp_path):
    from recipes.evaluate import Config, main, rendered

    more = SHORT | {"batch_size": 32, "max_steps": 60, "lr": 2e-3, "eval_fraction": 0}
    result = run("chat", tmp_path / "job", conversations(1600), **more)
    seen = json.loads((tmp_path / "job" / "preflight.json").read_text())
    assert result["template"] == seen["template"] == "plain" and seen["stop_token_trained"] == 1.0
    assert seen["rendered"][0].startswith("User:\n") and "User" not in seen["labels"][0]
    model, task = tmp_path / "job" / "model", load("chains")
    items = [item for item in task.items("heldout", 600) if len(item.question.split()) == 5][:100]
    prompt = rendered(task.prompt(items[0]), AutoTokenizer.from_pretrained(model))
    assert prompt.startswith("User:\n") and prompt.endswith("<|endoftext|>\nAssistant:\n")
    (tmp_path / "items.jsonl").write_text("".join(item.model_dump_json() + "\n" for item in items))
    asks = {"benchmark": "chains", "items": str(tmp_path / "items.jsonl"), "split": "heldout"}
    scores = {}
    for name, path in (("base", STARTER), ("taught", model)):
        (tmp_path / name).mkdir()
        scores[name] = main(Config.model_validate(asks | {"model": str(path)}), Job(tmp_path / name))
    assert scores["taught"]["finished_share"] > 0.95
    assert scores["taught"]["value"] > scores["base"]["value"] + 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "name", "stop"), [(0, "chatml", "<|im_end|>"), (4, "plain", "<|endoftext|>")])
def test_tokenizer_and_generation_config_stop_at_the_end_of_turn(tmp_path, rank, name, stop):
    model = with_marks(tmp_path / "m")
    more = SHORT | {"max_steps": 2, "lora_rank": rank, "model": model}
    assert run("chat", tmp_path / "job", conversations(60), **more)["template"] == name
    left = tmp_path / "job" / "model"
    tokenizer, saved = AutoTokenizer.from_pretrained(left), AutoModelForCausalLM.from_pretrained(left)
    stops = saved.generation_config.eos_token_id
    assert tokenizer.eos_token == stop and tokenizer.chat_template
    assert tokenizer.eos_token_id in (stops if isinstance(stops, list) else [stops])
    assert saved.config.vocab_size == AutoModelForCausalLM.from_pretrained(model).config.vocab_size
