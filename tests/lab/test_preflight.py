"""What is wrong with a job before it starts."""

import pytest

from lab.backend import Machine
from lab.clock import Estimate, Room
from lab.demand import Space
from lab.integrity import Index
from lab.preflight import preflight
from recipes import cpt, dpo, kto, sft
from recipes.benchmarks import Item
from recipes.memory import Shape

GOOD = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}", "label": True} for i in range(100)]
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


@pytest.mark.parametrize("config", [{"teacher_prefix": "9 + 9 = 18\n"}, {"rewards": [{"pattern": "9 + 9 ="}]}])
def test_an_item_of_the_evaluation_in_the_settings_refuses_the_launch(config):
    assert rules(config=config, items=["9 + 9 ="]) == {"contaminated_settings": "stop"}
    assert rules(config=config, items=["8 + 8 ="]) == {}


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


def test_hours_that_are_too_few_are_warned_of():
    def found(hours: float) -> list:
        return preflight(GOOD, {"lr": 1e-3}, Index([]), None, 10 * GIB, None, Estimate(60, 6, 100), hours=hours)

    (finding,) = found(0.1)  # 660 s, and 360
    assert (finding.rule, finding.level) == ("few_hours", "warn")
    assert finding.what == "The job takes about 11.0 min and is ended after 6.0 min."
    assert finding.advice == "Give it 0.22 hours, or at most 40 steps."  # (360 / 1.2 - 60) / 6
    assert found(660 / 3600) == [] and rules() == {}


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


# A model of 7 billion: weights, gradients and moments are 16 bytes each, 104 GiB; in float32 rows come on top
SEVEN = Shape("llama", layers=32, hidden=4096, inner=11008, heads=4096, shared=4096, words=32_000, tied=False)
SETTINGS = {"lr": 1e-5, "batch_size": 32, "max_length": 512}


def of_length(tokens):
    return lambda texts: [tokens] * len(texts)


def memory(gibs, shape=SEVEN, tokens=500, config=SETTINGS, device="cuda", recipe=sft.Config):
    space = Space(Machine("local", device, gibs * GIB, None), shape)
    found = preflight(GOOD, config, Index([]), of_length(tokens), 10 * GIB, None, None, recipe, space)
    return next((finding for finding in found if finding.rule == "no_memory"), None)


def test_a_job_that_no_setting_fits_is_refused_and_an_adapter_is_proposed():
    found = memory(40)
    assert found
    assert found.level == "stop"
    assert "this machine has 40.0 GiB of GPU memory" in found.what
    assert "lora_rank = 16" in found.advice
    assert memory(40, config=SETTINGS | found.evidence["fits"]) is None  # what is proposed is what fits
    none = memory(4)
    assert none
    assert none.level == "stop"
    assert "smaller model" in none.advice


def test_a_job_that_fits_with_less_at_a_time_is_told_the_settings():
    assert memory(400) is None
    assert memory(141, tokens=16) is None
    found = memory(141)
    assert found
    assert found.level == "warn"
    fits = found.evidence["fits"]
    assert fits["batch_size"] < 32
    assert fits["batch_size"] * fits["grad_accumulation"] == 32
    assert f"batch_size = {fits['batch_size']}" in found.advice
    assert memory(141, config=SETTINGS | fits) is None


def test_no_pass_of_fewer_rows_than_a_method_takes_is_proposed():
    found = memory(4, recipe=kto.Config)
    assert found
    assert "Even 2 rows at a time" in found.what


def test_an_estimate_that_is_near_refuses_nothing():
    least = memory(40)
    assert least
    gibs = float(least.what.rpartition("takes ")[2].split()[0])
    near = memory(gibs / 0.9 / 1.1)  # 10 % too little of the usable nine tenths
    assert near
    assert near.level == "warn"


def test_a_model_of_unknown_size_is_not_judged():
    assert rules() == {}
    assert rules(count=of_length(10)) == {}
