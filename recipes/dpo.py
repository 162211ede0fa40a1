"""Preference optimisation on pairs, with TRL: `python -m recipes.dpo FOLDER/config.json`. After SFT, not instead of it.

The reference is the model as it was at the start. ORPO is not here: in TRL 1.16 it is experimental.
"""

from typing import Any, Literal

from pydantic import Field, PositiveInt

from recipes.job import Job, run
from recipes.limit import Limited
from recipes.preflight import look_at_feed
from recipes.rows import Pair
from recipes.training import Parts, fit, read_rows

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


class Config(Limited):
    SHAPE = Pair
    METHOD = "DPO"
    PROBED = "cut"
    SHOWN = ("rewards/accuracies", "rewards/margins", "eval_rewards/accuracies", "eval_rewards/margins")

    lr: float = Field(1e-4, gt=0)  # for the starter; TRL's 1e-6 is for models of 1B and more, LoRA takes ten times that
    batch_size: PositiveInt = 32  # pairs: twice as many texts
    eval_fraction: float = Field(0.1, ge=0, lt=1)  # margins and accuracies are noisier than a loss
    loss_type: Loss = "sigmoid"  # DPO, 2305.18290; ipo 2310.12036; apo_zero 2408.06266; robust 2403.00409
    beta: float = Field(0.1, gt=0)  # how dear distance from the reference is (2305.18290, section 6)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)  # share of pairs that are the wrong way round (robust, exo_pair)
    sft_weight: float = Field(0.0, ge=0)  # of the chosen answers' own loss; 1 keeps them likely (RPO, 2404.19733)


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    return fit(config, job, build, read_rows(config), look_at_feed)


def build(parts: Parts) -> Any:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    config: Config = parts.config
    losses = {config.loss_type: 1.0} | ({"sft": config.sft_weight} if config.sft_weight else {})
    args = DPOConfig(
        **parts.arguments,
        max_length=config.max_length,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        beta=config.beta,
        label_smoothing=config.label_smoothing,
    )
    return DPOTrainer(model=parts.load(), args=args, **parts.common())


if __name__ == "__main__":
    run(main, Config)
