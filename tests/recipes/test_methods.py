"""Every method moves what it is for, on the starter model, on rows or items that it has not seen. Plumbing-scale claims."""

import json
from math import exp
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
from filelock import FileLock

from recipes.benchmarks import load
from recipes.job import ConfigError, Job
from tests.recipes.rig import STARTER, metric, run, sft_rows
from tests.recipes.test_chat import MARKS, spoken

pytestmark = pytest.mark.slow
CHAINS = load("chains")
ONCE = {"save_steps": 1000, "eval_steps": 1000, "log_steps": 1, "warmup_steps": 1}  # evaluated at the end alone
HELD = 200  # items; two standard errors of a difference are at most 10 points


@pytest.fixture(scope="session")
def tuned(tmp_path_factory) -> Path:
    """The starter after a little SFT: it works its answers out, and is often right. Made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "tuned"  # xdist has one base a process
    with FileLock(f"{folder}.lock"):
        if not (folder / "model").exists():
            run("sft", folder, sft_rows(1600), **ONCE, max_steps=50, batch_size=32, lr=2e-3, eval_fraction=0)
    return folder / "model"


def asked(rows: int) -> list[dict[str, Any]]:
    """Train items as prepare_data writes them."""
    return [
        {"prompt": CHAINS.prompt(item), "question": item.question, "answer": item.answer, "origin": item.origin}
        for item in CHAINS.items("train", rows, seed=7)
    ]


def pairs(rows: int) -> list[dict[str, str]]:
    """A worked right answer against a bare wrong one."""
    rng = Random(5)
    items = CHAINS.items("train", rows, seed=5)
    wrong = [f"Answer: {int(item.answer) + rng.choice([-2, -1, 1, 2])}" for item in items]
    good = [CHAINS.completion(item, worked=True) for item in items]
    prompts = [CHAINS.prompt(item) for item in items]
    return [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in zip(prompts, good, wrong, strict=True)]


def accuracy(model: Path, folder: Path, short: bool = False, **settings: Any) -> float:
    """The judge's score on held-out items, or on those with three terms; greedy unless the settings say otherwise."""
    from recipes.evaluate import Config, main

    folder.mkdir()
    items = [item for item in CHAINS.items("heldout", HELD * 3) if not short or len(item.question.split()) == 5]
    lines = [item.model_dump_json() + "\n" for item in items[:HELD]]
    (folder / "items.jsonl").write_text("".join(lines))
    asks = {"model": str(model), "benchmark": "chains", "items": str(folder / "items.jsonl"), "split": "heldout"}
    return main(Config.model_validate(asks | settings), Job(folder))["value"]


def test_sft_raises_heldout_accuracy(tuned, tmp_path):
    assert accuracy(tuned, tmp_path / "after") > accuracy(STARTER, tmp_path / "before") + 0.2


def test_sft_on_conversations_raises_heldout_accuracy(tmp_path):
    """Asked as its chat template has it, before and after."""
    base = Path(spoken(tmp_path / "base", MARKS))
    roles = {"prompt": "user", "completion": "assistant"}
    rows = [{"messages": [{"role": roles[name], "content": row[name]} for name in roles]} for row in sft_rows(1600)]
    run("chat", tmp_path / "job", rows, model=str(base), **ONCE, max_steps=50, batch_size=32, lr=2e-3, eval_fraction=0)
    before, after = accuracy(base, tmp_path / "b"), accuracy(tmp_path / "job" / "model", tmp_path / "a")
    assert after > before + 0.2


def test_dpo_parts_the_pairs_that_it_has_not_seen(tuned, tmp_path):
    result = run("dpo", tmp_path, pairs(300), model=str(tuned), **ONCE, max_steps=10, batch_size=16, lr=2e-4)
    assert metric(tmp_path, "rewards/margins")[0] == pytest.approx(0, abs=1e-3)  # it begins as its own reference
    assert result["eval_rewards/margins"] > 0.5
    assert result["eval_rewards/accuracies"] > 0.9


