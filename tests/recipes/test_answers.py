"""What a model answers before RL takes a step, and what is said of it."""

import json

import pytest

from lab.backend import JobSpec
from lab.diagnose import diagnose
from recipes import answers, grpo, probe, rejection
from recipes.benchmarks import load
from tests.recipes.rig import STARTER, metric, run

CHAINS = load("chains")
SETTINGS = {"benchmark": "chains", "max_new_tokens": 8, "batch_size": 32, "generations": 4, "max_steps": 3,
            "log_steps": 1, "save_steps": 100}  # fmt: skip


def asked(rows: int) -> list[dict]:
    items = CHAINS.items("train", rows, seed=7)
    return [{"prompt": CHAINS.prompt(i), "question": i.question, "answer": i.answer, "origin": i.origin} for i in items]


def line(*said: tuple[str, float], finished: bool = True) -> dict:
    texts, scores = zip(*said, strict=True)
    tokens = [len(text) for text in texts]
    return {
        "prompt": "p",
        "answers": list(texts),
        "tokens": tokens,
        "finished": [finished] * len(texts),
        "scores": list(scores),
    }


def config(kind: type = grpo.Config, **settings):
    return kind(model=str(STARTER), data="d", **{"benchmark": "chains"} | settings)


def found(seen: dict) -> dict[str, str]:
    spec = JobSpec("j", "grpo", {}, STARTER)
    return {finding.rule: finding.level for finding in diagnose([], spec, {"answers": seen})}


def test_groups_and_answers_are_summed_up():
    lines = [
        line(("one", 1.0), ("one", 1.0)),  # solved, and a copy
        line(("two", 0.0), ("three!", 0.0)),  # equal, and not solved
        line((" ", 0.0), ("four", 1.0)),
        line(("five", 0.5), ("six", 1.0), finished=False),
    ]
    seen = answers.summed_up(lines, config())
    assert (seen["prompts"], seen["answers"], seen["equal"], seen["solved"]) == (4, 8, 0.5, 0.25)
    assert (seen["reward"], seen["empty"], seen["repeated"], seen["cut_off"]) == (4.5 / 8, 0.125, 0.25, 0.25)
    assert (seen["longest"], seen["limit"]) == (6, 64)
    weighed = config(rewards=[{"kind": "exact", "weight": 2.0}, {"kind": "length", "free": 1, "limit": 2}])
    assert (
        answers.summed_up([line(("one", 2.0), ("two", 2.0))], weighed)["solved"] == 1
    )  # no length is worth more than 0
    assert answers.summed_up([line(("one", 1.0), ("two", 1.0))], weighed)["solved"] == 0


def test_only_enough_groups_without_any_difference_end_a_job():
    good, equal = line(("a", 1.0), ("b", 0.0)), line(("a", 0.0), ("b", 0.0))

    def said(*lines: dict) -> dict[str, str]:
        return found(answers.summed_up(list(lines), config()))

    assert said(*[good] * 16) == {}
    assert said(*[equal] * 16) == {"nothing_to_learn": "stop"}
    assert said(*[equal] * 15) == {"nothing_to_learn": "warn"}
    assert said(*[equal] * 15, good) == {"nothing_to_learn": "warn"}
    assert said(*[equal] * 7, *[good] * 9) == {}
    empty = line(("", 0.0), (" ", 1.0))
    assert said(*[empty] * 16) == {"empty_answers": "warn"}
    assert said(*[line(("a", 0.0), ("b", 1.0), finished=False)] * 16) == {"cut_off_answers": "stop"}
    assert said(*[line(("a", 0.0), ("a", 1.0))] * 16) == {"repeated_answers": "warn"}


def test_rejection_that_accepts_none_of_the_first_ends_before_the_others_are_sampled():
    none, some = line(("a", 0.0), ("b", 0.0)), line(("a", 1.0), ("b", 1.0))

    def said(*lines: dict) -> dict[str, str]:
        return found(rejection.said_of(list(lines), config(rejection.Config))["answers"])

    assert said(*[none] * 16) == {"none_accepted": "stop"}
    assert said(*[none] * 15, some) == {"none_accepted": "warn"}
    assert said(*[some] * 16) == {}  # equal rewards are no trouble here
    endless = line(("a", 0.0), ("b", 0.0), finished=False)
    assert said(*[endless] * 99, some)["cut_off_answers"] == "warn"  # what is accepted has ended
    assert said(*[endless] * 16)["cut_off_answers"] == "stop"


@pytest.mark.slow
def test_grpo_is_asked_before_step_one_and_nothing_of_it_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "SHARE", 1)  # of 96 answers
    monkeypatch.setattr(probe, "FROM", 1)
    run("grpo", tmp_path / "asked", asked(60), **SETTINGS)
    measured = json.loads((tmp_path / "asked" / "preflight.json").read_text())
    assert measured["peak_mb"] > 100 and measured["eta_s"] == pytest.approx(3 * measured["usual_s"], abs=0.1)
    seen = measured["answers"]
    assert (seen["prompts"], seen["answers"], seen["longest"], seen["limit"]) == (24, 96, 8, 8)
    assert found(seen)["nothing_to_learn"] == "stop"
    assert metric(tmp_path / "asked", "frac_reward_zero_std") == [1.0] * 3  # and so it was
    monkeypatch.setattr(answers, "SHARE", 0)
    monkeypatch.setattr(probe, "FROM", 10**6)
    run("grpo", tmp_path / "bare", asked(60), **SETTINGS)
    assert json.loads((tmp_path / "bare" / "preflight.json").read_text()) == {"rows": 60, "steps": 3}
    for name in ("entropy", "completions/mean_length", "loss"):
        assert metric(tmp_path / "asked", name) == metric(tmp_path / "bare", name)
