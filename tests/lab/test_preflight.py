"""What is wrong with a job before it starts."""

from lab.clock import Estimate, Room
from lab.integrity import Index
from lab.preflight import preflight
from recipes import cpt, dpo, sft
from recipes.benchmarks import Item

GOOD = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(100)]
GIB = 2**30
SECONDS_50 = Estimate(startup=0, a_step=0.5, steps=100)


def rules(
    rows=GOOD, config=None, items=(), count=None, free=10 * GIB, room=None, takes=None, recipe=sft.Config
) -> dict[str, str]:
    index = Index([Item(id=str(i), question=q, answer="") for i, q in enumerate(items)])
    return {f.rule: f.level for f in preflight(rows, config or {"lr": 1e-3}, index, count, free, room, takes, recipe)}


def test_a_good_job_has_no_findings():
    assert (
        rules(
            count=lambda texts: [10] * len(texts),
            config={"lr": 1e-3, "max_length": 64},
            room=Room(100),
            takes=SECONDS_50,
        )
        == {}
    )


def test_a_file_that_cannot_be_trained_on_is_refused():
    assert rules([]) == {"no_rows": "stop"}
    assert rules([{"question": "1", "completion": "2"}]) == {"wrong_columns": "stop"}
    assert rules([{"prompt": "1", "completion": None}]) == {"wrong_columns": "stop"}
    assert rules([*GOOD, {"prompt": "1", "completion": " "}]) == {"empty_completions": "stop"}


def test_rows_of_other_methods_are_looked_at_in_their_own_shape():
    pairs = [{"prompt": f"{i} + 1 =", "chosen": f" {i + 1}", "rejected": " 0"} for i in range(100)]
    assert rules(pairs, recipe=dpo.Config) == {}
    assert rules(GOOD, recipe=dpo.Config) == {"wrong_columns": "stop"}
    assert rules(pairs, recipe=dpo.Config, items=[row["prompt"] for row in pairs[:4]]) == {"contaminated": "stop"}
    leak = [row | {"rejected": " 9 + 9 ="} for row in pairs[:4]]
    assert rules(leak, recipe=dpo.Config, items=["9 + 9 ="]) == {"contaminated": "stop"}

    def length(texts):  # 14 characters at most, with either answer; 16 with both
        return [len(text) for text in texts]

    assert rules(pairs, {"max_length": 15}, recipe=dpo.Config, count=length) == {}
    texts = [{"text": f"a long text, number {i}"} for i in range(9)]
    assert rules(texts, {"max_length": 4}, recipe=cpt.Config, count=length) == {}  # they are cut into pieces


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
    assert rules(room=Room(50), takes=SECONDS_50) == {"no_time": "stop"}  # the estimate needs a margin
    assert rules(room=Room(-1)) == {"no_time": "stop"}
    assert rules(room=Room(50)) == {}  # nobody knows how long it takes: the deadline will tell


def test_a_refusal_for_time_says_what_it_needs_what_is_left_and_what_would_fit():
    room = Room(left=600, taken=120, kept=300)
    takes = Estimate(startup=30, a_step=3, steps=100)  # 330 s × 1.2 = 396 s, and 180 s are free
    (finding,) = preflight(GOOD, {"lr": 1e-3}, Index([]), None, 10 * GIB, room, takes)
    assert "about 5.5 min × 1.2, and 10.0 min are left, of which 5.0 min are kept" in finding.what
    assert "2.0 min may still be used by other jobs" in finding.what
    assert "at most 40 steps" in finding.advice  # (180 / 1.2 - 30) / 3
    assert rules(room=room, takes=Estimate(30, 3, 40)) == {}
    assert rules(room=room, takes=Estimate(30, 3, 41)) == {"no_time": "stop"}


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
