"""How much memory a job will take, before it starts; 0 where nobody knows. Reads files of this disk only."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from heapq import nlargest
from pathlib import Path
from typing import Any

from lab import peaks
from lab.backend import LARGEST, Machine, own_file, read_json
from lab.clock import Count
from lab.hub import Hub
from lab.models import config_of, parameters, sizes, token_counter
from lab.peaks import Peak
from lab.shown import figures
from recipes.catalogue import RECIPES
from recipes.memory import MIB, RUNTIME, Shape, halves, needed_each
from recipes.training import TrainingConfig
from record.events import Found
from record.views import Job

CHARACTERS = 3  # a token, where nobody can count them; English has about 4 [H]
LONGEST = 8  # rows whose tokens are counted
FITTED = ("batch_size", "grad_accumulation", "gradient_checkpointing")  # by a trainer before its first step


@dataclass(frozen=True)
class Space:
    """A model, and the machine that a trainer has for it."""

    machine: Machine
    shape: Shape
    size: int | None = None  # parameters, where the model's files lie on this disk
    past: Sequence[Peak] = ()  # what earlier jobs have taken

    def needs(self, recipe: type[TrainingConfig], settings: Mapping[str, Any], length: int) -> int:
        """Bytes at the peak of training on each accelerator, with rows of `length` tokens.

        By recipes.memory, and corrected by what an earlier job of its kind has taken.
        """
        estimated, peak = self.corrected(recipe, settings, length)
        return int(estimated * peak.factor) if peak else estimated

    def corrected(
        self, recipe: type[TrainingConfig], settings: Mapping[str, Any], length: int
    ) -> tuple[int, Peak | None]:
        """The estimate alone, and the job by which it is corrected."""
        on, size = self.machine, self.size or self.shape.parameters
        half = halves(on.device, on.half, size, recipe.PROBED == "sampled")
        estimated = needed_each(
            self.shape, settings, length, on.device, recipe.METHOD, self.size, on.accelerators, on.bytes, recipe.LEAST, half
        )  # fmt: skip
        return estimated, peaks.nearest(self.past, self.kind(recipe, settings), estimated)

    def kind(self, recipe: type[TrainingConfig], settings: Mapping[str, Any]) -> str:
        """Of jobs whose estimates are wrong alike: a method on a model of this shape, trained whole or not, on such a device."""
        adapter = " with an adapter" if settings["lora_rank"] else ""
        return f"{recipe.METHOD}{adapter} on {self.machine.device}, {self.shape}"


def demand(
    recipe: str, config: Mapping[str, Any], past: Sequence[Peak] = (), shape: Callable[[], Shape | None] | None = None
) -> Callable[[Machine], int]:
    """Bytes that a job takes at its peak on each accelerator of a machine; of an evaluation its weights, of a script 0.

    Args:
        past: What earlier jobs have taken.
        shape: The model's, where somebody can ask the Hub for it.
    """
    folder = Path(str(config.get("model", "")))  # of a Hub model that is on this disk, too: see lab.hub
    trains = recipe in RECIPES

    @cache
    def known() -> tuple[Shape | None, int | None, int]:
        sized = shape() if shape else _shape(folder)
        return sized, parameters(folder), _length(recipe, config) if sized and trains else 0

    def needs(machine: Machine) -> int:
        sized, size, length = known()
        if sized is None or recipe == "script":
            return 0
        if not trains:
            return RUNTIME[machine.device] + 4 * (size or sized.parameters)  # the judge works in float32
        return Space(machine, sized, size, past).needs(RECIPES[recipe], RECIPES[recipe].full(config), length)

    return needs


def space_of(config: Mapping[str, Any], hub: Hub, place: Machine, past: Sequence[Peak]) -> Space | None:
    """What a job has to fit into."""
    model = config["model"]
    shape = sizes(config_of(model, hub) or {})
    return Space(place, shape, parameters(model), past) if shape else None


def learn(session: Path, job: Job, machine: Machine, result: Mapping[str, Any], findings: Sequence[Found] = ()) -> None:
    """Keep what an ended job has taken. Safe to repeat; never raises for a disk, or for what a trainer wrote.

    One whose longest rows were not tried before its first step has taken at least what was measured, and corrects no
    estimate downwards. Nothing is learned of one that starved, or whose accelerators shared its rows.
    """
    folder, shape = session / job.folder, _shape(Path(str(job.config.get("model", ""))))
    probed, rss = figures(folder).get("peak_mb", 0.0), result.get("peak_rss_mb")
    whole = rss if machine.device == "cpu" and type(rss) is int else 0
    starved = any(found.rule == "out_of_memory" for found in findings)
    apart = machine.accelerators > 1 or result.get("engine") == "vllm" or job.recipe in ("script", "evaluate")
    if shape is None or apart or starved or not (probed or whole):
        return
    try:
        kind, seen = RECIPES[job.recipe], read_json(folder / "preflight.json")
        fitted = seen.get("fitted", {})
        full = RECIPES[job.recipe].full({**job.config, **{name: fitted[name] for name in FITTED if name in fitted}})
        space = Space(machine, shape, parameters(full["model"]))
        estimated = space.needs(kind, full, _length(job.recipe, full))
        measured = int(max(probed, whole)) * MIB + (RUNTIME["cuda"] if machine.device == "cuda" else 0)  # torch's alone
        if (
            probed and not seen.get("faster")
        ) or measured > estimated:  # other ways take less, and a short job has none
            about = {"session": session.name, "job": job.id, "kind": space.kind(kind, full)}
            peaks.keep(session, Peak(**about, estimated=estimated, measured=measured))
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        logging.getLogger(__name__).warning("nothing was learned of the memory of %s: %s", job.id, error)


def tokens_of(rows: Sequence[Mapping[str, Any]], full: Mapping[str, Any], count: Count | None) -> int:
    """Tokens of the longest row, as far as it is not cut, and of what a recipe samples after it. `full` is all settings."""
    texts = nlargest(LONGEST, (row["prompt"] + row["completion"] for row in rows), key=len)
    tokens = max(count(texts) if count else [len(text) // CHARACTERS + 1 for text in texts], default=0)
    most = full.get("max_length")
    if full.get("packing") and most:
        return most
    return min(tokens, most) if most else tokens + full.get("max_new_tokens", 0)


def _length(recipe: str, config: Mapping[str, Any]) -> int:
    """Tokens of the longest row of a job's file, by bytes; of a row that is none of its recipe's, all of the line."""
    longest: list[bytes] = []
    with suppress(OSError), own_file(Path(config["data"]), os.O_RDONLY) as file:  # a trainer's to write, once it runs
        longest = nlargest(LONGEST, iter(lambda: file.readline(LARGEST), b""), key=len)
    try:
        rows = [RECIPES[recipe].SHAPE.model_validate_json(line).plain(longest=True) for line in longest]
    except ValueError:
        rows = [{"prompt": line.decode(errors="replace"), "completion": ""} for line in longest]
    return tokens_of(rows, RECIPES[recipe].full(config), token_counter(str(config["model"])))


def _shape(folder: Path) -> Shape | None:
    try:
        return sizes(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
