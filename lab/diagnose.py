"""Say what is wrong with a running job: one table of rules with their thresholds. Pure: no clock.

To add a rule, write a measure in lab.rules and its line here. Precision and recall on real runs: docs/diagnosis.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab import rewards as rl
from lab import rules as r
from lab.backend import JobSpec, Point
from lab.findings import Finding
from lab.rules import Life, Measure, Run
from record.events import Level

TRUNCATED_WARN, TRUNCATED_STOP = 0.05, 0.20  # share of rows longer than max_length [H]; preflight knows them, too
# Share of a loss that is left after steps on 8 rows alone: 0.01 to 0.15 of SFT on the demo's tasks at the default
# learning rate, 0.84 with LoRA at 2e-4 in 18 steps, 0.90 at 1e-5, where larger models learn more; 0.98 at 1e-6.
UNLEARNED = 0.9

# Where a threshold comes from. [H] is a heuristic of ours, held by the galleries of healthy and broken runs.
H = "[H]"
DOCTOR = "rldoctor 0.2.0"
TRL = "TRL 1.16 source"
DISPLACED = "likelihood displacement; the numbers are [H]"
MECHANISM = "Entropy Mechanism 2505.22617; the numbers are [H]"
USED = "SageMaker Debugger LowGPUUtilization; warn [H]"
GUESS = "[H]; 6 nats would be too few: a fine model on bare answers begins at 9.6 (overfit)"
FITS = "[H]; no warning at 0.8: such a job needs no change"
STEADY = "[H]; not 2: a healthy run (rl-2) took 2.9 times as long"
EPOCHS = "[H]; its evaluations say whether that does harm"
GAP = "rldoctor 0.2.0, a level lower: evaluations have few prompts [H]"
JUMP = "[H]; from 0.1 nats on: it grows from 0 in healthy runs"
WEIGHT = "[H]; no stop, no warning at 1.25: TRL 1.16 weighs whole answers, and long ones drift"
SAMPLER = "TRL 1.16 logs it with vLLM; the numbers are [H]"


@dataclass(frozen=True)
class Rule:
    """A line of the table: from which value of its measure, over how many log lines, it is what level; and the advice."""

    name: str
    measure: Measure
    limits: dict[Level, tuple[float, int]]  # the worst first
    source: str
    advice: str


RULES = (
    Rule("not_finite", r.not_finite, {"stop": (1, 3)}, TRL, "Halve the learning rate or more, keep gradients clipped, and train in bf16 or fp32."),
    Rule("divergence", r.divergence, {"stop": (2, 5), "warn": (1.5, 5)}, H, "Lower the learning rate or warm up longer."),
    Rule("all_masked", r.all_masked, {"stop": (1, 2)}, H, "Check the completion column and max_length: the answers may be cut off."),
    Rule("stop_token_not_trained", r.stop_token_not_trained, {"stop": (0.5, 0), "warn": (0.01, 0)}, TRL, "End completions in the stop token, and raise max_length if they are cut off."),
    Rule("truncated", r.truncated, {"stop": (TRUNCATED_STOP, 0), "warn": (TRUNCATED_WARN, 0)}, H, "Raise max_length to the 95th percentile or drop the long rows."),
    Rule("fitted", r.fitted, {"warn": (1, 0)}, H, "As many rows a step as before, and slower; use these settings from now on."),
    Rule("cannot_overfit", r.cannot_overfit, {"warn": (UNLEARNED, 0)}, H, "Check the learning rate, what the labels are, and that weights are trained at all."),
    Rule("overfit", r.overfit, {"warn": (3, 0)}, H, "Train shorter, or on more rows; use an earlier checkpoint."),
    Rule("memorised", r.memorised, {"info": (0.2, 5)}, EPOCHS, "It remembers rows: look at eval_loss, and train for fewer epochs or on more rows."),
    Rule("bad_start", r.bad_start, {"warn": (0.9, 1)}, GUESS, "Check that tokenizer, template and weights belong together."),
    Rule("too_good", r.too_good, {"warn": (0.98, 2)}, H, "Look for the answer inside the prompt, duplicates, or data it has seen."),
    Rule("plateau", r.plateau, {"info": (0.99, 5)}, H, "It has learned what this data and learning rate give; change one of them."),
    Rule("gradient_spike", r.gradient_spike, {"stop": (100, 10), "warn": (3, 10)}, DOCTOR, "Lower the learning rate, or clip gradients at 0.1 to 0.5."),
    Rule("dead_gradients", r.dead_gradients, {"stop": (0.7, 20), "warn": (0.4, 10)}, DOCTOR, "Nothing is learned: check the rewards' spread, the labels, and that an adapter is attached."),
    Rule("no_learning_rate", r.no_learning_rate, {"warn": (0.9, 10)}, H, "The warm-up is longer than the run: shorten it."),
    Rule("slow", r.slow, {"warn": (1, 5), "info": (0.8, 5)}, FITS, "Use fewer steps, shorter rows or a faster machine."),
    Rule("slowdown", r.slowdown, {"warn": (3, 10)}, STEADY, "See what else runs on the machine, and whether rows or completions grew."),
    Rule("gpu_idle", r.idle, {"warn": (0.7, 20), "info": (0.3, 20)}, USED, "Raise batch_size and lower grad_accumulation, see whether the CPU is what is short, or take a cheaper machine."),
    Rule("dpo_displacement", r.displacement, {"warn": (1.5, 5)}, DISPLACED, "Both answers become less likely: lower the learning rate, raise beta, or add an SFT term."),
    Rule("dpo_no_preference", r.no_preference, {"warn": (0.5, 20)}, H, "Check that chosen and rejected are not swapped or alike, and raise the learning rate."),
    Rule("nothing_to_learn", rl.nothing_to_learn, {"stop": (1, 0), "warn": (0.5, 0)}, f"{DOCTOR}; stop {H}", "Nothing to learn from: where none is solved, use SFT first, easier prompts or a reward for parts; where all are, harder prompts."),
    Rule("none_accepted", rl.none_accepted, {"stop": (1, 0), "warn": (0.9, 0)}, H, "Use SFT first, easier prompts, more samples or a lower accept."),
    Rule("empty_answers", rl.before("empty", "are empty"), {"warn": (0.1, 0)}, H, "Check the chat template, and that the model has learned to answer: use SFT first."),
    Rule("repeated_answers", rl.before("repeated", "are copies of another one to the same prompt"), {"warn": (0.9, 0)}, H, "Raise the temperature: copies have equal rewards, and teach nothing."),
    Rule("cut_off_answers", rl.before("cut_off", "do not end by themselves"), {"stop": (0.95, 0), "warn": (0.15, 0)}, f"{DOCTOR}; stop {H}", "Raise max_new_tokens, check template and EOS token, or teach it to stop with SFT."),
    Rule("no_eos", rl.no_eos, {"stop": (1, 5)}, H, "The model never stops: wrong template or EOS token, or a limit that is too short. Fix it with SFT first."),
    Rule("no_signal", rl.no_signal, {"stop": (0.85, 20), "warn": (0.5, 10)}, DOCTOR, "Mix harder and easier prompts, sample more or hotter, or leave out prompts whose rewards are all equal (DAPO)."),
    Rule("reward_collapse", rl.reward_collapse, {"stop": (0.5, 20), "warn": (0.3, 10)}, H, "Go back to the best checkpoint, divide the learning rate by 2 to 5, or set beta to 0.01 to 0.04."),
    Rule("reward_flat", rl.reward_flat, {"warn": (0.5, 50)}, H, "Check that the reward's parser finds right answers, raise the learning rate, or use SFT first."),
    Rule("reward_gap", rl.reward_gap, {"warn": (0.3, 10), "info": (0.15, 10)}, GAP, "It learns what holds for its own prompts only: use more of them, read completions, and take an earlier checkpoint."),
    Rule("component_lost", rl.component_lost, {"warn": (0.3, 10)}, H, "One reward is bought with another: read completions, and weigh the rewards anew."),
    Rule("reward_hacking", rl.reward_hacking, {"warn": (0.6, 20)}, DOCTOR, "Read completions: is it padding? Reward correctness, or punish length."),
    Rule("entropy_collapse", rl.shrunk("entropy", "The entropy", 0.89), {"stop": (0.9, 5), "warn": (0.8, 5)}, MECHANISM, "Raise epsilon_high to 0.28 or the temperature, add an entropy bonus, or lower the learning rate."),
    Rule("entropy_explosion", rl.entropy_explosion, {"stop": (3, 5), "warn": (2, 5)}, H, "Lower the learning rate, and look for gibberish in the completions."),
    Rule("kl_blow_up", rl.usual("kl", "The KL divergence from the start"), {"stop": (2, 3), "warn": (0.5, 3)}, DOCTOR, "Raise beta or lower the learning rate."),
    Rule("kl_jump", rl.kl_jump, {"warn": (5, 3)}, JUMP, "Raise beta or lower the learning rate."),
    Rule("cut_off", rl.usual("completions/clipped_ratio", "The share of completions cut off at the limit"), {"stop": (0.5, 20), "warn": (0.15, 10)}, DOCTOR, "Raise max_completion_length, punish overlong completions, or check the EOS token."),
    Rule("length_collapse", rl.shrunk("completions/mean_length", "The mean length", 0), {"stop": (0.9, 5), "warn": (0.5, 5)}, H, "Look for an empty or cheap answer that the reward pays for."),
    Rule("over_clipping", rl.usual("clip_ratio/region_mean", "The share of clipped tokens"), {"stop": (0.4, 5), "warn": (0.2, 5)}, DOCTOR, "Use fewer iterations on one batch, or a lower learning rate."),
    Rule("tool_failure", rl.usual("tools/failure_frequency", "The share of failed tool calls"), {"stop": (0.7, 10), "warn": (0.3, 5)}, H, "Mend the environment first."),
    Rule("sampler_mismatch", rl.usual("sampling/sampling_logp_difference/mean", "The difference of log-probabilities between sampler and trainer"), {"stop": (0.1, 5), "warn": (0.05, 5)}, SAMPLER, "Train with engine \"transformers\", which samples with the trainer's own weights."),
    Rule("sampler_ratio", rl.sampler_ratio, {"warn": (2, 5), "info": (1.25, 5)}, WEIGHT, "Train with engine \"transformers\", which samples with the trainer's own weights."),
    Rule("stalled", r.stalled, {"stop": (3600, 100), "warn": (60, 10)}, H, "Look at its log and at what its loader reads from; cancel it if nothing moves."),
    Rule("frozen", r.frozen, {"stop": (600, 0), "warn": (60, 0)}, H, "It is stopped, swapping or stuck in a call: cancel it and start it again."),
    Rule("out_of_memory", r.said(r.MEMORY), {"stop": (1, 0)}, TRL, "Use a smaller batch with more accumulation, gradient checkpointing, or a bigger machine."),
    Rule("no_disk", r.said(r.DISK), {"stop": (1, 0)}, H, "Free some disk, or keep fewer checkpoints (save_total_limit)."),
    Rule("device_error", r.said(r.DEVICE), {"stop": (1, 0)}, H, "A token id beyond the vocabulary, or a broken device: try a few steps on a CPU."),
)  # fmt: skip


def diagnose(points: Sequence[Point], spec: JobSpec, probe: dict[str, Any], life: Life | None = None) -> list[Finding]:
    """Everything wrong so far, worst first.

    Args:
        points: All metrics so far, in the order of steps.
        probe: The trainer's preflight.json; {} before it is there.
        life: Signs of life of its process; None where nobody looked.
    """
    run = Run(points, spec, probe, life or Life())
    found = [finding for rule in RULES if (finding := judge(rule, run))]
    return sorted(found, key=lambda finding: finding.severity, reverse=True)


def judge(rule: Rule, run: Run) -> Finding | None:
    """What one rule says, at its worst level."""
    for level, (limit, logs) in rule.limits.items():
        seen = rule.measure(run, logs)
        if seen and seen.value >= limit:
            step = run.step if seen.step is None else seen.step
            evidence = {"step": step, "value": seen.value, "limit": limit, "source": rule.source}
            return Finding(level, rule.name, seen.what, rule.advice, evidence)
    return None
