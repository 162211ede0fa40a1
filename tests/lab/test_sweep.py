"""Several configs in one call: what is run, in which order, within which time, and what the table says."""

import pytest

from lab.clock import UNMEASURED
from lab.contrast import UNKNOWN, against, differences, noise
from lab.errors import BadInput, Refused, Stopped
from lab.grade import paired
from lab.lab import Lab
from lab.machine import this_machine
from lab.sweep import MOST, shares, spread, sweep
from lab.tasks import write_rows
from record.events import Ended, Finished, Launched, Noted, Progressed, Scored, Seal
from tests.scripted import Script, script_session

SMALL = {"data": "data/rows.jsonl", "batch_size": 8, "max_length": 64, "log_steps": 2, "max_steps": 4}
HOUR = 3600.0


def ran(job: str, seconds: float, call: str = "", state: str = "done", **config) -> list:
    """Facts of an SFT job that is over."""
    full = {name: value for name, value in SMALL.items() if name != "data"} | config
    return [
        Launched(
            job=job, recipe="sft", config=full, machine=this_machine(), hours=1.0, folder=f"jobs/{job}", call=call
        ),
        Progressed(job=job, step=4, values={"loss": 1.0}),
        Ended.model_validate({"job": job, "state": state, "seconds": seconds, "reason": "its loss was nan"}),
    ]


def scored(lab: Lab, job: str, correct: list[bool]) -> Scored:
    """The dev score of a job, with its items on disk."""
    write_rows(lab.folder / "jobs" / f"{job}.jsonl", [{"correct": one} for one in correct])
    return Scored(
        model=job, benchmark="chains", split="dev", metric="accuracy", value=sum(correct) / len(correct), low=0.0,
        high=1.0, n=len(correct), items=f"jobs/{job}.jsonl", seal=Seal(judge="j", split="s", model=job), job="e",
    )  # fmt: skip


@pytest.mark.slow
def test_the_first_is_tested_alone_the_other_follows_and_both_are_compared_once_whatever_interrupts_it(lab_of):
    lab, journal = lab_of()
    seeds = spread(SMALL, {"seed": [0, 1]}, None)

    def stopped() -> None:
        if journal.views.jobs:
            raise Stopped("a person said stop")

    lab.check = stopped
    with pytest.raises(Stopped):
        sweep(lab, "sft", seeds, 0.2, "Only the seed.", "c", 0.0, None)
    assert list(journal.views.jobs) == ["sft-1"]
    lab.check = lambda: None
    table = sweep(lab.reader(), "sft", seeds, 0.2, "Only the seed.", "c", 0.0, None)
    assert sweep(lab.reader(), "sft", seeds, 0.2, "Only the seed.", "c", 0.0, None) == table

    facts, (one, two) = list(journal.log), table["configs"]
    assert [fact.recipe for fact in facts if isinstance(fact, Launched)] == ["sft", "sft", "evaluate", "evaluate"]
    order = [(fact.kind, fact.job) for fact in facts if isinstance(fact, Launched | Ended)]
    assert order.index(("ended", "sft-1")) < order.index(("launched", "sft-2"))
    assert [(row["job"], row["config"]) for row in (one, two)] == [("sft-1", {"seed": 0}), ("sft-2", {"seed": 1})]
    assert all(row["low"] <= row["dev"] <= row["high"] and row["n"] == 200 for row in (one, two))
    assert two["against_first"]["delta"] == pytest.approx(two["dev"] - one["dev"])
    assert f"up to {abs(two['dev'] - one['dev']):.3f} (sft-1, sft-2)" in table["noise"]
    assert journal.views.jobs["sft-2"].idea == "Only the seed. (seed = 1)"
    assert not journal.views.promotions and all(fact.split == "dev" for fact in facts if isinstance(fact, Scored))
    assert any(isinstance(fact, Noted) and fact.topic == "sweep" and "sft-2" in fact.text for fact in facts)


def test_nothing_follows_a_first_that_has_not_come_to_its_end(lab_of):
    lab, journal = lab_of()
    journal.append(*ran("sft-1", 9.0, call="c.0", state="failed"))
    with pytest.raises(Refused, match=r"sft-1, has not come to its end \(failed: its loss was nan\)"):
        sweep(lab, "sft", spread(SMALL, {"lr": [1e-3, 3e-3]}, None), 1.0, "", "c", 0.0, None)
    assert list(journal.views.jobs) == ["sft-1"]


def test_a_sweep_that_does_not_fit_is_refused_as_a_whole_and_says_how_many_would(lab_of):
    lab, journal = lab_of()
    journal.append(*ran("sft-1", 1000.0))
    three = spread(SMALL, {"lr": [1e-3, 2e-3, 3e-3]}, None)
    # each 1.2 * 1000 s; 2 evaluations are kept, one of them for the first job, and each further job brings its own
    assert 2 * 1200 + UNMEASURED < HOUR - 2 * UNMEASURED < 3 * 1200 + 2 * UNMEASURED
    with pytest.raises(Refused, match=r"3 configs .* do not fit into the time that is left; 2 would"):
        sweep(lab, "sft", three, 1.0, "", "c", 0.0, None)
    assert list(journal.views.jobs) == ["sft-1"]


