"""What trainers are forked from. `prepare_machine` goes first: OpenMP reads its settings once, with torch."""

import gc

from recipes.training import prepare_machine

prepare_machine()

import peft  # noqa: E402, F401
import trl.trainer.sft_trainer  # noqa: E402, F401

gc.freeze()  # or each child walks through it, and copies it
