"""Continued pre-training on plain text, every token learned: `python -m recipes.cpt FOLDER/config.json`."""

from typing import Any, Literal

from pydantic import PositiveInt

from recipes import sft
from recipes.job import Job, run
from recipes.preflight import without
from recipes.rows import Text
from recipes.training import fit, read_rows


class Config(sft.Config):
    SHAPE = Text
    METHOD = "continued pre-training"
    PACKS = "bfd_split"

    max_length: PositiveInt = 128  # tokens of a piece, which are packed into rows as long
    packing: Literal[True] = True
    completion_only: Literal[False] = False  # there is no prompt


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    look = without("stop_token_trained", "truncated_share")  # a long text is cut into pieces, and nothing of it is lost
    return fit(config, job, sft.build, read_rows(config), look)


if __name__ == "__main__":
    run(main, Config)
