"""KTO on single answers that are good or bad (2402.01306), with TRL: `python -m recipes.kto FOLDER/config.json`."""

from typing import Any, Literal

from pydantic import Field

from recipes.job import Job, run
from recipes.limit import Limited
from recipes.preflight import look_at_feed
from recipes.rows import Labelled
from recipes.training import Parts, fit, read_rows


class Config(Limited):
    SHAPE = Labelled
    METHOD = "KTO"
    LEAST = 2
    PROBED = "cut"
    SHOWN = ("rewards/margins", "eval_rewards/margins")

    lr: float = Field(1e-4, gt=0)  # for the starter; the paper's 5e-7 to 5e-6 are for models of 1B and more
    batch_size: int = Field(64, ge=2)  # the KL term pairs a prompt with another row's answer
    eval_fraction: float = Field(0.1, ge=0, lt=1)
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    beta: float = Field(0.1, gt=0)
    good_weight: float = Field(1.0, gt=0)  # with few good rows: their share times this within 1 to 4/3 of the bad (4.2)
    bad_weight: float = Field(1.0, gt=0)


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    return fit(config, job, build, read_rows(config), look_at_feed)


def build(parts: Parts) -> Any:
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    config: Config = parts.config
    args = KTOConfig(
        **parts.arguments,
        max_length=config.max_length,
        loss_type=config.loss_type,
        beta=config.beta,
        desirable_weight=config.good_weight,
        undesirable_weight=config.bad_weight,
    )
    return KTOTrainer(model=parts.load(), args=args, **parts.common())


if __name__ == "__main__":
    run(main, Config)