def test_kto_parts_good_from_bad(tuned, tmp_path):
    rows = [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for pair in pairs(150)
        for side in ("chosen", "rejected")
    ]
    result = run("kto", tmp_path, rows, model=str(tuned), **ONCE, max_steps=10, batch_size=32, lr=2e-4)
    assert metric(tmp_path, "rewards/margins")[0] == pytest.approx(0, abs=1e-3)
    assert result["eval_rewards/margins"] > 0.5


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_rl_raises_reward_and_heldout_accuracy(algorithm, tuned, tmp_path):
    settings = {"benchmark": "chains", "max_new_tokens": 32, "lr": 3e-4, "batch_size": 128, "max_steps": 14}
    settings["algorithm"] = algorithm
    short = [row for row in asked(900) if len(row["question"].split()) == 5]  # three terms: half the tokens to sample
    run("grpo", tmp_path / "job", short, model=str(tuned), schedule="constant_with_warmup", **ONCE | settings)
    rewards = metric(tmp_path / "job", "reward")
    assert fmean(rewards[-4:]) > fmean(rewards[:4]) + 0.08
    seen = json.loads((tmp_path / "job" / "metrics.jsonl").read_text().splitlines()[-1])
    assert seen.keys() >= {
        "reward_std", "frac_reward_zero_std", "entropy", "rewards/benchmark/mean",
        "completions/clipped_ratio", "completions/mean_length",
    }  # fmt: skip
    policy = {"short": True, "temperature": 1.0, "samples": 2}  # what it does when it samples, as it was trained
    before, after = (
        accuracy(tuned, tmp_path / "b", **policy),
        accuracy(tmp_path / "job" / "model", tmp_path / "a", **policy),
    )
    assert after > before + 0.08


def test_rloo_weighs_rewards_and_logs_the_kl(tuned, tmp_path):
    rewards = [{"kind": "math"}, {"kind": "format", "pattern": r"Answer: -?\d+$", "weight": 0.1}]
    small = {"rewards": rewards, "algorithm": "rloo", "beta": 0.05, "max_steps": 3, "batch_size": 32}
    run("grpo", tmp_path, asked(40), model=str(tuned), **ONCE | small)
    reward, maths, form = (metric(tmp_path, name)[0] for name in ("reward", "rewards/math/mean", "rewards/format/mean"))
    assert metric(tmp_path, "kl")[-1] != 0  # an estimate from samples: it may be below
    assert 0 < form <= 1
    assert reward == pytest.approx(maths + 0.1 * form, abs=0.05)  # RLOO's own has the KL inside


