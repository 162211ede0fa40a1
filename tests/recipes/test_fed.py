"""What preflight.json says of rows that are compared or marked, and what the rules make of it."""

import json

import pytest

from lab.backend import JobSpec
from lab.diagnose import diagnose
from recipes import prm
from recipes.preflight import token_count
from recipes.training import load_tokenizer
from tests.recipes.rig import SMALL, STARTER, run

LONG = "Answer: " + "7 " * 100


def rows(recipe: str, long: int) -> list[dict]:
    """Twelve; the answers of so many are long."""
    texts = [f"{at} is {LONG}" if at < long else f"{at} is {at}." for at in range(12)]
    if recipe == "kto":
        return [{"prompt": "Say it: ", "completion": text, "label": at % 2 == 0} for at, text in enumerate(texts)]
    if recipe == "prm":
        return [{"prompt": "Say it: ", "steps": ["Well.", text], "labels": [True, False]} for text in texts]
    return [{"prompt": "Say it: ", "chosen": text, "rejected": f"{at}."} for at, text in enumerate(texts)]


def seen_of(recipe: str, folder, long: int = 0, **config) -> tuple[dict, dict[str, str]]:
    """What preflight.json holds, and the findings of it."""
    run(recipe, folder, rows(recipe, long), **SMALL | {"batch_size": 4, "max_steps": 1, "eval_fraction": 0} | config)
    seen = json.loads((folder / "preflight.json").read_text())
    return seen, {finding.rule: finding.level for finding in diagnose([], JobSpec("j", recipe, {}, folder), seen)}


@pytest.mark.parametrize("recipe", ["dpo", "kto", "reward", "prm"])
def test_whole_rows_are_shown_and_nothing_is_said_of_them(recipe, tmp_path):
    seen, found = seen_of(recipe, tmp_path)
    assert found == {}
    assert seen["truncated_share"] == 0 and 8 < seen["length_p50"] <= seen["length_max"] < seen["max_length"]
    assert all(text.startswith("Say it:") for text in seen["rendered"])
    if recipe in ("dpo", "kto"):
        assert seen["stop_token_trained"] == 1 and 0.2 < seen["masked_share"] < 0.8
        assert all(text.endswith(seen["stop_token"]) and "Say it" not in text for text in seen["labels"])
    else:  # they write nothing
        assert "stop_token_trained" not in seen


@pytest.mark.parametrize("recipe", ["dpo", "kto", "reward", "prm"])
def test_rows_that_are_cut_or_left_out_are_counted(recipe, tmp_path):
    seen, found = seen_of(recipe, tmp_path, long=9, max_length=40)
    assert seen["truncated_share"] == 9 / 12 and seen["length_max"] > 100
    assert found["truncated"] == "stop"
    if recipe == "dpo":  # the rejected answers are whole
        assert seen["stop_token_trained"] == round(15 / 24, 4) and found["stop_token_not_trained"] == "warn"
    if recipe == "kto":
        assert seen["stop_token_trained"] == 3 / 12 and found["stop_token_not_trained"] == "stop"
    if recipe == "reward":
        assert all(LONG not in text for text in seen["rendered"])  # they are left out


def test_the_steps_of_a_solution_are_counted_as_they_are_fed():
    tokenizer, config = load_tokenizer(str(STARTER)), prm.Config(model="m", data="d", max_length=9999)
    for row in rows("prm", 3):
        row["steps"].append("\n5 is 5\n")
        row["labels"].append(True)
        assert token_count(row, tokenizer) == len(prm.encode(row, tokenizer, config)["input_ids"])
