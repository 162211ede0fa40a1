"""What answers are worth, and that what a model wrote is run at arm's length."""

import time
from threading import Thread

import pytest
from pydantic import ValidationError

from recipes.benchmarks import load
from recipes.rewards import REWARDS, Code, Rewarded, problem

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
    ("answer", "text", "right"),
    [
        ("1/2", "so \\boxed{\\frac{1}{2}} it is, on page 7", True),
        ("\\frac{1}{2}", "Answer: 0.5", True),
        ("1/2", "The answer is $\\frac{2}{4}$.", True),
        ("0.51", "Answer: 1/2", False),
        ("1/3", "\\boxed{0.333}", False),
        ("-1250.5", "Answer: -1,250.5", True),
        ("10^{-3}", "\\boxed{0.001}", True),
        ("50\\%", "Answer: 0.5", True),
        ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", True),
        ("2", "Answer: 2\\sqrt{3}", False),  # no number is cut out of an expression
        ("1", "Answer: x + 1", False),
        ("x^2+1", "Answer: $1+x^2$", True),
        ("x^2+1", "Answer: 1 + x^2.", True),
        ("x^2+1", "\\boxed{x^2-1}", False),
        ("2x+3y=6", "Answer: 3y + 2x = 6", True),
        ("3", "Answer: x = 3", True),
        ("\\{1,2,3\\}", "\\boxed{\\{3,2,1\\}}", True),
        ("\\{1,2,3\\}", "Answer: {3, 2}", False),
        ("[0,1)", "Answer: [0, 1)", True),
        ("[0,1)", "\\boxed{[0,1]}", False),
        ("(1,2)", "\\boxed{(2,1)}", False),
        ("(-\\infty,3]", "\\boxed{(-\\infty,3]}", True),
        ("5", "\\boxed{5\\text{ cm}}", True),
        ("5 cm", "Answer: 5", True),
        ("12 dollars", "Answer: \\$12", True),
        ("5", "Answer: 5 apples", True),
        ("5", "Answer: 7 - 2 = 5", True),
        ("5", "Answer: 5 or 6", False),
        ("5", "\\boxed{5} or \\boxed{6}", False),
        ("42", "42 is wrong. Answer: 43", False),
        ("42", "I do not know", False),
        ("42", "", False),
        ("east", "Answer: East", True),
        ("5", "\\boxed{" + "(" * 50, False),
    ],
)
def test_mathematics_is_equal_by_value(answer, text, right):
    assert score(text, kind="math", row={"answer": answer}) == right


def test_an_answer_that_would_take_for_ever_is_worth_nothing():
    started = time.monotonic()
    assert [score(f"\\boxed{{{hard}}}", kind="math") for hard in ("9^{9^{9^{9}}}", "100000000!")] == [0, 0]
    assert time.monotonic() - started < 20  # four times two seconds, and a loaded machine


def test_outside_the_main_thread_mathematics_is_an_error_and_no_zero():
    caught: list[BaseException] = []

    def mark() -> None:
        try:
            score("Answer: 1/2", kind="math", row={"answer": "0.5"})
        except ValueError as error:
            caught.append(error)

    thread = Thread(target=mark)
    thread.start()
    thread.join()
    assert "threaded" in str(caught[0])


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
