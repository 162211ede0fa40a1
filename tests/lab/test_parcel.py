"""What travels to a rented machine with a job, and what must not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lab.backend import read_json
from lab.errors import Refused
from lab.parcel import pack, requirements
from tests.lab.test_hf_jobs import spec_in


def test_a_parcel_has_what_the_job_needs_and_nothing_else(tmp_path: Path):
    (tmp_path / "q.csv").write_text("question,answer\n")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    spec = spec_in(
        tmp_path, model="org/name", data=str(tmp_path / "rows.jsonl"), benchmark=f"table:{tmp_path / 'q.csv'}"
    )
    (tmp_path / "parcel").mkdir()
    assert pack(spec, tmp_path / "parcel") == {"model": "org/name"}
    config = read_json(tmp_path / "parcel" / "config.json")
    assert config == {"data": "@PLACE@/data.jsonl", "benchmark": "table:@PLACE@/q.csv"}
    tops = {path.name for path in (tmp_path / "parcel").iterdir()}
    assert tops == {"code", "config.json", "job.json", "data.jsonl", "q.csv"}
    pins = requirements({"benchmark": "gym:x", "quantize": "nf4"})
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins) and len(pins) == 11
    assert set(requirements({"trackio_run": "vllm"})) == set(requirements({}))
    other, vllm = set(requirements({"engine": "auto"})), set(requirements({"engine": "vllm"}))
    assert {pin.partition("==")[0] for pin in vllm - other} == {"vllm", "transformers"} and len(vllm) == len(other) + 1


def test_vllm_is_refused_where_it_could_not_sample_before_anything_is_paid(tmp_path: Path):
    spec = spec_in(tmp_path)
    for machine, config, why in (
        ("hf-jobs cpu-basic", {"engine": "vllm"}, "cpu-basic has no GPU"),
        ("hf-jobs l4x1", {"vllm_server": "http://10.0.0.1:8000"}, "cannot give its weights to a vllm_server"),
    ):
        with pytest.raises(Refused, match=why):
            pack(replace(spec, machine=machine, config=config), tmp_path / "parcel")


def test_a_parcel_takes_no_link_along_that_a_trainer_has_made(tmp_path: Path):
    secret = tmp_path / "heldout.jsonl"
    secret.write_text("HELD OUT")
    spec = spec_in(tmp_path)
    made = spec.folder.parent / "script-1" / "model"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "x.json").symlink_to(secret)
    (tmp_path / "parcel").mkdir()
    with pytest.raises(Refused, match=r"x\.json of script-1 is a link"):
        pack(replace(spec, config={"model": str(made)}), tmp_path / "parcel")
    assert "HELD OUT" not in "".join(p.read_text() for p in (tmp_path / "parcel").rglob("*") if p.is_file())
    (made / "x.json").unlink()
    pack(replace(spec, config={"model": str(made)}), tmp_path / "parcel")