def test_rejection_keeps_right_answers_and_learns_from_them(tuned, tmp_path):
    settings = {
        "benchmark": "chains",
        "samples": 4,
        "max_new_tokens": 48,
        "max_steps": 25,
        "batch_size": 32,
        "lr": 1e-3,
    }
    result = run("rejection", tmp_path / "job", asked(192), model=str(tuned), **ONCE | settings)
    lines = [json.loads(line) for line in (tmp_path / "job" / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 192
    assert result["sampled"] == 4 * 192
    assert 0 < result["accepted"] < 1
    assert result["kept"] <= 2 * 192
    for line in lines:
        answer = str(eval(line["prompt"].removeprefix("Calculate ").partition(".")[0]))  # digits, + and - of our making
        assert line["scores"] == [float(CHAINS.extract(text) == answer) for text in line["answers"]]
    assert accuracy(tmp_path / "job" / "model", tmp_path / "after") > accuracy(tuned, tmp_path / "before") + 0.05


def test_rejection_that_accepts_nothing_says_so(tmp_path):
    with pytest.raises(ConfigError, match="None of 16 answers was accepted: use SFT first"):
        run("rejection", tmp_path, asked(8), benchmark="chains", samples=2, max_new_tokens=8)


def test_a_student_comes_near_its_teacher_on_its_own_samples(tuned, tmp_path):
    settings = {"max_new_tokens": 32, "max_steps": 20, "batch_size": 32, "lr": 1e-3, "eval_fraction": 0.1}
    run("distill", tmp_path, asked(300), teacher=str(tuned), **ONCE | settings)
    before, after = metric(tmp_path, "eval_loss")
    assert after < before * 0.6


def test_a_student_learns_to_do_without_its_teachers_prefix(tuned, tmp_path):
    """The teacher is the student itself, and reads examples first that make it answer at once."""
    examples = "".join(f"{pair['prompt']}{pair['rejected']}\n" for pair in pairs(3))
    settings = {"max_new_tokens": 24, "max_steps": 14, "batch_size": 32, "lr": 1e-3, "eval_fraction": 0.1}
    run("distill", tmp_path, asked(200), model=str(tuned), teacher_prefix=examples, **ONCE | settings)
    before, after = metric(tmp_path, "eval_loss")
    assert after < before * 0.7


def test_a_reward_model_ranks_pairs_that_it_has_not_seen(tmp_path):
    from transformers import AutoModelForSequenceClassification

    asks = ONCE | {"batch_size": 16}
    before = run("reward", tmp_path / "untrained", pairs(300), **asks, max_steps=1, lr=1e-12)  # the same head, drawn
    result = run("reward", tmp_path, pairs(300), **asks, max_steps=15, lr=1e-3)
    assert result["eval_accuracy"] > max(0.9, before["eval_accuracy"] + 0.1)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").num_labels == 1
    with pytest.raises(ConfigError, match="is a LlamaForSequenceClassification: it marks texts and writes none"):
        accuracy(tmp_path / "model", tmp_path / "asked")


def test_a_prm_marks_steps_that_it_has_not_seen(tmp_path):
    """Wrong steps are wrong by fifty: whether the head learns, not whether this model can check a sum."""
    from transformers import AutoModelForTokenClassification

    rng, rows = Random(3), []
    for item in CHAINS.items("train", 500, seed=3):
        labels = [rng.random() < 0.5 for _ in item.worked.split(", ")]
        steps = [
            step if right else f"{step.partition('=')[0]}= {int(step.partition('=')[2]) + 50}"
            for step, right in zip(item.worked.split(", "), labels, strict=True)
        ]
        rows.append({"prompt": CHAINS.prompt(item), "steps": steps, "labels": labels})
    settings = {"max_steps": 60, "batch_size": 16, "lr": 1e-3, "warmup_steps": 3, "schedule": "constant_with_warmup"}
    result = run("prm", tmp_path, rows, **ONCE | settings)
    assert result["eval_majority"] < 0.65
    assert result["eval_accuracy"] > 0.85
    assert AutoModelForTokenClassification.from_pretrained(tmp_path / "model").config.id2label[1] == "right"


def test_continued_pretraining_learns_every_token_of_every_text_however_long(tmp_path):
    from transformers import AutoTokenizer

    items = CHAINS.items("train", 400, seed=3)
    rows = [{"text": ", ".join(f"{i.question} is {i.answer}" for i in items[at : at + 5])} for at in range(0, 400, 5)]
    result = run("cpt", tmp_path, rows, **ONCE, batch_size=4, max_length=48, eval_fraction=0)
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    lengths = [len(tokenizer(row["text"] + tokenizer.eos_token)["input_ids"]) for row in rows]
    assert min(lengths) > 48
    assert result["tokens"] == sum(lengths)
    assert fmean(metric(tmp_path, "loss")[-3:]) < metric(tmp_path, "loss")[0] - 0.3
    seen = json.loads((tmp_path / "preflight.json").read_text())
    assert "stop_token_trained" not in seen
    assert " is " in seen["labels"][0]


def test_continued_pretraining_lowers_the_perplexity_of_texts_of_its_domain_that_it_has_not_seen(tmp_path):
    """Python, of which the starter has never read a line: modules of the standard library, and others held out."""
    texts = [path.read_text(encoding="utf-8")[:2000] for path in sorted(Path(json.__file__).parents[1].glob("*.py"))]
    learned, held = texts[:80], texts[80:100]
    asks = {"max_steps": 25, "batch_size": 8, "max_length": 128, "lr": 2e-3, "eval_fraction": 0}
    run("cpt", tmp_path, [{"text": text} for text in learned], **ONCE, **asks)
    assert perplexity(tmp_path / "model", held) < perplexity(STARTER, held) / 4


def perplexity(model: Path, texts: list[str]) -> float:
    """Of a model's tokens, over the first 256 of each text."""
    import torch

    from recipes.weights import load_model, load_tokenizer

    reader, tokenizer, losses = load_model(str(model), half=False).eval(), load_tokenizer(str(model)), []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:256]])
        with torch.no_grad():
            losses.append(float(reader(input_ids=ids, labels=ids).loss))
    return exp(fmean(losses))
