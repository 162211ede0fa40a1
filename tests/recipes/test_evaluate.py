import json
from hashlib import sha256

import pytest

from recipes.benchmarks import load
from recipes.evaluate import Config, main
from recipes.job import ConfigError, Job
from recipes.seal import file_hash, judge_hash, model_hash
from tests.recipes.rig import STARTER, metric


def judge(folder, **config):
    items = load("chains").items("dev", 24)
    (folder / "asked.jsonl").write_text("".join(item.model_dump_json() + "\n" for item in items))
    settings = {"model": str(STARTER), "benchmark": "chains", "items": str(folder / "asked.jsonl"), "split": "dev"}
    return items, main(Config.model_validate(settings | config), Job(folder))


def test_every_item_is_marked_in_order_and_the_score_is_sealed(tmp_path):
    items, result = judge(tmp_path, batch_size=10)
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [item.id for item in items]
    chains = load("chains")
    assert all(row["correct"] == chains.score(row["output"], item) for row, item in zip(rows, items, strict=True))
    assert result["value"] == sum(row["correct"] for row in rows) / 24
    assert result["seal"] == {
        "judge": judge_hash("chains"),
        "split": sha256((tmp_path / "asked.jsonl").read_bytes()).hexdigest(),
        "model": model_hash(STARTER),
    }
    assert metric(tmp_path, "step")[-1] == 24


def test_the_order_and_the_batch_size_do_not_move_the_outputs(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    judge(tmp_path / "a", batch_size=24)
    judge(tmp_path / "b", batch_size=7)
    outputs = [
        [json.loads(line)["extracted"] for line in (tmp_path / side / "items.jsonl").read_text().splitlines()]
        for side in "ab"
    ]
    assert outputs[0] == outputs[1]


def test_several_samples_are_scored_by_their_share(tmp_path):
    _, result = judge(tmp_path, samples=4, temperature=1.0)
    row = json.loads((tmp_path / "items.jsonl").read_text().splitlines()[0])
    assert len(row["others"]) == 3
    assert row["correct"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert 0 <= result["value"] <= 1


def test_samples_without_a_temperature_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="set a temperature"):
        judge(tmp_path, samples=4)


def test_a_changed_byte_changes_the_model_hash(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("a card")
    before = model_hash(tmp_path)
    (tmp_path / "README.md").write_text("another card")
    assert model_hash(tmp_path) == before
    (tmp_path / "config.json").write_text("{}")
    assert model_hash(tmp_path) != before
    assert file_hash(tmp_path / "config.json") == sha256(b"{}").hexdigest()


def test_benchmarks_have_different_judges():
    hashes = {judge_hash(name) for name in ("chains", "lists", "gym:chain_sum", "table:x.csv")}
    assert len(hashes) == 4
    with pytest.raises(ValueError, match="no benchmark"):
        judge_hash("base")
