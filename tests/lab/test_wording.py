"""Rows that ask in other words than the evaluation are found before the launch."""

import json
import shutil
from pathlib import Path

import pytest

from lab import data
from lab.errors import BadInput, Refused
from lab.hub import Hub
from lab.integrity import Index
from lab.models import STARTER, has_template
from lab.preflight import preflight
from lab.tasks import read_rows, write_rows
from lab.wording import wording
from recipes import chat, cpt, dpo, grpo, kto, prm, rejection, sft
from recipes.benchmarks import ADVERTISED, load
from recipes.evaluate import rendered
from recipes.training import load_tokenizer

CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
CHAINS = "Calculate {}. Finish with Answer: N\n"
ASKED = [CHAINS.format(f"{i} + 1 - 2") for i in range(20)]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "models", None, {})


def mismatch(hub, rows, recipe=sft.Config, model: Path = STARTER, task="chains", count=None):
    asked = wording(task, model, hub)
    found = preflight(rows, {"lr": 1e-3}, Index([]), count, 2**40, None, None, recipe, asked=asked)
    return next((finding for finding in found if finding.rule == "template_mismatch"), None)


def answered(prompts):
    return [{"prompt": prompt, "completion": f"Answer: {i}"} for i, prompt in enumerate(prompts)]


@pytest.fixture
def templated(tmp_path: Path) -> Path:
    """The starter's tokenizer with a chat template."""
    shutil.copytree(STARTER, tmp_path / "templated", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "templated" / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    )
    return tmp_path / "templated"


@pytest.mark.parametrize("task", [*ADVERTISED, "table"])
def test_rows_that_the_lab_makes_ask_as_the_evaluation_does(hub, tmp_path, task):
    if task == "table":
        own = [{"question": f"Who wrote book {i}?", "answer": f"author {i}"} for i in range(200)]
        write_rows(tmp_path / "own.jsonl", own)
        task = f"table:{tmp_path / 'own.jsonl'}"
    data.prepare(tmp_path / "rows.jsonl", task, None, "task", 50, 0.5, Index([]), 0)
    rows = read_rows(tmp_path / "rows.jsonl")
    for recipe in (sft.Config, grpo.Config, rejection.Config):
        assert mismatch(hub, rows, recipe, task=task) is None
    other = mismatch(hub, [row | {"prompt": f"Q: {row['question']}\nA:"} for row in rows], task=task)
    assert other and other.level == "warn"


@pytest.mark.parametrize("prompt", ["{}", "Q: {}\nA:", "Calculate {}.", "What is {}? Finish with Answer: N\n", CHATML])
def test_most_rows_in_other_words_are_a_warning_and_some_are_said(hub, prompt):
    rows = answered(prompt.format(f"{i} + 1 - 2") for i in range(20))
    found = mismatch(hub, rows)
    assert found and found.level == "warn"
    assert found.evidence["share"] == 1 and "Calculate …. Finish with Answer: N" in found.what
    some = mismatch(hub, answered(ASKED) + rows[:3])
    assert some and some.level == "info" and some.evidence["rows"] == [21, 22, 23]
    assert mismatch(hub, answered(ASKED)) is None
    assert mismatch(hub, answered(text.strip() for text in ASKED)) is None  # white space is no word


def test_only_methods_that_learn_to_answer_are_compared(hub):
    bare = [{"prompt": f"{i} + 1 - 2", "completion": "x", "chosen": "a", "rejected": "b"} for i in range(64)]
    bare = [row | {"label": True, "question": "train me", "answer": "7"} for row in bare]
    for recipe in (dpo.Config, kto.Config, grpo.Config):
        found = mismatch(hub, bare, recipe)
        assert found and found.level == "warn"
    assert mismatch(hub, [{"text": "<|im_start|>user\n1 + 1"}] * 9, cpt.Config) is None
    assert mismatch(hub, [{"prompt": "1 + 1", "steps": ["2"], "labels": [True]}] * 9, prm.Config) is None


