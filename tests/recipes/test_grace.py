"""How long a trainer may take to save: the files are as large as real ones, and empty."""

from pathlib import Path

import pytest

from recipes.grace import LONGEST, SHORTEST, checkpoint_bytes, grace
from recipes.recorder import COMPLETE

SEVEN_B = 15_231_271_888  # bytes of a 7B model's files in bfloat16


def file_of(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    file_of(tmp_path / "model" / "model-00001-of-00002.safetensors", SEVEN_B // 2)
    return str(file_of(tmp_path / "model" / "model-00002-of-00002.safetensors", SEVEN_B // 2).parent)


def test_the_larger_the_model_the_longer_it_may_save(tmp_path, model):
    whole = checkpoint_bytes({"model": model})
    assert 80e9 < whole < 100e9  # 7.6 billion parameters: 4 bytes each, and 8 of AdamW's
    assert grace(tmp_path, whole) == LONGEST
    assert 120 < grace(tmp_path, checkpoint_bytes({"model": model, "lora_rank": 16})) < 180
    assert grace(tmp_path, checkpoint_bytes({"model": "org/not-here"})) == grace(tmp_path, 0) == SHORTEST


def test_a_checkpoint_that_is_there_says_how_large_the_next_one_is(tmp_path, model):
    foreseen, saved = checkpoint_bytes({"model": model}), tmp_path / "checkpoints"
    file_of(saved / "checkpoint-10" / "optimizer.pt", 3_000_000_000)
    assert grace(tmp_path, foreseen) == LONGEST  # half of it, maybe
    (saved / "checkpoint-10" / COMPLETE).touch()
    assert grace(tmp_path, foreseen) == pytest.approx(30)
