"""What is wrong with a run, and that nothing is wrong with a healthy one."""

from collections.abc import Callable
from math import exp, inf, nan
from pathlib import Path
from random import Random

import pytest

from lab.backend import JobSpec, Point
from lab.diagnose import RULES, diagnose
from lab.rules import Life

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
    large = {"vocabulary": 152_000}  # guessing costs 11.9 nats
    assert "bad_start" not in rules(run(lambda s: 9.6 if s == 5 else 3.0, steps=10), large)  # on bare answers
    leak = run(lambda s: 0.1, steps=30, total=300, mean_token_accuracy=lambda s: 0.99)
    assert rules(leak)["too_good"] == "warn"
    learned = run(lambda s: 0.1, steps=200, mean_token_accuracy=lambda s: 0.5 if s <= 20 else 0.995)
    assert "too_good" not in rules(learned)


def test_a_model_with_a_random_head_starts_as_bad_as_guessing():
    """A real one, of a large vocabulary, on real text that it has not seen."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    words, wide = 32_000, {"hidden_size": 32, "intermediate_size": 64}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=words, num_hidden_layers=1, num_attention_heads=2, **wide))
    ids = torch.tensor([list(Path(__file__).read_bytes()[:512])])
    first = float(model(ids, labels=ids).loss.detach())  # ln 32,000 = 10.4
    assert rules(run(lambda s: first, steps=5), {"vocabulary": words})["bad_start"] == "warn"
    assert "bad_start" not in rules(run(lambda s: first, steps=5))


def rl(steps: int = 60, **curves: Callable[[int], float]) -> list[Point]:
    """A GRPO run, a log line a step; healthy in all that is not given."""
    usual: dict[str, Callable[[int], float]] = {
        "loss": lambda s: 0.0, "grad_norm": lambda s: 0.5, "reward": lambda s: 0.2 + s / 100, "entropy": lambda s: 0.5,
        "frac_reward_zero_std": lambda s: 0.2, "kl": lambda s: 0.01, "completions/mean_length": lambda s: 40.0,
        "completions/clipped_ratio": lambda s: 0.02,
    }  # fmt: skip
    made = usual | {name.replace("__", "/"): curve for name, curve in curves.items()}
    return [Point(s, {k: f(s) for k, f in made.items()}, steps, at=float(s)) for s in range(1, steps + 1)]


def flat(s: int) -> float:
    return 0.3


def shaken(s: int) -> float:
    return 0.3 + 0.05 * (s % 3)


def falling(s: int) -> float:
    return 0.8 if s <= 30 else 0.1


@pytest.mark.parametrize(
    ("rule", "level", "curves"),
    [
        ("no_signal", "stop", {"reward": flat, "frac_reward_zero_std": lambda s: 1.0}),
        ("no_signal", "warn", {"frac_reward_zero_std": lambda s: 1.0}),  # all is learned: no reason to stop
        ("reward_collapse", "stop", {"reward": falling}),
        ("reward_collapse", "warn", {"reward": lambda s: 0.8 if s <= 30 else 0.5}),
        ("entropy_collapse", "stop", {"reward": flat, "entropy": lambda s: 0.5 if s < 20 else 0.01}),
        ("entropy_collapse", "warn", {"entropy": lambda s: 0.5 / s}),  # it was spent on reward
        (
            "no_signal",
            "stop",
            {"reward": lambda s: 0.2, "frac_reward_zero_std": lambda s: 0.0, "reward_std": lambda s: 1.5e-8},
        ),
        ("entropy_explosion", "stop", {"entropy": lambda s: 0.5 if s < 20 else 3.0}),
        ("kl_blow_up", "stop", {"reward": flat, "kl": lambda s: 0.01 if s < 50 else 12.0}),
        ("kl_blow_up", "warn", {"reward": flat, "kl": lambda s: 0.01 if s < 50 else 1.0}),
        ("no_eos", "stop", {"completions__clipped_ratio": lambda s: 1.0}),
        ("cut_off", "stop", {"reward": flat, "completions__clipped_ratio": lambda s: 0.02 if s < 10 else 0.8}),
        ("length_collapse", "warn", {"reward": flat, "completions__mean_length": lambda s: 40.0 if s < 30 else 15.0}),
        ("reward_hacking", "warn", {"completions__mean_length": lambda s: 20.0 + s}),
        ("component_lost", "warn", {"rewards__right__mean": falling}),
        ("gradient_spike", "stop", {"grad_norm": lambda s: 0.5 if s < 55 else 200.0}),
        ("dead_gradients", "stop", {"reward": flat, "grad_norm": lambda s: 0.0}),
        ("over_clipping", "stop", {"reward": flat, "clip_ratio__region_mean": lambda s: 0.5}),
        ("sampler_mismatch", "warn", {"reward": flat, "sampling__sampling_logp_difference__mean": lambda s: 0.07}),
        ("tool_failure", "warn", {"reward": flat, "tools__failure_frequency": lambda s: 0.5}),
        ("no_learning_rate", "warn", {"learning_rate": lambda s: s / 1e6}),
        ("sampler_ratio", "warn", {"sampling__importance_sampling_ratio__mean": lambda s: 0.45}),
        ("sampler_ratio", "info", {"sampling__importance_sampling_ratio__mean": lambda s: 1.3}),
        ("kl_jump", "warn", {"kl": lambda s: 0.03 if s < 50 else 0.2}),
        ("reward_flat", "warn", {"reward": shaken}),
        ("reward_gap", "warn", {"eval_reward": lambda s: 0.2 + s / 1000}),
        ("reward_gap", "info", {"eval_reward": lambda s: 0.2 + s / 200}),
        ("slowdown", "warn", {}),
    ],
)
def test_a_broken_rl_run_is_found(rule, level, curves):
    points = rl(**curves)
    if rule == "slowdown":
        points = [Point(p.step, p.values, p.steps, at=p.step + max(0, p.step - 30) * 5.0) for p in points]
    assert rules(points)[rule] == level


def test_a_healthy_rl_run_gets_nothing_and_losses_of_zero_are_fine():
    assert not rules(rl())
    assert not rules(rl(entropy=lambda s: 0.15 + 0.35 / s, completions__mean_length=lambda s: 40.0 if s < 20 else 12.0))


@pytest.mark.parametrize(
    ("rule", "curves"),
    [
        ("sampler_ratio", {"sampling__importance_sampling_ratio__mean": lambda s: 0.9}),
        ("kl_jump", {"kl": lambda s: s / 200}),  # a straight line is twice its median
        ("kl_jump", {"kl": lambda s: 0.001 if s < 50 else 0.05}),  # and little is little
        ("reward_flat", {"reward": lambda s: shaken(s) + s / 300}),
        ("reward_flat", {"reward": shaken, "frac_reward_zero_std": lambda s: 0.9}),  # that is no_signal's
        ("reward_gap", {"eval_reward": lambda s: s / 100}),  # its prompts are harder, and it learns as much
        ("reward_gap", {"reward": shaken, "eval_reward": lambda s: 0.1}),
    ],
)
def test_what_looks_like_it_and_is_fine_is_not_found(rule, curves):
    points = rl(**curves)
    assert not [n for n in range(len(points) + 1) if rule in rules(points[:n])]
    assert "reward_flat" not in rules(rl(48, reward=shaken))  # healthy runs of so few log lines are flat, too


def test_a_loss_that_falls_where_an_epoch_ends_is_remembered():
    """Four epochs of ten log lines, 200 steps."""

    def learned(loss: Callable[[int], float], noise: float = 0.01) -> dict[str, str]:
        rng = Random(0)
        return rules(run(lambda s: loss(s) + rng.gauss(0, noise), epoch=lambda s: s / 50))

    assert learned(lambda s: 2.0 * 0.6 ** ((s - 1) // 50))["memorised"] == "info"
    assert "memorised" not in learned(lambda s: 2.0 * exp(-s / 60))  # it falls as much within an epoch
    assert "memorised" not in learned(lambda s: 2.0 * 0.6 ** ((s - 1) // 50), 0.5)
    assert "memorised" not in rules(run(lambda s: 2.0 * 0.6 ** ((s - 1) // 50)))  # nobody says where epochs end


HALF = {"loss": lambda s: 1 - s / 40 if s < 40 else 0.0, "grad_norm": lambda s: 0.5 if s < 40 else 0.0}
SOLVED = {"reward": lambda s: min(1, s / 40), "frac_reward_zero_std": lambda s: min(1, s / 40)}


@pytest.mark.parametrize(
    "points",
    [
        rl(100, reward=lambda s: max(0, s - 12) / 90, grad_norm=lambda s: 0.3 if s > 12 else 0.0),
        rl(100, grad_norm=lambda s: 0.3 if s < 40 else 0.0, **SOLVED),
        rl(100, reward=lambda s: s / 40 - 1),
        rl(100, reward=lambda s: 0.9 if s > 40 else 0.0),
        [Point(s, {k: f(s) for k, f in HALF.items()} | {"rewards/chosen": s / 9}, 100) for s in range(1, 100)],
        [Point(s, {"loss": 9 / s, "grad_norm": 1.0, "completions/clipped_ratio": 1.0}, 60) for s in range(1, 61)],
    ],
    ids=["the first reward is late", "all is learned", "a reward below 0 rises", "it jumps", "hinge", "distillation"],
)
def test_no_run_that_learns_is_stopped(points):
    assert not [n for n in range(len(points) + 1) if "stop" in rules(points[:n]).values()]


def test_a_reward_below_zero_collapses_by_the_way_that_it_came():
    assert rules(rl(100, reward=lambda s: s / 40 - 1 if s < 50 else -0.9))["reward_collapse"] == "stop"
    assert "reward_collapse" not in rules(rl(100, reward=lambda s: min(0.05, s / 40 - 1) if s < 60 else 0.01))


def test_what_is_sampled_before_step_1_makes_no_run_slow_and_a_loss_of_pairs_has_no_worst_start():
    sampled = [Point(0, {"accepted": 0.5}, None, at=60.0 * s) for s in range(40)]
    trained = [Point(s, {"loss": 1.0}, 2000, at=2400 + s / 10) for s in range(1, 60, 5)]
    assert not rules(sampled + trained)
    assert not rules([Point(s, {"loss": 25.0 / s, "rewards/chosen": s / 9}, 60) for s in range(1, 60)])


def test_a_short_run_with_a_warm_up_of_half_its_steps_is_no_finding():
    points = run(lambda s: 2 - s / 40, steps=60, learning_rate=lambda s: min(s, 60 - s) / 1e4)
    assert not [n for n in range(len(points) + 1) if rules(points[:n])]


def test_dpo_that_ruins_both_answers_and_dpo_that_learns_nothing():
    def dpo(accuracy: Callable[[int], float], chosen: Callable[[int], float]) -> list[Point]:
        values = {"loss": lambda s: 0.6, "rewards/accuracies": accuracy, "rewards/chosen": lambda s: 0.0}
        return [Point(s, {k: f(s) for k, f in values.items()} | {"logps/chosen": chosen(s)}, 60) for s in range(1, 61)]

    assert rules(dpo(lambda s: min(1.0, 0.5 + s / 20), lambda s: -20.0 - s))["dpo_displacement"] == "warn"
    assert rules(dpo(lambda s: 0.5, lambda s: -20.0))["dpo_no_preference"] == "warn"
    assert "dpo_displacement" not in rules(dpo(lambda s: 0.9, lambda s: -20.0 - s / 20))
    assert "dpo_no_preference" not in rules(dpo(lambda s: min(1.0, 0.5 + s / 20), lambda s: -20.0))


@pytest.mark.parametrize(
    ("life", "rule", "level"),
    [
        (Life(silent_s=70), "stalled", "warn"),
        (Life(silent_s=4000), "stalled", "stop"),
        (Life(silent_s=30), "stalled", None),
        (Life(beatless_s=70), "frozen", "warn"),
        (Life(beatless_s=700), "frozen", "stop"),
        (Life(error="OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", "stop"),
        (Life(error="MemoryError"), "out_of_memory", "stop"),
        (Life(error="OSError: [Errno 28] No space left on device"), "no_disk", "stop"),
        (Life(error="RuntimeError: CUDA error: device-side assert triggered"), "device_error", "stop"),
        (Life(error="ValueError: something else"), "out_of_memory", None),
    ],
)
def test_a_process_that_is_silent_or_failed_is_found(life, rule, level):
    points = run(lambda s: 2 - s / 150, steps=100, total=200)
    assert {f.rule: f.level for f in diagnose(points, SPEC, HEALTHY_PROBE, life)}.get(rule) == level


def test_a_long_pause_that_is_usual_is_no_stall():
    points = [Point(s, {"loss": 2 - s / 100}, 80, at=s * 30.0) for s in range(1, 50)]
    assert not diagnose(points, SPEC, HEALTHY_PROBE, Life(silent_s=200))


def test_a_nan_that_the_logger_hides_is_found_by_what_is_gone():
    points = run(lambda s: 1.0, entropy=lambda s: 0.5)
    hidden = [Point(p.step, {k: v for k, v in p.values.items() if k != "entropy"}, p.steps) for p in points[20:]]
    assert rules(points[:20] + hidden)["not_finite"] == "stop"
    assert "not_finite" not in rules(points)


def test_the_table_says_for_every_rule_what_to_do_and_where_its_threshold_comes_from():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.advice and rule.source and rule.limits for rule in RULES)
    assert all(list(rule.limits) == sorted(rule.limits, key=["stop", "warn", "info"].index) for rule in RULES)


def test_nothing_is_said_of_a_run_before_its_first_line():
    assert not diagnose([], SPEC, {})


@pytest.mark.parametrize("seed", range(60))
def test_no_rule_fails_whatever_a_trainer_logs(seed):
    """Any metrics in any lines: missing, zero, negative, huge, not finite."""
    rng = Random(seed)
    names = [
        "loss", "eval_loss", "grad_norm", "learning_rate", "entropy", "kl", "mean_token_accuracy", "reward", "reward_std",
        "frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio", "rewards/a/mean", "rewards/b/mean",
        "rewards/accuracies", "rewards/chosen", "logps/chosen", "clip_ratio/region_mean", "epoch", "eval_reward",
        "sampling/importance_sampling_ratio/mean",
    ]  # fmt: skip
    chosen, always = rng.sample(names, rng.randint(1, len(names))), rng.random()
    values = [0.0, 0.0, -1.0, 1.0, 1e-12, 1e30, *([nan, inf] if seed % 3 == 0 else [])]
    same = rng.choice(values) if seed % 5 == 0 else None
    points = []
    for step in range(rng.choice((0, 1, 2, 25, 90))):
        made = {name: rng.choice(values) if same is None else same for name in chosen if rng.random() < always}
        points.append(Point(rng.choice((step, 0)), made, rng.choice((None, 100)), at=rng.choice((0.0, float(step)))))
    for probe in ({}, HEALTHY_PROBE):
        for seen in (1, len(points) // 2, len(points)):
            diagnose(points[:seen], SPEC, probe, Life(silent_s=rng.choice((0, 1e6)), beatless_s=rng.choice((0, 1e6))))


def test_what_the_trainer_measured_before_step_one_is_said_at_once():
    assert rules([], {"eta_s": 2870.0}) == {}
    assert rules([], {"eta_s": 3599.0}) == {"slow": "info"}
    assert rules([], {"eta_s": 3700.0}) == {"slow": "warn"}  # of one hour
    settings = {"batch_size": 16, "grad_accumulation": 4, "gradient_checkpointing": False}
    (found,) = diagnose([], SPEC, HEALTHY_PROBE | {"fitted": settings})
    assert (found.level, found.rule) == ("warn", "fitted")
    assert "batch_size = 16, grad_accumulation = 4" in found.what