def test_markup_by_hand_is_found_where_a_template_writes_it_again_or_no_token_is_it(hub, templated):
    turns = [{"role": "user", "content": "[INST] hello [/INST]"}, {"role": "assistant", "content": "hi"}]
    found = mismatch(hub, [{"messages": turns}] * 9, chat.Config, templated)
    assert found and found.level == "warn" and "chat template writes once more" in found.what
    free = [{"role": "user", "content": "hello"}, turns[1]]
    assert mismatch(hub, [{"messages": free}] * 9, chat.Config, templated) is None
    ended = [row | {"completion": row["completion"] + "<|im_end|>"} for row in answered(ASKED)]
    assert mismatch(hub, ended, model=templated)
    spelled = mismatch(hub, ended, count=lambda texts: [6] * len(texts))
    assert spelled and "'<|im_end|>' in their text, which is no token of this model" in spelled.what
    assert mismatch(hub, ended, count=lambda texts: [1] * len(texts)) is None  # a base model's own token


def test_the_words_are_those_that_the_judge_asks_with(hub, templated):
    """Through a real chat template: what it writes around a prompt goes around a row's prompt, too."""
    benchmark, tokenizer = load("chains"), load_tokenizer(str(templated))
    item, asked = benchmark.items("train", 1)[0], wording("chains", templated, hub)
    assert asked.template and not wording("chains", STARTER, hub).template
    assert rendered(benchmark.prompt(item), tokenizer) == f"<user>{asked.before}{item.question}{asked.after}</user>"


def test_a_template_is_found_in_either_of_its_files(hub, templated):
    assert has_template(templated, hub) and not has_template(STARTER, hub)
    (templated / "chat_template.jinja").unlink()
    assert not has_template(templated, hub)
    (templated / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert has_template(templated, hub)


def test_a_launch_compares_its_rows_with_the_sessions_task(lab_of):
    lab = lab_of()[0]
    rows = [{"prompt": f"Q: {i}", "completion": " "} for i in range(9)]  # refused for something else: nothing starts
    write_rows(lab.workspace.path("data/own.jsonl"), rows)
    with pytest.raises(Refused):
        lab.train("sft", {"data": "data/own.jsonl"}, 1.0, "", "c1", gain=0.1)
    found = [fact for fact in lab.log if fact.kind == "found" and fact.rule == "template_mismatch"]
    assert [fact.level for fact in found] == ["warn"]


def test_a_model_without_a_template_is_told_that_it_is_given_one_and_refused_its_own(hub, templated):
    talk = [{"role": "user", "content": CHATML.format("hi")}, {"role": "assistant", "content": "ho"}]
    rows = [{"messages": talk}]

    def found(model: Path, recipe=chat.Config, **config) -> dict[str, str]:
        asked, given = wording("chains", model, hub), {"lr": 1e-3, "model": str(model)} | config
        said = preflight(rows, given, Index([]), None, 2**40, None, None, recipe, asked=asked)
        return {finding.rule: finding.level for finding in said}

    assert found(STARTER)["given_template"] == found(STARTER, template="plain")["given_template"] == "info"
    assert found(STARTER, template="own")["given_template"] == "stop"
    assert "given_template" not in found(templated, template="own")
    assert "template_mismatch" in found(STARTER)  # markup by hand, which the given one writes once more


def test_a_launch_of_conversations_is_told_what_becomes_of_them(lab_of):
    lab, journal = lab_of()
    rows = [
        {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "ho"}]} for i in range(9)
    ]
    lab.workspace.write("data/talk.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(Refused, match="no chat template, and template is 'own'"):
        lab.train("chat", {"data": "data/talk.jsonl", "template": "own"}, 0.1, "", "c1", 0.1)
    with pytest.raises(BadInput, match="template: Input should be 'auto', 'own', 'chatml' or 'plain'"):
        lab.train("chat", {"data": "data/talk.jsonl", "template": "x"}, 0.1, "", "c2", 0.1)
    assert not journal.views.jobs
