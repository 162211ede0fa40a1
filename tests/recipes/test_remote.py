"""What stands beside a trainer on a rented machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from agent.settings import ROOT
from recipes.probe import again
from recipes.recorder import COMPLETE
from recipes.remote import _carry, _restore

# A trainer that would never end, and saves when it is asked to.
HANGS = """
import signal, sys, time
from pathlib import Path

def stop(*_):
    Path("model").mkdir()
    Path("model", "config.json").write_text("{}")
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
while True:
    time.sleep(0.05)
"""


def test_a_trainer_that_hangs_is_ended_at_its_deadline_and_what_it_saves_is_brought(tmp_path: Path):
    place = tmp_path / "place"
    shutil.copytree(ROOT / "recipes", place / "code" / "recipes")  # as a parcel has it
    (place / "code" / "recipes" / "hangs.py").write_text(HANGS)
    job = {"recipe": "hangs", "hours": 1.0 / 3600, "attempt": 2, "accelerators": 1}
    (place / "job.json").write_text(json.dumps(job))
    (place / "config.json").write_text("{}")
    env = os.environ | {"PYTHONPATH": str(place / "code"), "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-m", "recipes.remote", str(place)], cwd=tmp_path, env=env, timeout=60)
    left = json.loads((place / "out" / "exit.json").read_text())
    assert ran.returncode == 1 and (left["state"], left["code"], left["attempt"]) == ("timeout", 143, 2)
    assert 1.0 < left["seconds"] < 20 and left["files"] == {"model/config.json": 2}
    assert (place / "out" / "model" / "config.json").read_text() == "{}"


def test_another_machine_goes_on_with_what_was_fitted_on_the_first(tmp_path: Path):
    """Without it the settings that did not fit would be tried again, and a faster way be left in the middle."""
    first, out, second = (tmp_path / name for name in ("first", "out", "second"))
    checkpoint = first / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / COMPLETE).touch()
    (first / "metrics.jsonl").write_text('{"step": 2}\n')
    (first / "preflight.json").write_text('{"fitted": {"batch_size": 2}, "faster": {"padding_free": true}, "rows": 9}')
    out.mkdir()
    second.mkdir()
    _carry(first, out)
    _restore(out, second)
    assert again(second / "preflight.json") == {"fitted": {"batch_size": 2}, "faster": {"padding_free": True}}
    assert (second / "metrics.jsonl").read_text() == '{"step": 2}\n'
