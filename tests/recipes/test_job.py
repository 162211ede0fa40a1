import json
import subprocess
import sys

import pytest

from recipes.job import Job, out_of_memory, read_lines
from tests.recipes.rig import ROOT, sft_folder, start


def test_metrics_hide_no_nan(tmp_path):
    Job(tmp_path).log(1, 2, loss=float("nan"), grad_norm=float("-inf"), lr=0.5)
    (line,) = read_lines(tmp_path / "metrics.jsonl")
    assert (line["loss"], line["grad_norm"], line["lr"]) == ("nan", "-inf", 0.5)


def test_rewind_drops_repeated_steps_and_a_torn_line(tmp_path):
    job = Job(tmp_path)
    for step in (1, 2, 3):
        job.log(step, 3, loss=1.0 / step)
    with job.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    job.rewind(2)
    job.log(3, 3, loss=0.1)
    assert [line["step"] for line in read_lines(job.metrics)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"batch": 3}, "batch"), ({"lr": -1}, "lr"), ({"data": "/nowhere.jsonl"}, "/nowhere.jsonl cannot be read")],
)
def test_a_bad_config_is_one_sentence_and_exit_code_2(tmp_path, change, says):
    process = start("sft", sft_folder(tmp_path, **change))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert says in stderr
    assert len(stderr.strip().splitlines()) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {"ok": False, "error": stderr.strip(), "kind": "config"}


def test_a_missing_config_file_is_one_sentence(tmp_path):
    process = start("evaluate", tmp_path / "none.json")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be read" in stderr


def test_a_crash_leaves_its_sentence_and_its_traceback(tmp_path):
    recipe = (
        "from pydantic import BaseModel\n"
        "from recipes.job import run\n"
        "class Config(BaseModel): pass\n"
        "def main(config, job):\n"
        "    raise RuntimeError('the floor is gone')\n"
        "run(main, Config)\n"
    )
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-c", recipe, str(tmp_path / "config.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (done.returncode, result["kind"]) == (1, "crash")
    assert result["error"] == "RuntimeError: the floor is gone"
    assert "Traceback" in done.stderr
    assert (tmp_path / "heartbeat").exists()


def test_memory_errors_are_told_from_crashes():
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert not out_of_memory(RuntimeError("shape mismatch"))
