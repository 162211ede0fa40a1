"""Supervised fine-tuning with TRL: `python -m recipes.sft FOLDER/config.json`. Run again after a kill, it resumes."""

from typing import Any, ClassVar

from pydantic import PositiveInt

from recipes.job import Job, run
from recipes.preflight import look_at_feed
from recipes.rows import Completion
from recipes.training import Parts, TrainingConfig, fit, read_rows


class Config(TrainingConfig):
    SHAPE = Completion
    METHOD = "SFT"
    PROBED = "cut"
    PACKS: ClassVar[str] = "bfd"  # what is longer than max_length loses its end, as it does without packing

    max_length: PositiveInt = 128  # tokens; longer rows lose their end, and preflight.json says how many
    packing: bool = False
    completion_only: bool = True  # a prompt is given, so there is nothing to learn in it


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    return train(config, job, read_rows(config))


def train(config: Config, job: Job, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """SFT on these rows, and a look at what TRL feeds before step 1."""

    def look(trainer: Any, fed: list[dict[str, Any]], steps: int) -> dict[str, Any]:
        return look_at_feed(trainer, fed, config.max_length, steps)

    return fit(config, job, build, rows, look)


def build(parts: Parts) -> Any:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    config: Config = parts.config
    args = SFTConfig(
        **parts.arguments,
        max_length=config.max_length,
        packing=config.packing,
        packing_strategy=config.PACKS,
        completion_only_loss=config.completion_only,
    )
    return SFTTrainer(model=parts.load(), args=args, **parts.common())


if __name__ == "__main__":
    run(main, Config)
