"""What answers are worth, and that what a model wrote is run at arm's length."""

import time

import pytest
from pydantic import ValidationError

from recipes.benchmarks import load
from recipes.rewards import REWARDS, Code, Rewarded, number, problem

ROW = {"question": "3 + 4 - 2", "answer": "5", "tests": "assert double(3) == 6", "origin": {}}


def score(text: str, tokens: int = 10, row: dict | None = None, **rule) -> float:
    return REWARDS.validate_python([rule])[0].score(text, tokens, ROW | (row or {}))


def test_exact_is_what_follows_the_marker_or_the_whole_text():
    assert score("3 + 4 = 7. Answer: 5", kind="exact") == 1
    assert score(" 5.", kind="exact") == 1
    assert score("5 or 6", kind="exact") == 0
    assert score("Answer: 1,250", kind="exact", row={"answer": "1250"}) == 1


def test_the_benchmarks_own_score_is_a_reward():
    for name in ("chains", "gym:spell_backward"):
        benchmark = load(name)
        item = benchmark.items("train", 1, seed=3)[0]
        row = {"question": item.question, "answer": item.answer, "origin": item.origin}
        assert score(benchmark.completion(item, worked=True), kind="benchmark", name=name, row=row) == 1
        assert score("Answer: nothing", kind="benchmark", name=name, row=row) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Answer: 1/2", 0.5),
        ("so \\boxed{\\frac{1}{2}} it is, on page 7", 0.5),
        ("2 or .. -1,250.5", -1250.5),
        ("no", None),
    ],
)
def test_a_number_is_found_where_it_stands(text, value):
    found = number(text)
    assert (None if found is None else float(found)) == value


def test_mathematics_is_equal_by_value():
    assert score("Answer: 2/4", kind="math", row={"answer": "0.5"}) == 1
    assert score("Answer: 0.51", kind="math", row={"answer": "1/2"}) == 0
    assert score("I do not know", kind="math") == 0


def test_form_and_length_are_shaped():
    form = {"kind": "format", "pattern": r"Answer: -?\d+$"}
    assert (score("Answer: 5", **form), score("Answer: 5 or 6", **form)) == (1, 0)
    lengths = [score("", tokens, kind="length", free=10, limit=20) for tokens in (5, 10, 15, 20, 99)]
    assert lengths == [0, 0, -0.5, -1, -1]
    with pytest.raises(ValidationError, match="no regular expression"):
        score("", kind="format", pattern="(")


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("def double(x): return 2 * x", True),
        ("Like this:\n```python\ndef double(x):\n    return 2 * x\n```\nDone.", True),
        ("def double(x): return x", False),
        ("def double(x:", False),
        ("import os; os._exit(0)", False),  # leaving early passes no test
        ("raise SystemExit(0)", False),
        ("print('x' * 10_000_000)\ndef double(x): return 2 * x", False),  # more than a MiB of output
        ("hog = bytearray(2 << 30)\ndef double(x): return 2 * x", False),
    ],
)
def test_code_is_worth_what_its_tests_say(code, right):
    assert score(code, kind="code", memory_mb=256) == right


def test_code_that_never_ends_is_ended_and_so_is_what_it_started():
    started = time.monotonic()
    assert Code(seconds=0.5).score("import subprocess\nsubprocess.run(['sleep', '60'])", 1, ROW) == 0
    assert Code(seconds=0.5).score("while True: pass", 1, ROW) == 0
    assert time.monotonic() - started < 20


def test_code_sees_no_environment():
    tests = "import os; assert 'HOME' not in os.environ and not os.listdir('.')"
    assert score("x = 1", kind="code", row={"tests": tests}) == 1


def test_rows_that_a_reward_cannot_mark_and_items_that_are_held_out_are_refused():
    chains = load("chains")
    rewards = REWARDS.validate_python([{"kind": "benchmark", "name": "chains"}])
    held, train = chains.items("heldout", 1)[0], chains.items("train", 1)[0]
    good = {"prompt": "p", "question": train.question, "answer": train.answer}
    assert problem(rewards, [good]) is None
    assert problem(rewards, [good, {"prompt": "p"}]) == "Row 2 has no question, which the reward 'benchmark' needs."
    leak = problem(rewards, [good | {"question": held.question}])
    assert leak == "Row 1 is an item of the heldout split, which is not trained on."


def test_an_unknown_benchmark_or_reward_is_a_sentence():
    with pytest.raises(ValidationError, match="There is no benchmark 'chians'"):
        Rewarded.model_validate({"model": "m", "data": "d", "benchmark": "chians"})
    with pytest.raises(ValidationError, match="'exact', 'benchmark', 'math', 'format', 'length', 'code'"):
        Rewarded.model_validate({"model": "m", "data": "d", "rewards": [{"kind": "vibes"}]})
