"""What stands beside a trainer on a rented machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from agent.settings import ROOT

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
