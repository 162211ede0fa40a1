"""What the rules of lab.diagnose measure on GRPO and its kin: rewards, entropy, lengths (see lab.rules). Pure."""

from math import sqrt
from statistics import correlation, fmean, median

from lab.rules import Measure, Run, Seen, ends, lost, noise


def usual(name: str, words: str) -> Measure:
    """The median of a metric of GRPO over the last log lines; a fifth less where the reward has risen."""

    def measure(run: Run, logs: int) -> Seen | None:
        values = run.values(name)[-logs:] if "reward" in run.curves else []
        if len(values) < logs:
            return None
        return Seen(
            median(values) * (0.8 if run.gained else 1),
            f"{words} is {median(values):.3g} in the last {logs} log lines.",
        )

    return measure


def kl_jump(run: Run, logs: int) -> Seen | None:
    """Times the median KL divergence of all log lines before that the last ones have; 0 below 0.1 nats."""
    values = run.values("kl") if "reward" in run.curves else []
    before, now = values[:-logs], median(values[-logs:] or [0.0])
    if len(before) < 10 or now < 0.1:
        return None
    usual_one = max(median(before), 1e-9)
    return Seen(now / usual_one, f"The KL divergence from the start is {now:.3g}; {usual_one:.3g} was usual.")


def sampler_ratio(run: Run, logs: int) -> Seen | None:
    """How far the mean weight by which TRL corrects for another sampler is from 1: the weight, or 1 over it."""
    values = run.values("sampling/importance_sampling_ratio/mean")[-logs:]
    if len(values) < logs:
        return None
    ratio = max(median(values), 1e-9)
    return Seen(
        max(ratio, 1 / ratio), f"The mean weight of what was sampled is {ratio:.3g} in the last {logs} log lines."
    )


ENOUGH = 16  # groups: that all of so many are equal by chance, although a fifth of all are not, has 3 %


def before(name: str, words: str) -> Measure:
    """Share of the answers that the trainer sampled before step one (recipes.answers)."""

    def measure(run: Run, logs: int) -> Seen | None:
        asked = run.probe.get("answers", {})
        if name not in asked:
            return None
        longest = f"; the longest has {asked['longest']} tokens, and {asked['limit']} are allowed"
        what = f"{asked[name]:.0%} of {asked['answers']} answers before step one {words}{longest}."
        accepts = asked.get("unaccepted", 1) < 1  # rejection sampling trains on those alone: a warning at most
        return Seen(min(asked[name], 0.94) if accepts else asked[name], what, 0)

    return measure


def nothing_to_learn(run: Run, logs: int) -> Seen | None:
    """Share of groups of answers before step one whose rewards are all equal; at most 0.99 of fewer than 16 groups."""
    asked = run.probe.get("answers", {})
    if not asked or "unaccepted" in asked:
        return None
    how = f"of which {asked['solved']:.0%} of all are solved" if asked["solved"] else "and none is solved"
    what = f"Of {asked['prompts']} groups of answers before step one, {asked['equal']:.0%} have equal rewards, {how}"
    share = asked["equal"] if asked["prompts"] >= ENOUGH else min(asked["equal"], 0.99)
    return Seen(share, f"{what}; the mean reward is {asked['reward']:.3g}.", 0)


def none_accepted(run: Run, logs: int) -> Seen | None:
    """Share of the first prompts of rejection sampling without an accepted answer; at most 0.99 of fewer than 16."""
    asked = run.probe.get("answers", {})
    if "unaccepted" not in asked:
        return None
    share = asked["unaccepted"] if asked["prompts"] >= ENOUGH else min(asked["unaccepted"], 0.99)
    what = f"{asked['unaccepted']:.0%} of {asked['prompts']} prompts have no accepted answer"
    return Seen(share, f"{what}; the mean reward of {asked['answers']} answers is {asked['reward']:.3g}.", 0)


def no_signal(run: Run, logs: int) -> Seen | None:
    """Share of groups whose rewards are all equal; a fifth less where the reward has risen: it may have learned all.

    TRL's own share misses a constant 0.2, whose deviation is 1.5e-8 in float32: a reward_std below 0.001 counts as well.
    """
    lines = [p.values for p in run.points if "frac_reward_zero_std" in p.values]
    shares = [max(v["frac_reward_zero_std"], v.get("reward_std", 1.0) < 1e-3) for v in lines]
    if len(shares) < logs:
        return None
    share = fmean(shares[-logs:])
    return Seen(
        share * (0.8 if run.gained else 1),
        f"{share:.0%} of the groups of the last {logs} log lines have equal rewards.",
    )


