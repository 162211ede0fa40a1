"""What this machine has, and that a model beyond it is refused before anything is loaded."""

import json
import os
import shutil

import psutil
import pytest

from lab.backend import Machine
from lab.demand import demand
from lab.errors import BadInput, Refused
from lab.hub import Hub
from lab.machine import memory, this_machine
from lab.models import STARTER, config_of, parameters
from tests.scripted import open_lab

HERE = Machine("local CPU, 2 cores", "cpu", 16 * 2**30, None)


def test_memory_is_that_of_the_gpu_or_of_the_container():
    device, size = memory()
    assert this_machine().startswith("local CPU") == (device == "cpu")
    assert size > 2**28
    assert device == "cuda" or size <= psutil.virtual_memory().total


def test_a_model_says_its_sizes_without_its_weights(tmp_path):
    seen = config_of(STARTER, Hub(tmp_path))
    assert seen
    assert seen["hidden_size"] == 128
    for forged in ("{", "[1]", "[" * 100_000):
        (tmp_path / "config.json").write_text(forged)
        assert config_of(tmp_path, Hub(tmp_path / "own")) is None
        assert demand("evaluate", {"model": str(tmp_path)})(HERE) == 0


def test_sizes_that_are_none_are_unknown_and_a_pipe_for_weights_holds_nobody_up(tmp_path):
    seen = json.loads((STARTER / "config.json").read_text())
    for other in (
        {"text_config": seen | {"intermediate_size": [256, 512]}},  # Gemma 3n's: one for each layer
        {"text_config": "none"}, seen | {"hidden_size": "128"}, seen | {"hidden_size": 10**400},
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(other))
        assert demand("evaluate", {"model": str(tmp_path)})(HERE) == 0
    (tmp_path / "config.json").write_text(json.dumps(seen))
    weights = tmp_path / "model.safetensors"
    for header in (b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]"):
        weights.write_bytes(header)
        assert parameters(tmp_path) is None and demand("evaluate", {"model": str(tmp_path)})(HERE) > 0
    weights.unlink()
    os.mkfifo(weights)
    assert parameters(tmp_path) is None


def test_a_model_that_no_machine_holds_is_refused_before_its_weights_are_there(tmp_path, settings, new_session):
    """A config of ten trillion parameters with the starter's tokenizer, and no weights at all."""
    model = tmp_path / "model"
    shutil.copytree(STARTER, model, ignore=shutil.ignore_patterns("*.safetensors"))
    giant = json.loads((STARTER / "config.json").read_text())
    giant |= {"hidden_size": 65_536, "num_hidden_layers": 256, "intermediate_size": 196_608, "head_dim": 16_384}
    (model / "config.json").write_text(json.dumps(giant))
    lab, _, journal = open_lab(settings, new_session(model=str(model))[0])
    lab.prepare("rows", "task", 50, 0.5)
    with pytest.raises(Refused, match=r"Training takes about .* GiB with rows of \d+ tokens"):
        lab.train("sft", {"data": "data/rows.jsonl"}, 1.0, "", "c1", gain=0.1)
    assert not journal.views.jobs
    (found,) = [found for found in journal.views.findings if found.level == "stop"]
    assert (found.rule, found.evidence["has_bytes"]) == ("no_memory", memory()[1])


def test_no_job_has_hours_without_end(settings, new_session):
    """A log cannot hold that number, and would not be read again."""
    lab, _, _ = open_lab(settings, new_session()[0])
    with pytest.raises(BadInput, match="inf hours is no time to train in"):
        lab.train("sft", {}, float("inf"), "", "c1", gain=0.1)
