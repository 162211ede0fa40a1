"""Continued pre-training on plain text, every token learned: `python -m recipes.cpt FOLDER/config.json`."""

from recipes import sft
from recipes.job import run
from recipes.rows import Text


class Config(sft.Config):
    SHAPE = Text
    METHOD = "continued pre-training"

    packing: bool = True  # texts have any length; whole documents fill max_length
    completion_only: bool = False  # there is no prompt


main = sft.main

if __name__ == "__main__":
    run(main, Config)
