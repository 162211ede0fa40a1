"""Conversations: the assistant's turns are learned, the others are not."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.job import ConfigError
from recipes.rows import Conversation, misfit
from tests.recipes.rig import STARTER, run

MARKS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ m.content + '\n' }}{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"{n} + 1 ="},
            {"role": "assistant", "content": f"{n + 1}"},
            {"role": "user", "content": "and 1 more ="},
            {"role": "assistant", "content": f"{n + 2}"},
        ]
    }
    for n in range(40)
]
SHORT: dict[str, Any] = {
    "batch_size": 8,
    "warmup_steps": 0,
    "log_steps": 1,
    "eval_fraction": 0.1,
    "eval_steps": 100,
    "save_steps": 100,
}


def spoken(folder: Path, template: str | None) -> str:
    """The starter model with a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(STARTER).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_every_turn_of_the_assistant_is_learned_and_nothing_else(tmp_path):
    model = spoken(tmp_path / "model", MARKS)
    result = run("chat", tmp_path / "job", ROWS, model=model, **SHORT, max_steps=30)
    seen = json.loads((tmp_path / "job" / "preflight.json").read_text())
    first = seen["rendered"][0].split()
    learned = seen["labels"][0]
    assert "more" in first and "more" not in learned
    assert learned[0].isdigit()
    assert seen["stop_token_trained"] == 1.0 and 0.2 < seen["masked_share"] < 0.95
    assert (
        result["eval_loss"] < 0.7 * json.loads((tmp_path / "job" / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    )


@pytest.mark.parametrize(
    ("template", "asked", "words"),
    [(None, "own", "has no chat template of its own"), (PLAIN, "auto", "does not mark the assistant's turns")],
)
def test_a_model_that_cannot_tell_who_speaks_is_refused(tmp_path, template, asked, words):
    model = spoken(tmp_path / "model", template)
    with pytest.raises(ConfigError, match=words):
        run("chat", tmp_path / "job", ROWS, model=model, template=asked, **SHORT, max_steps=2)


def test_all_turns_can_be_learned_where_no_template_marks_them(tmp_path):
    model = spoken(tmp_path / "model", PLAIN)
    run("chat", tmp_path / "job", ROWS, model=model, **SHORT, max_steps=2, completion_only=False)
    assert "more" in json.loads((tmp_path / "job" / "preflight.json").read_text())["labels"][0]


def test_a_conversation_that_the_user_ends_teaches_nothing():
    said = misfit([ROWS[0], {"messages": ROWS[0]["messages"][:3]}], Conversation, "SFT on conversations")
    assert said and "Row 2" in said and "the last turn is of the role user" in said
    assert misfit(ROWS, Conversation, "SFT on conversations") is None