def shrunk(name: str, words: str, spent: float) -> Measure:
    """Share of the first value of a metric of GRPO that is lost; at most `spent` where the reward has risen by it."""

    def measure(run: Run, logs: int) -> Seen | None:
        first, now = ends(run.values(name), logs) if "reward" in run.curves else (0, 0)
        share = min(1 - now / first, spent if run.gained else 1) if first else 0
        return Seen(
            share,
            f"{words} went from {first:.3g} to {now:.3g}, and the reward {'rose' if run.gained else 'did not rise'}.",
        )

    return measure


def no_eos(run: Run, logs: int) -> Seen | None:
    """Least share of completions that are cut off, over the first log lines; a distilled one need not end."""
    shares = run.values("completions/clipped_ratio")[:logs] if "reward" in run.curves else []
    least = min(shares) if len(shares) == logs else 0.0
    return Seen(least, f"No completion of the first {logs} log lines ended by itself.")


def reward_collapse(run: Run, logs: int) -> Seen | None:
    """Share of the best reward that is lost."""
    share, best, now = lost(run.values("reward"), logs)
    return Seen(share, f"The reward is {now:.3g}, and its best was {best:.3g}.")


def reward_flat(run: Run, logs: int) -> Seen | None:
    """Share of the steps in which the reward was never above its beginning by more than noise, although groups differ."""
    rewards, shares = run.values("reward"), run.values("frac_reward_zero_std")[-logs:]
    if min(len(rewards), len(shares)) < logs or fmean(shares) >= 0.5:  # without a spread, no_signal says why
        return None
    means = [fmean(rewards[i : i + 5]) for i in range(len(rewards) - 4)]
    if max(means) - means[0] > 3 * noise(rewards) * sqrt(2 / 5):
        return None
    what = f"The reward is {means[-1]:.3g} at step {run.step} of {run.steps}, and was {means[0]:.3g} at first."
    return Seen(run.step / run.steps, what)


def reward_gap(run: Run, logs: int) -> Seen | None:
    """Share of the training reward that evaluations have not gained since the first two; 0 within their noise."""
    curve, held = run.curves.get("reward", []), run.curves.get("eval_reward", [])
    if len(held) < 4 or len(curve) < 2 * logs:
        return None
    first = [v for s, v in curve if s <= max(held[1][0], curve[logs - 1][0])][-logs:]
    now, evals = fmean(v for _, v in curve[-logs:]), [v for _, v in held]
    gap = now - fmean(first) - (fmean(evals[-2:]) - fmean(evals[:2]))
    if now <= 0 or gap <= 2 * noise(evals):
        return None
    return Seen(
        gap / now, f"The reward rose from {fmean(first):.3g} to {now:.3g}, and by {gap:.3g} less in evaluations."
    )


def component_lost(run: Run, logs: int) -> Seen | None:
    """Share of the best of one reward that is lost while the sum of all rewards has risen."""
    names = [n for n in run.curves if n.startswith("rewards/") and n.endswith("/mean")] if run.gained else []
    share, best, now, name = max(((*lost(run.values(name), logs), name) for name in names), default=(0, 0, 0, ""))
    return Seen(share, f"The reward rises, but {name} fell from {best:.3g} to {now:.3g}.")


def entropy_explosion(run: Run, logs: int) -> Seen | None:
    """Times the first entropy, once it is half a nat more."""
    first, now = ends(run.values("entropy"), logs) if "reward" in run.curves else (0, 0)
    return (
        Seen(now / first, f"The entropy went from {first:.3g} to {now:.3g} nats.")
        if first and now - first > 0.5
        else None
    )


def reward_hacking(run: Run, logs: int) -> Seen | None:
    """Correlation of reward and mean length over the run, once completions are half as long again and the reward rose."""
    names = ("completions/mean_length", "reward")
    pairs = [(p.values[names[0]], p.values[names[1]]) for p in run.points if p.values.keys() >= set(names)]
    first, now = ends([length for length, _ in pairs], 5)
    if len(pairs) < logs or not first or now < 1.5 * first or not run.gained:
        return None
    tie = correlation([a for a, _ in pairs], [b for _, b in pairs])
    return Seen(tie, f"The reward follows the length (r = {tie:.2f}), which grew from {first:.3g} to {now:.3g} tokens.")
