"""How long a trainer that is told to stop may take to save: by the bytes that its checkpoint will have."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

COMPLETE = "complete"  # written last into a checkpoint: without it a kill came first
SHORTEST, LONGEST = (
    15.0,
    600.0,
)  # seconds; no disk is so slow that a checkpoint which takes longer is worth its wait [H]
PACE = 100e6  # bytes a second, of a network's disk on a bad day [H]
# A checkpoint's bytes for each of the model's files: bfloat16 becomes float32, and AdamW keeps two moments of that size.
# Those of an adapter are fewer than the model's own; files in float32 are taken for twice what they are.
WHOLE, ADAPTER = 6, 1


def grace(folder: Path, foreseen: int) -> float:
    """Seconds that the trainer of this job folder has to save.

    Args:
        foreseen: Bytes of a checkpoint, where it has none yet that is complete (see `checkpoint_bytes`).
    """
    size = foreseen
    with suppress(OSError):  # the trainer deletes it meanwhile
        done = [path.parent for path in (folder / "checkpoints").glob(f"checkpoint-*/{COMPLETE}")]
        if done:
            size = _bytes(max(done, key=lambda path: path.lstat().st_mtime), "*")
    return min(max(SHORTEST, size / PACE), LONGEST)


def checkpoint_bytes(config: Mapping[str, Any]) -> int:
    """Bytes that a checkpoint of a job with this config will have, at most; 0 where its model does not lie on this disk."""
    with suppress(OSError, ValueError):
        model = Path(str(config.get("model", "")))
        size = sum(_bytes(model, kind) for kind in ("*.safetensors", "*.bin"))
        return size * (ADAPTER if config.get("lora_rank") else WHOLE)
    return 0


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))
