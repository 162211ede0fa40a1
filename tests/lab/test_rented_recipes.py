"""Every recipe as a job on a rented machine: sent, watched by its log while it runs, and what it made brought back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from lab.backend import JobSpec, read_json
from lab.backends.folder import log_tail, metrics, result
from lab.backends.hf_jobs import HFJobs, about_file
from recipes.catalogue import RECIPES
from recipes.weights import HEADS, load_model, load_tokenizer
from tests.conftest import until
from tests.hub import Hub, serve
from tests.recipes.test_chat import MARKS, spoken
from tests.recipes.test_resume import ROWS, SETTINGS
from tests.recipes.test_script import ROWS as FREE
from tests.recipes.test_script import SAVES, TRAINER

STEPS = 32  # enough for a probe, and longer than a second, after which its machine speaks again
FEW = {"max_steps": STEPS, "batch_size": 8, "log_steps": 1, "save_steps": 100, "warmup_steps": 1, "eval_fraction": 0}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        hub.jobs.sync_s = 0.3
        yield hub


@pytest.fixture(scope="module")
def rented(hub: Hub) -> HFJobs:
    token = hub.people.add("ada").token
    return HFJobs(lambda: HfApi(endpoint=hub.url, token=token), look=0.1)


def settings(recipe: str, folder: Path) -> dict[str, Any]:
    """What the job is asked for; all that it names is in the folder."""
    rows = FREE if recipe == "script" else ROWS[recipe]
    model = spoken(folder / "model", MARKS if recipe == "chat" else None)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"model": model, "data": str(folder / "rows.jsonl")} | FEW | SETTINGS.get(recipe, {})
    if recipe == "distill":  # a second model travels
        asked["teacher"] = spoken(folder / "teacher", None)
    if recipe == "script":
        (folder / "train.py").write_text(TRAINER + SAVES)
        asked |= {"script": str(folder / "train.py"), "pace": 1e-3, "report_to": "none"}
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_on_a_rented_machine_and_what_it_made_comes_back_and_loads(
    hub: Hub, rented: HFJobs, tmp_path: Path, recipe: str
):
    folder = tmp_path / "session" / "jobs" / f"{recipe}-1"
    rented.launch(JobSpec(folder.name, recipe, settings(recipe, tmp_path / "ours"), folder, "hf-jobs cpu-basic", 0.2))
    shutil.rmtree(tmp_path / "ours")  # its machine is another one: it has what travelled
    machine = hub.jobs.runs[read_json(about_file(folder))["id"]]
    until(lambda: metrics(folder, 0)[0] or rented.state(folder).ended)
    assert not machine.over, (rented.state(folder), log_tail(folder))  # its curve comes while it runs
    until(lambda: rented.state(folder).ended, 120)
    over, left = rented.state(folder), result(folder)
    assert over.state == "done", (over, log_tail(folder))
    assert (left["ok"], left["steps"]) == (True, STEPS)
    curve = [point for point in metrics(folder, 0)[0] if "loss" in point.values]
    assert [point.step for point in curve] == list(range(1, STEPS + 1))
    _, loaded = load_model(str(folder / "model"), False, HEADS[RECIPES[recipe].TASK], output_loading_info=True)
    assert not loaded["missing_keys"] and load_tokenizer(str(folder / "model")).eos_token
    if recipe == "rejection":
        assert len((folder / "samples.jsonl").read_text().splitlines()) == len(ROWS[recipe])
