"""Which checkpoint of a job was the best, how a stopped job keeps it, and which ones nobody needs."""

import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from math import isfinite
from pathlib import Path

from lab.backend import Point, read_points
from recipes.recorder import COMPLETE, step_of

ONLY_TO_RESUME = ("optimizer", "scheduler", "rng_state", "scaler", "trainer_state", "training_args", COMPLETE)
ADAPTER = "adapter"  # where an adapter is kept until lab.merge has made a model of it
# The first that was logged says which step was best; the losses of GRPO say nothing.
JUDGES = (("eval_reward", max), ("reward", max), ("eval_loss", min), ("loss", min))


def keep_best(folder: Path, points: Sequence[Point]) -> int | None:
    """Keep the best complete checkpoint, by hard links, and return its step; None where there is none.

    It becomes the job's model; an adapter, which is no model by itself, its `adapter` (see lab.merge). Called before the
    trainer is asked to stop: what it saves then may take the place of an older checkpoint. Nothing happens where the job
    has a model already.
    """
    found = whole(folder)
    step = best_step(points, sorted(found))
    if step is None or any((folder / name).exists() for name in ("model", ADAPTER)):
        return None
    kinds = {"config.json": "model", "adapter_config.json": ADAPTER}
    name = next((name for file, name in kinds.items() if (found[step] / file).exists()), None)
    if name is None:
        return None
    scratch = folder / ".kept.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
        _link_files(found[step], scratch)
        (found[step] / COMPLETE).stat()  # the trainer takes it off before it deletes
        scratch.rename(folder / name)
    except OSError:  # the trainer deleted it meanwhile, or has just written its own
        shutil.rmtree(scratch, ignore_errors=True)
        return None
    return step


def spare(folder: Path) -> list[Path]:
    """Checkpoints of a job that is over which are neither its best nor its last complete one; none where none is complete."""
    found = _checkpoints(folder)
    steps = sorted(whole(folder))
    if not steps or len(found) <= 2 or (folder / "checkpoints").is_symlink():
        return []
    kept = {best_step(read_points(folder / "metrics.jsonl", 0)[0], steps), steps[-1]}
    return [path for step, path in sorted(found.items()) if step not in kept]


def whole(folder: Path) -> dict[int, Path]:
    """A job's complete checkpoints by their steps: what a resume can begin with."""
    return {step: path for step, path in _checkpoints(folder).items() if (path / COMPLETE).exists()}


def _checkpoints(folder: Path) -> dict[int, Path]:
    """A job's checkpoints by their steps."""
    return {step_of(path): path for path in (folder / "checkpoints").glob("checkpoint-*") if path.name[11:].isdecimal()}


def _link_files(checkpoint: Path, target: Path) -> None:
    """Hard links to a checkpoint's own files. A trainer may have put links in their place: none of them is followed."""
    folder = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    with ExitStack() as opened:

        def at(path: Path | str, within: int | None = None) -> int:
            found = os.open(path, folder, dir_fd=within)
            opened.callback(os.close, found)
            return found

        here, there = at(checkpoint.name, at(checkpoint.parent)), at(target)
        for name in os.listdir(here):
            regular = stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
            if regular and not name.startswith(ONLY_TO_RESUME):
                os.link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)


def best_step(points: Sequence[Point], steps: Sequence[int]) -> int | None:
    """The best of these steps by the metric that judges; a step is worth what was logged last up to it.

    Steps from the first value on that is not finite are worth nothing.
    """
    broken = min((p.step for p in points if not all(isfinite(v) for v in p.values.values())), default=None)
    sound = [step for step in steps if broken is None or step < broken]
    for name, better in JUDGES:
        logged = [(p.step, p.values[name]) for p in points if name in p.values and isfinite(p.values[name])]
        worth = {step: [v for s, v in logged if s <= step][-1:] for step in sound}
        judged = {step: values[0] for step, values in worth.items() if values}
        if judged:
            return better(judged, key=lambda step: judged[step])
    return sound[-1] if sound else None
