"""What this machine has, and that a model beyond it is refused before anything is loaded."""

import json
import shutil

import psutil
import pytest

from lab.errors import Refused
from lab.hub import Hub
from lab.machine import memory, this_machine
from lab.models import STARTER, config_of
from tests.scripted import open_lab


def test_memory_is_that_of_the_gpu_or_of_the_container():
    device, size = memory()
    assert this_machine().startswith("local CPU") == (device == "cpu")
    assert size > 2**28
    assert device == "cuda" or size <= psutil.virtual_memory().total


def test_a_model_says_its_sizes_without_its_weights(tmp_path):
    seen = config_of(STARTER, Hub())
    assert seen
    assert seen["hidden_size"] == 128
    (tmp_path / "config.json").write_text("{")
    assert config_of(tmp_path, Hub()) is None


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
