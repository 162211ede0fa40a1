"""Trainers that are processes of their own, forked from one that has torch and TRL loaded: a start costs no imports."""

import os
import sys
from importlib import import_module
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.conftest import forks


def start(recipe: str, folder: Path) -> ForkServerProcess:
    """The recipe on folder/config.json as a launcher runs it; what it prints goes to folder/log.txt."""
    process = forks("tests.recipes.loaded").Process(target=_main, args=(recipe, folder), daemon=True)
    process.start()
    return process


def _main(recipe: str, folder: Path) -> None:
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [recipe, str(folder / "config.json")]
    module = import_module(f"recipes.{recipe}")
    from recipes.job import run

    run(module.main, module.Config)
