"""What is wrong with a run, and that nothing is wrong with a healthy one."""

from collections.abc import Callable
from math import exp, inf, nan
from pathlib import Path
from random import Random

import pytest

from lab.backend import JobSpec, Point
from lab.diagnose import RULES, diagnose

SPEC = JobSpec("sft-1", "sft", {}, Path("jobs/sft-1"), hours=1.0)
HEALTHY_PROBE = {
    "stop_token_trained": 1.0,
    "truncated_share": 0.0,
    "masked_share": 0.6,
    "steps": 200,
    "stop_token": "<eos>",
}


def run(
    loss: Callable[[int], float], steps: int = 200, total: int | None = None, **others: Callable[[int], float]
) -> list[Point]:
    """Points every 5 steps of a run whose metrics are functions of the step."""
    return [
        Point(
            s, {"loss": loss(s), "grad_norm": 1.0} | {k: f(s) for k, f in others.items()}, total or steps, at=float(s)
        )
        for s in range(5, steps + 1, 5)
    ]


def rules(points: list[Point], probe: dict | None = None) -> dict[str, str]:
    return {f.rule: f.level for f in diagnose(points, SPEC, HEALTHY_PROBE if probe is None else HEALTHY_PROBE | probe)}


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_noisy_run_gets_no_warning_at_any_step(seed):
    rng = Random(seed)
    points = run(lambda s: 0.2 + 3 * exp(-s / 40) + rng.gauss(0, 0.08), eval_loss=lambda s: 0.25 + 3 * exp(-s / 40))
    for seen in range(1, len(points) + 1):
        assert not [f for f in diagnose(points[:seen], SPEC, HEALTHY_PROBE) if f.level != "info"]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_value_that_is_not_finite_stops_the_run(value):
    assert rules(run(lambda s: value if s == 50 else 1.0, steps=60))["not_finite"] == "stop"


def test_a_loss_that_climbs_is_warned_of_and_then_stopped():
    climbing = run(lambda s: 1.0 if s <= 100 else 1.0 + (s - 100) * 0.02)
    levels = [rules(climbing[:n]).get("divergence") for n in range(1, len(climbing) + 1)]
    assert levels[:20] == [None] * 20
    assert "warn" in levels and levels[-1] == "stop"
    assert levels.index("warn") < levels.index("stop")


def test_one_bad_batch_and_a_loss_near_zero_are_no_divergence():
    assert "divergence" not in rules(run(lambda s: 9.0 if s == 100 else 1.0))
    assert "divergence" not in rules(run(lambda s: 0.001 if s < 150 else 0.02))


def test_training_on_while_the_evaluation_gets_worse_is_overfitting():
    points = run(lambda s: 2.0 - s / 150, eval_loss=lambda s: 1.0 + abs(s - 100) / 100)
    assert rules(points)["overfit"] == "warn"
    assert "overfit" not in rules(points[:20])


def test_a_flat_end_is_a_plateau_and_a_falling_one_is_not():
    assert rules(run(lambda s: max(0.5, 2 - s / 50)))["plateau"] == "info"
    assert "plateau" not in rules(run(lambda s: 2 - s / 150))
    assert "plateau" not in rules(run(lambda s: 0.5, steps=60, total=200))  # too early to say


def test_nothing_to_learn_is_found_from_labels_and_from_gradients():
    assert rules(run(lambda s: 1.0, steps=20), {"masked_share": 1.0})["all_masked"] == "stop"
    still = [Point(s, {"loss": 0.0, "grad_norm": 0.0}, 200) for s in (1, 5, 10)]
    assert rules(still)["all_masked"] == "stop"


@pytest.mark.parametrize(("share", "level"), [(0.0, "stop"), (0.9, "warn"), (1.0, None)])
def test_a_stop_token_that_is_not_trained_is_found_before_the_first_step(share, level):
    assert rules([], {"stop_token_trained": share}).get("stop_token_not_trained") == level


@pytest.mark.parametrize(("share", "level"), [(0.5, "stop"), (0.1, "warn"), (0.01, None)])
def test_rows_that_are_cut_off_are_found(share, level):
    assert rules([], {"truncated_share": share}).get("truncated") == level


def test_a_job_that_cannot_finish_in_its_hours_is_warned_of():
    slow = [Point(s, {"loss": 1.0}, 1000, at=s * 10.0) for s in range(1, 8)]
    assert rules(slow)["slow"] == "warn"


def test_findings_come_worst_first_with_evidence_and_advice():
    points = run(lambda s: nan if s == 195 else 0.5)
    found = diagnose(points, SPEC, HEALTHY_PROBE | {"truncated_share": 0.1})
    assert [f.level for f in found] == sorted((f.level for f in found), key=["stop", "warn", "info"].index)
    assert all(f.what and f.advice for f in found)
    assert "step 195" in found[0].what


@pytest.mark.parametrize(("floor", "noise"), [(1.0, 0.2), (1.0, 0.4), (2.0, 0.5), (0.6, 0.3)])
@pytest.mark.parametrize("seed", range(4))
def test_small_batches_that_wander_for_long_are_no_divergence(seed, floor, noise):
    rng = Random(seed)
    points = run(lambda s: max(0.01, floor + 2 * exp(-s / 75) + rng.gauss(0, noise)), steps=750)
    assert not [n for n in range(1, len(points) + 1) if "divergence" in rules(points[:n])]


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_a_loss_that_jumps_is_stopped_within_five_log_lines_in_spite_of_noise(noise):
    rng = Random(0)
    points = run(lambda s: 1.0 + (10.0 if s > 300 else 0.0) + rng.gauss(0, noise), steps=325)
    assert rules(points[:60]).get("divergence") is None
    assert rules(points)["divergence"] == "stop"


def test_a_random_head_and_a_leak_are_warned_of():
    assert rules(run(lambda s: 15.0 if s == 5 else 3.0, steps=10))["bad_start"] == "warn"
    assert "bad_start" not in rules(run(lambda s: 10.2 if s == 5 else 3.0, steps=10))  # the starter on a new format
    leak = run(lambda s: 0.1, steps=30, total=300, mean_token_accuracy=lambda s: 0.99)
    assert rules(leak)["too_good"] == "warn"
    learned = run(lambda s: 0.1, steps=200, mean_token_accuracy=lambda s: 0.5 if s <= 20 else 0.995)
    assert "too_good" not in rules(learned)


def test_a_finding_carries_the_name_of_its_rule():
    points = run(lambda s: nan if s == 50 else 1.0, steps=60)
    probe = {"truncated_share": 1.0, "masked_share": 1.0, "stop_token_trained": 0.0}
    found = {rule.__name__: finding.rule for rule in RULES if (finding := rule(points, SPEC, probe))}
    assert {"not_finite", "truncated", "all_masked", "stop_token_not_trained"} <= set(found)
    assert all(name == said for name, said in found.items())


def test_what_the_trainer_measured_before_step_one_is_said_at_once():
    assert rules([], {"eta_s": 3599.0}) == {}
    assert rules([], {"eta_s": 3700.0}) == {"slow": "warn"}  # of one hour
    settings = {"batch_size": 16, "grad_accumulation": 4, "gradient_checkpointing": False}
    (found,) = diagnose([], SPEC, HEALTHY_PROBE | {"fitted": settings})
    assert (found.level, found.rule) == ("warn", "fitted")
    assert "batch_size = 16, grad_accumulation = 4" in found.what
    assert found.evidence == settings
