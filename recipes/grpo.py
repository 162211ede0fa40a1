"""RL on verifiable rewards with TRL: sample a group of answers a prompt, push the better, hold off the worse.

`python -m recipes.grpo FOLDER/config.json`. GRPO (2402.03300) or RLOO (2402.14740). Loss and clip ratios of 0 are
normal with one pass a batch: judge by reward, reward_std, frac_reward_zero_std, lengths and entropy.
"""

import json
from collections.abc import Callable
from math import ceil
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from recipes.answers import before_step_one
from recipes.job import Job, run
from recipes.rewards import Rewarded, Rule
from recipes.sampler import Sampled, decided, settings_of, settled
from recipes.training import Parts, fit, look_at_rows, read_rows

COLUMNS = ("question", "answer", "tests", "origin")


class Config(Sampled, Rewarded):
    METHOD = "GRPO"
    PROBED = "sampled"
    SHOWN = (
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "completions/clipped_ratio",
        "entropy",
        "kl",
        "eval_reward",
    )

    algorithm: Literal["grpo", "rloo"] = "grpo"
    lr: float = Field(3e-5, gt=0)  # for the starter, where 1e-4 hurt and 2e-4 collapsed; TRL's 1e-6 is for 1B and more
    batch_size: PositiveInt = 256  # answers a device
    generations: int = Field(8, ge=2)  # answers a prompt
    beta: float = Field(0.0, ge=0)  # of the KL to the start; 0 is TRL's, and logs no kl
    epsilon_high: float = Field(0.28, gt=0)  # clip-higher, DAPO 2503.14476
    loss_type: Literal["dapo", "dr_grpo", "bnpo", "grpo"] = "dapo"  # GRPO only; dr_grpo 2503.20783
    scale_rewards: Literal["group", "batch", "none"] = "group"  # GRPO only; none in Dr. GRPO
    mask_truncated: bool = False  # an answer that was cut off teaches nothing
    warmup_steps: int = Field(3, ge=0)  # runs are short
    eval_fraction: float = Field(0.0, ge=0, lt=1)  # answers cost more than gradients; `evaluate` measures dev

    @model_validator(mode="after")
    def groups_are_whole(self) -> "Config":
        rows = self.batch_size * self.grad_accumulation
        if rows % self.generations:
            raise ValueError(
                f"batch_size × grad_accumulation = {rows} is no multiple of generations = {self.generations}"
            )
        return self


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ in the job's folder."""
    config = decided(config)
    rows = [row | {"origin": json.dumps(row["origin"])} for row in read_rows(config)]  # Arrow has no empty objects

    def look(trainer: Any, fed: list[dict[str, Any]], steps: int) -> dict[str, Any]:
        seen = look_at_rows(trainer, fed, steps)
        asked = {} if trainer.state.global_step else before_step_one(trainer, config, fed, steps)
        return seen | ({"answers": asked} if asked else {})

    return fit(config, job, build, rows, look) | {"engine": config.engine}


def build(parts: Parts) -> Any:
    config: Config = parts.config
    rules = config.rules()
    args = {
        "num_generations": config.generations,
        "per_device_eval_batch_size": ceil(config.batch_size / config.generations) * config.generations,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "beta": config.beta,
        "epsilon_high": config.epsilon_high,
        "mask_truncated_completions": config.mask_truncated,
        "reward_weights": [rule.weight for rule in rules],
    }
    args |= settings_of(parts)
    given = {"model": parts.load(), "reward_funcs": [as_function(rule) for rule in rules]} | parts.common()
    if config.algorithm == "rloo":
        from trl.trainer.rloo_config import RLOOConfig
        from trl.trainer.rloo_trainer import RLOOTrainer

        trainer = RLOOTrainer(args=RLOOConfig(**parts.arguments | args), **given)
    else:
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer

        args |= {"loss_type": config.loss_type, "scale_rewards": config.scale_rewards}
        trainer = GRPOTrainer(args=GRPOConfig(**parts.arguments | args), **given)
    return settled(trainer, config)


def as_function(rule: Rule) -> Callable[..., list[float]]:
    """A rule as TRL calls it: lists of answers and of every column. Its name is the curve's: rewards/<kind>/mean."""

    def reward(completions: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
        rows = ({name: columns[name][at] for name in COLUMNS} for at in range(len(texts)))
        rows = (row | {"origin": json.loads(row["origin"])} for row in rows)
        return [rule.score(text, len(ids), row) for text, ids, row in zip(texts, completion_ids, rows, strict=True)]

    reward.__name__ = rule.kind  # type: ignore[attr-defined]
    return reward


if __name__ == "__main__":
    run(main, Config)
