"""The curated texts: short, sourced, and about what is here."""

import re
from dataclasses import replace
from inspect import isfunction
from typing import cast

import pytest

from lab import diagnose, forecast, preflight
from lab.errors import NotThere
from lab.lab import RECIPES, Lab
from recipes import evaluate
from recipes.rewards import Rule
from record.events import Scored
from tools.all import TOOLS
from tools.skill import FOLDER, ReadSkill, Skill, parse, skills
from tools.train import Train

TOOL_NAMES = {tool.name for tool in TOOLS}
SOURCE = re.compile(
    r"\b\d{4}\.\d{5}\b|TRL \d+\.\d+|Thinking Machines, \d{4}"
)  # an arXiv id, a library's version, a page


def known() -> set[str]:
    """Every name that a text may quote: tools, their arguments, settings of recipes, rules, fields of a score."""
    arguments = {name for tool in TOOLS for name in tool.inputs}
    settings = {name for recipe in RECIPES.values() for name in recipe.model_fields}
    settings |= set(evaluate.Config.model_fields) | set(Scored.model_fields)
    rules = {rule.name for rule in diagnose.RULES}  # a rule's findings carry its name
    rules |= {
        name for name, rule in vars(preflight).items() if isfunction(rule) and rule.__module__ == preflight.__name__
    }
    return TOOL_NAMES | arguments | settings | rules | set(RECIPES) | {forecast.RULE}


def wrong(skill: Skill) -> list[str]:
    """What is wrong with a text."""
    lines = skill.text.splitlines()
    quoted = set(re.findall(r"`([^`]+)`", skill.text))
    return [
        *(f"no tool {name}" for name in skill.when if name not in TOOL_NAMES),
        *(f"`{name}` is nothing of ours" for name in sorted(quoted - known())),
        *(["too long"] if len(skill.text) > 2500 else []),
        *([f"{len(lines)} lines"] if not 15 <= len(lines) <= 40 else []),
        *(["no source"] if not SOURCE.search(skill.text) else []),
    ]


@pytest.mark.parametrize("name", [path.stem for path in FOLDER.glob("*.md")])
def test_a_text_is_short_has_a_source_and_speaks_of_what_is_here(name):
    assert wrong(skills()[name]) == []


def test_the_check_sees_what_it_must():
    good = skills()["noise"]
    assert wrong(replace(good, when=("dpo",))) == ["no tool dpo"]
    assert wrong(replace(good, text=good.text + "\nSet `beta_kl`.")) == ["`beta_kl` is nothing of ours"]
    assert "too long" in wrong(replace(good, text=good.text + "x" * 2500))
    assert "no source" in wrong(replace(good, text=SOURCE.sub("", good.text)))
    with pytest.raises(ValueError, match="needs a line when"):
        parse("bad", "# A title\ntext")


def test_every_step_of_the_work_has_a_text_and_the_special_ones_come_on_demand_only():
    shown = {name for skill in skills().values() for name in skill.when}
    assert shown == {"plan", "audit_data", "prepare_data", "train", "evaluate", "promote"}
    special = ("rl-", "grpo-", "reward-", "recipes")
    assert all(not skill.when for name, skill in skills().items() if name.startswith(special))


def test_every_recipe_and_every_reward_is_told():
    text = skills()["recipes"].text
    assert [name for name in RECIPES if f"`{name}`" not in text] == []
    kinds = [kind for rule in Rule.__subclasses__() if (kind := rule.model_fields["kind"].default)]
    assert [kind for kind in kinds if f'"{kind}"' not in text] == []
    assert all(f'"{name}"' in Train.inputs["recipe"]["description"] for name in RECIPES)


def test_a_text_is_read_by_name_and_the_names_are_told():
    tool = ReadSkill(cast(Lab, None))  # it needs no lab
    assert tool.forward("budget").startswith("# Spend the clock\n")
    with pytest.raises(NotThere, match="no skill 'dpo'; there are: budget, choose-a-method"):
        tool.forward("dpo")
    assert ", ".join(skills()) in ReadSkill.inputs["name"]["description"]
