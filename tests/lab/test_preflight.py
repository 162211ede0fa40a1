"""What is wrong with a job before it starts."""

from lab.integrity import Index
from lab.preflight import preflight
from recipes.benchmarks import Item

GOOD = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(100)]
GIB = 2**30


def rules(rows=GOOD, config=None, items=(), count=None, free=10 * GIB, left=None, eta=None) -> dict[str, str]:
    index = Index([Item(id=str(i), question=q, answer="") for i, q in enumerate(items)])
    return {f.rule: f.level for f in preflight(rows, config or {"lr": 1e-3}, index, count, free, left, eta)}


def test_a_good_job_has_no_findings():
    assert rules(count=lambda texts: [10] * len(texts), config={"lr": 1e-3, "max_length": 64}, left=100, eta=50) == {}


def test_a_file_that_cannot_be_trained_on_is_refused():
    assert rules([]) == {"no_rows": "stop"}
    assert rules([{"question": "1", "completion": "2"}]) == {"wrong_columns": "stop"}
    assert rules([{"prompt": "1", "completion": None}]) == {"wrong_columns": "stop"}
    assert rules([*GOOD, {"prompt": "1", "completion": " "}]) == {"empty_completions": "stop"}


def test_copies_are_warned_of():
    assert rules(GOOD + GOOD) == {"repeated_rows": "warn"}


def test_items_of_the_evaluation_refuse_the_launch_beyond_three():
    questions = [f"{i} + 1 =" for i in range(4)]
    assert rules(items=questions) == {"contaminated": "stop"}
    assert rules(items=questions[:3]) == {"contaminated": "warn"}


def test_rows_that_do_not_fit_are_counted_by_the_models_own_tokenizer():
    def some_long(texts):
        return [100 if i < 10 else 5 for i in range(len(texts))]

    assert rules(count=some_long, config={"max_length": 64}) == {"truncated_share": "warn"}
    assert rules(count=lambda texts: [100] * len(texts), config={"max_length": 64}) == {"truncated_share": "stop"}


def test_disk_and_time_must_be_there():
    assert rules(free=GIB // 2) == {"no_disk": "warn"}
    assert rules(free=1) == {"no_disk": "stop"}
    assert rules(left=50, eta=50) == {"no_time": "stop"}  # the estimate needs a margin
    assert rules(left=-1) == {"no_time": "stop"}
    assert rules(left=50) == {}  # nobody knows how long it takes: the deadline will tell


def test_a_learning_rate_beyond_reason_is_warned_of():
    assert rules(config={"lr": 1.0}) == {"odd_learning_rate": "warn"}


def test_a_finding_names_the_columns_and_the_rows_that_it_saw():
    index = Index([Item(id="a", question="7 + 1 =", answer="")])
    wrong = preflight([{"question": "1", "answer": "2"}], {}, index, None, 10 * GIB, None, None)[0]
    assert "question, answer" in wrong.what
    shared = preflight(GOOD, {}, index, None, 10 * GIB, None, None)[0]
    assert shared.evidence == {"rows": [8]} and "1 of 100" in shared.what


def test_several_answers_to_one_prompt_are_said_but_refuse_nothing():
    bare = [{"prompt": row["prompt"], "completion": "Answer:" + row["completion"]} for row in GOOD[:10]]
    assert rules(GOOD + bare) == {"conflicting_answers": "info"}
    assert rules(GOOD + bare[:2]) == {}  # 4 of 102 rows
