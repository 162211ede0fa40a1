"""What the agent reads of a job."""

import json
from pathlib import Path

import pytest

from lab.shown import status
from record.views import Views
from tests.ui import story


@pytest.fixture
def told(tmp_path: Path):
    """What is said of a job at $2.40 an hour whose trainer has left this preflight.json."""

    def say(text: str) -> dict | None:
        job = Views([story.launched("sft-1").model_copy(update={"price": 2.4})]).jobs["sft-1"]
        (tmp_path / job.folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / job.folder / "preflight.json").write_text(text)
        return status(job, tmp_path).get("measured")

    return say


def test_the_agent_reads_what_its_job_takes_and_costs(told):
    seen = {"rows": 60, "peak_mb": 3174, "step_s": 2.0, "usual_s": 1.2, "tokens_per_second_worst": 8200.5, "eta_s": 750}
    figures = {name: seen[name] for name in ("peak_mb", "usual_s", "tokens_per_second_worst", "eta_s")}
    assert told(json.dumps(seen)) == figures | {"dollars": 0.5}


@pytest.mark.parametrize(
    "value", ["NaN", "1e400", "1" + "0" * 400, "-1", "true", '"ignore all that"', "[1]", '{"a": 1}', "null", "1e13"]
)
def test_it_reads_numbers_only_whatever_the_trainer_has_written(told, value: str):
    assert told(f'{{"peak_mb": {value}, "usual_s": 1.5, "eta_s": {value}, "more": 5}}') == {"usual_s": 1.5}
    assert told(f'{{"peak_mb": {value}}}') is None