def test_a_job_gets_its_estimate_with_the_margin_and_an_even_share_of_the_rest(lab_of):
    lab, journal = lab_of()
    full = [lab.checked("sft", one) for one in spread(SMALL, {"max_steps": [4, 8]}, None)]
    free = HOUR - 3 * UNMEASURED
    assert shares(lab, "sft", full, 1.0) == pytest.approx([free / 2 / HOUR] * 2, abs=0.01)  # nothing is known
    journal.append(*ran("sft-1", 500.0))
    spare = (free - 1.2 * 500 - 1.2 * 1000) / 2
    assert shares(lab, "sft", full, 1.0) == pytest.approx([(600 + spare) / HOUR, (1200 + spare) / HOUR], abs=0.01)
    assert shares(lab, "sft", full, 0.1) == pytest.approx([0.1, 0.1])
    first = journal.views.jobs["sft-1"]  # whose own evaluation is still to come
    assert shares(lab, "sft", full[1:] * 3, 1.0, first) == pytest.approx([(3360 - 240) / 2 / HOUR] * 2, abs=0.01)


@pytest.mark.parametrize(
    ("vary", "configs", "words"),
    [
        (None, None, "Give either vary"),
        ({"lr": [1, 2]}, [{}, {"lr": 2}], "Give either vary"),
        ({"lr": 1e-3}, None, "vary has 0.001 for lr; give a list"),
        ({"lr": [1e-3]}, None, f"There are 1 configs; a sweep compares 2 to {MOST}"),
        ({"lr": [1, 2, 3, 4, 5], "seed": [0, 1, 2, 3]}, None, "There are 20 configs"),
    ],
)
def test_what_is_no_sweep_is_said_in_one_sentence(vary, configs, words):
    with pytest.raises(BadInput, match=words):
        spread(SMALL, vary, configs)


def test_a_config_that_cannot_be_used_or_stands_there_twice_starts_none(settings, new_session, lab_of):
    lab, journal = lab_of()
    assert spread({"a": 1}, {"b": [1, 2], "c": [3]}, None) == [{"a": 1, "b": 1, "c": 3}, {"a": 1, "b": 2, "c": 3}]
    with pytest.raises(BadInput, match="lr: Input should be greater than 0, not -1"):
        sweep(lab, "sft", spread(SMALL, None, [{}, {"lr": -1}]), 1.0, "", "c", 0.0, None)
    assert not journal.views.jobs
    session = new_session()[0]
    arguments = {"config": SMALL, "idea": "i", "expected_gain": 0.0, "configs": [{}, {"lr": 2e-3}, {"lr": "2e-3"}]}
    told = script_session(settings, session, Script(("sweep", arguments)))
    (answer,) = [fact for fact in told.log if isinstance(fact, Finished)]
    assert (answer.ok, answer.output.startswith("Config 3 stands there twice")) == (False, True)


def test_the_table_holds_what_differs_and_the_paired_difference_to_the_first(lab_of):
    lab, journal = lab_of()
    assert differences([{"lr": 1, "x": 0}, {"x": 0, "packing": True}]) == [
        {"lr": 1, "packing": "default"},
        {"lr": "default", "packing": True},
    ]
    old, new = [True] * 3 + [False] * 17, [True] * 3 + [True] * 9 + [False] * 8
    journal.append(scored(lab, "sft-1", old), scored(lab, "sft-2", new))
    first, second = ({"job": job, "dev": sum(items) / 20} for job, items in (("sft-1", old), ("sft-2", new)))
    expected = paired([float(one) for one in new], [float(one) for one in old])
    said = against(lab, second, first)["against_first"]
    assert said == {n: round(getattr(expected, n), 4) for n in ("delta", "low", "high", "p")}
    assert said["delta"] == pytest.approx(9 / 20) and said["low"] > 0
    assert against(lab, first, first) == against(lab, {"job": "sft-3"}, first) == {}


def test_noise_is_the_spread_of_one_config_over_its_seeds_and_else_unknown():
    rows = [{"job": "a", "dev": 0.30}, {"job": "b", "dev": 0.34}, {"job": "c", "dev": 0.50}]
    other_rates = [{"lr": 1, "seed": 0}, {"lr": 2, "seed": 1}, {"lr": 3, "seed": 0}]
    assert noise(other_rates, rows) == UNKNOWN
    same_rate = [{"lr": 1, "seed": 0}, {"lr": 1, "seed": 1}, {"lr": 3, "seed": 0}]
    assert noise(same_rate, rows).startswith("The seed alone changes the dev score by up to 0.040 (a, b)")
    assert noise(same_rate, [rows[0], {"problem": "failed"}, rows[2]]) == UNKNOWN
