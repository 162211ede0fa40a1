"""Left out, max_length is as long as the longest row, in every recipe that has one."""

import pytest

from recipes import chat, cpt, dpo, kto, prm, reward, sft
from recipes.preflight import token_count
from recipes.rows import as_chat
from recipes.training import load_tokenizer
from recipes.weights import context_of
from tests.recipes.rig import STARTER, sft_rows

LONG = "1 2 3 4 5 6 7 8 9 " * 20
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"


def sized(recipe, rows, tokenizer, context=None, **settings):
    config = recipe.Config.model_validate({"model": str(STARTER), "data": "d"} | settings)
    return config.sized(rows, tokenizer, context).max_length


@pytest.fixture
def tokenizer():
    return load_tokenizer(str(STARTER))


def test_nothing_is_cut_and_little_is_spare(tokenizer):
    rows = [*sft_rows(300), {"prompt": "Go on:", "completion": LONG}]
    longest = max(token_count(row, tokenizer) for row in rows)
    assert longest < sized(sft, rows, tokenizer) <= longest + 8


def test_the_longer_of_two_answers_counts_and_every_step(tokenizer):
    answers = {"prompt": "Go on:", "chosen": "1", "rejected": LONG}
    one = {"prompt": "Go on:", "completion": LONG, "label": True}
    assert sized(dpo, [answers], tokenizer) == sized(reward, [answers], tokenizer) == sized(kto, [one], tokenizer) > 128
    steps = {"prompt": "Go on:", "steps": [LONG, LONG], "labels": [True, False]}
    assert len(prm.encode(steps, tokenizer, prm.Config(model="m", data="d", max_length=9999))["input_ids"]) <= sized(
        prm, [steps], tokenizer
    )


def test_a_template_counts(tokenizer):
    tokenizer.chat_template = TURNS
    row = as_chat({"prompt": "Go on:", "completion": LONG})
    longest = token_count(row, tokenizer)
    assert longest <= sized(sft, [row], tokenizer) <= longest + 8
    assert sized(chat, [{"messages": row["prompt"] + row["completion"]}], tokenizer) == sized(sft, [row], tokenizer)


def test_a_model_reads_no_more_than_its_context_and_what_is_given_stays(tokenizer):
    rows = [{"prompt": "Go on:", "completion": LONG * 9}]
    assert context_of(str(STARTER)) == 512 == sized(sft, rows, tokenizer, 512)
    assert context_of(str(STARTER / "none")) is None
    assert sized(sft, rows, tokenizer, 512, max_length=30) == 30
    assert sized(cpt, [{"text": LONG}], tokenizer, 512) == 128  # pieces
