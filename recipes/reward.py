"""A reward model: one number a text, higher for the better of a pair. `python -m recipes.reward FOLDER/config.json`

model/ is transformers' AutoModelForSequenceClassification with one label. It marks answers; it writes none.
"""

from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from recipes.job import Job, run
from recipes.limit import Limited
from recipes.preflight import without
from recipes.rows import Pair
from recipes.training import Parts, fit, read_rows


class Config(Limited):
    SHAPE = Pair
    METHOD = "a reward model"
    TASK = "SEQ_CLS"
    HEAD: ClassVar = {"num_labels": 1}
    PROBED = "left out"
    SHOWN = ("accuracy", "margin", "eval_accuracy", "eval_margin")  # share of pairs ranked right; eval_: held out

    batch_size: PositiveInt = 32  # pairs: twice as many texts
    eval_fraction: float = Field(0.1, ge=0, lt=1)
    center: float = Field(0.0, ge=0)  # pulls the mean reward to 0; 0.01 in 2312.09244


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    look = without("labels", "masked_share", "stop_token_trained")  # it learns no text
    return fit(config, job, build, read_rows(config), look)


def build(parts: Parts) -> Any:
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    config: Config = parts.config
    args = RewardConfig(
        **parts.arguments,
        max_length=config.max_length,
        center_rewards_coefficient=config.center or None,
    )
    model = parts.load("SequenceClassification", **config.HEAD)
    return RewardTrainer(model=model, args=args, **parts.common())


if __name__ == "__main__":
    run(main, Config)
