"""What the teacher reads is what its chat template makes of the prefix and the prompt, token by token."""

from pathlib import Path

import pytest
import torch
import trl

from recipes.job import ConfigError
from recipes.prefix import Prefix, prefix_of
from recipes.training import load_tokenizer
from tests.recipes.rig import STARTER

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
TOLD, ASKED = "7 7 8", "1 2 3"


def padded(tokenizer, row, length=300):
    pads = length - len(row)
    return torch.tensor([[tokenizer.pad_token_id] * pads + row]), torch.tensor([[0] * pads + [1] * len(row)])


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "gemma3", "llama3", "phi3", "glm4moe"])
def test_a_template_gets_it_where_it_puts_what_the_system_says(name):
    """Qwen 2.5 has words of its own there, which go; Gemma puts it into the user's turn."""
    tokenizer = load_tokenizer(str(STARTER))
    tokenizer.bos_token = tokenizer.eos_token
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text()

    def rendered(*turns):
        return tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, return_dict=True)["input_ids"]

    user = {"role": "user", "content": ASKED}
    ids, mask = prefix_of(TOLD, tokenizer).before(*padded(tokenizer, rendered(user)))
    assert ids[0][mask[0].bool()].tolist() == rendered({"role": "system", "content": TOLD}, user)


def test_plain_text_comes_first_and_padding_before_it():
    tokenizer = load_tokenizer(str(STARTER))
    first, told = tokenizer(ASKED)["input_ids"], tokenizer(TOLD, add_special_tokens=False)["input_ids"]
    ids, mask = prefix_of(TOLD, tokenizer).before(*padded(tokenizer, first))
    assert ids[0][mask[0].bool()].tolist() == told + first and not mask[0][: 300 - len(first)].any()
    assert Prefix([1, 2], at=1).before(*padded(tokenizer, [9, 8, 7], 4))[0].tolist() == [[1, 9, 1, 2, 8, 7]]


@pytest.mark.parametrize("template", ["{{ raise_exception('no system') }}", "{{ messages[-1].content }}"])
def test_a_template_without_a_place_for_it_says_so(template):
    tokenizer = load_tokenizer(str(STARTER))
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match="no place for what the system says"):
        prefix_of(TOLD, tokenizer)
