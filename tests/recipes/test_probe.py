"""Three steps before step one: what they measure, what they change where memory is short, and what they leave alone."""

import json
import os
import subprocess
import sys

import pytest

from lab.backend import JobSpec
from lab.diagnose import diagnose
from recipes import probe, sft
from recipes.preflight import token_count
from recipes.training import load_tokenizer
from tests.conftest import until
from tests.recipes.rig import ROOT, STARTER, metric, run, run_sft, sft_folder, sft_rows, with_rows

SETTINGS = {
    "batch_size": 2,
    "grad_accumulation": 2,
    "max_steps": probe.FROM,
    "log_steps": 1,
    "save_steps": 100,
    "eval_steps": 15,
    "rows": 64,
}
LIMITED = """
import sys
from pathlib import Path
from resource import RLIMIT_DATA, setrlimit
from recipes import sft, training
from recipes.job import Job
training.prepare_machine()
from trl.trainer.sft_trainer import SFTTrainer
used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
setrlimit(RLIMIT_DATA, (used + int(sys.argv[2]) * 2**20,) * 2)
folder = Path(sys.argv[1])
sft.main(sft.Config.model_validate_json((folder / "config.json").read_bytes()), Job(folder))
"""


def preflight(folder):
    return json.loads((folder / "preflight.json").read_text())


def said(folder) -> dict[str, str]:
    """Findings of it, and their levels."""
    return {f.rule: f.level for f in diagnose([], JobSpec("j", "sft", {}, folder), preflight(folder))}


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return folder, run_sft(folder, **SETTINGS)


def test_memory_and_time_are_measured_before_step_one(measured):
    folder, result = measured
    seen = preflight(folder)
    assert 100 < seen["peak_mb"] <= result["peak_rss_mb"] + 1
    assert min(seen["usual_s"], seen["step_s"]) > 0
    assert seen["tokens_per_second_worst"] * seen["step_s"] <= 4 * (seen["length_max"] + 1)  # of 4 rows
    assert 0.9 < seen["eta_s"] / (probe.FROM * seen["usual_s"]) < 1.3  # and two short evaluations
    assert "fitted" not in seen


@pytest.mark.slow
def test_nothing_of_it_stays(measured, tmp_path):
    """The same job, told to be too short to be measured, ends in the same weights and the same curve."""
    folder, _ = measured
    script = "import sys; from recipes import probe, sft; from recipes.job import run; probe.FROM = 10**6; run(sft.main, sft.Config)"
    config = sft_folder(tmp_path, **SETTINGS)
    subprocess.run([sys.executable, "-c", script, str(config)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert "peak_mb" not in preflight(tmp_path)
    one, other = weights(folder), weights(tmp_path)
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert metric(folder, "loss") == metric(tmp_path, "loss")
    assert metric(folder, "num_tokens") == metric(tmp_path, "num_tokens")


@pytest.mark.slow
def test_a_few_rows_are_learned_by_heart_and_a_loss_that_does_not_fall_is_said(measured, tmp_path, monkeypatch):
    seen = preflight(measured[0])["overfit"]
    assert (seen["rows"], seen["after"] < 0.5 * seen["before"]) == (8, True)
    assert "cannot_overfit" not in said(measured[0])
    monkeypatch.setattr(probe, "FROM", 1)
    for lr in (1e-9, 1e6):  # nothing moves; nothing stays finite, or it is worse than before
        run_sft(tmp_path / str(lr), lr=lr, max_steps=1, max_grad_norm=1e9)
        assert said(tmp_path / str(lr))["cannot_overfit"] == "warn"


def test_a_loss_of_nothing_is_the_business_of_another_rule():
    """TRL's where no label is left."""
    nothing = {"overfit": {"rows": 8, "steps": 30, "before": 0.0, "after": 0.0}}
    assert diagnose([], JobSpec("j", "sft", {}, STARTER), nothing) == []


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [
        (3.4, 2.84, None),
        (3.4, 3.05, None),
        (3.4, 3.1, "warn"),
        (0.31, 0.29, None),
        (0.05, 2.0, "warn"),
        (3.4, "nan", "warn"),
    ],
)
def test_rows_that_are_not_learned_by_heart_are_said_and_those_that_were_known_are_not(before, after, level):
    """Eight rows after thirty steps are learned where their loss is below 0.3, whatever it was before."""
    seen = {"overfit": {"rows": 8, "steps": 30, "before": before, "after": after}}
    assert {f.rule: f.level for f in diagnose([], JobSpec("j", "sft", {}, STARTER), seen)}.get(
        "cannot_overfit"
    ) == level


def test_a_short_job_is_not_measured(tmp_path):
    run_sft(tmp_path, max_steps=2)
    assert "peak_mb" not in preflight(tmp_path)


def test_a_resumed_job_keeps_what_was_measured(tmp_path):
    file = tmp_path / "preflight.json"
    assert probe.again(file) == {}
    file.write_text(json.dumps({"rows": 3, "peak_mb": 700, "fitted": {"batch_size": 2}}))
    assert probe.again(file) == {"peak_mb": 700, "fitted": {"batch_size": 2}}


def test_evaluations_are_part_of_the_time():
    config = sft.Config(model="m", data="d", batch_size=8, eval_steps=50)
    assert probe.foretold({}, config, 100, 800, 16) == {}
    # 100 steps of 0.3 s, and 2 evaluations of 2 batches at a third of a step's time
    assert probe.foretold({"usual_s": 0.3}, config, 100, 800, 16)["eta_s"] == pytest.approx(30 + 4 * 0.1)
    # 25 epochs of 3 whole steps and one of 2 rows
    assert probe.foretold({"usual_s": 0.3}, config, 100, 26, 16)["eta_s"] == pytest.approx(
        25 * 3.25 * 0.3 + 0.4, abs=0.1
    )


def test_rows_that_are_packed_are_enough_for_every_step():
    """It once counted the names of the columns as tokens, and timed a step of half the rows."""
    tokenizer = load_tokenizer(str(STARTER))
    rows = [{"prompt": "Go on:", "completion": "7 " * 44} for _ in range(300)]
    fed = probe._enough(rows, 6_000, tokenizer)
    assert 6_000 * 1.25 < sum(token_count(row, tokenizer) for row in fed) < 6_000 * 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_a_batch_that_does_not_fit_is_halved_with_as_many_rows_a_step(tmp_path):
    """64 rows of 120 tokens keep 4 layers × (44 × 128 + 16 × 384) bytes a token: 345 MiB, and 320 are allowed."""
    rows = [{"prompt": "Go on:", "completion": "7 " * 120} for _ in range(100)]
    long = {
        "batch_size": 64,
        "max_steps": probe.FROM,
        "max_length": 128,
        "eval_fraction": 0,
        "save_steps": 100,
        "log_steps": 1,
    }
    config = with_rows(tmp_path, rows, **long)
    returned = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # or glibc keeps what the first try had, and it counts
    with open(tmp_path / "log.txt", "w") as log:
        job = subprocess.Popen(
            [sys.executable, "-c", LIMITED, str(tmp_path), "320"], cwd=ROOT, env=returned, stdout=log, stderr=log
        )
    until(lambda: job.poll() is not None or metric(tmp_path, "num_tokens"))  # its first step says enough
    assert job.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
    job.kill()
    job.wait()
    fitted = preflight(tmp_path)["fitted"]
    assert fitted["batch_size"] < 64
    assert fitted["batch_size"] * fitted["grad_accumulation"] == 64
    assert json.loads(config.read_text())["batch_size"] == 64


def short(rows: list[dict]) -> list[dict]:
    return [{"prompt": row["prompt"]} for row in rows]


def paired(rows: list[dict]) -> list[dict]:
    """The last one is too long for its recipe, which leaves it out."""
    made = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "7"} for row in rows]
    return [*made, made[0] | {"rejected": "7 " * 500}]


def stepwise(rows: list[dict]) -> list[dict]:
    return [{"prompt": r["prompt"], "steps": [r["completion"], "7"], "labels": [True, False]} for r in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "shape", "settings", "texts"),
    [
        ("grpo", short, {"generations": 4, "max_new_tokens": 96, "rewards": [{"kind": "format", "pattern": "7"}]}, 16),
        ("distill", short, {"teacher_prefix": "Short: ", "max_new_tokens": 96}, 16),
        ("reward", paired, {}, 32),
        ("prm", stepwise, {}, 0),
    ],
)
def test_every_method_is_measured_at_its_longest(recipe, shape, settings, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "FROM", 1)
    batch = {"batch_size": 8, "grad_accumulation": 2, "max_steps": 2, "eval_fraction": 0, "save_steps": 100}
    run(recipe, tmp_path, shape(sft_rows(64)), **batch | settings)
    seen = preflight(tmp_path)
    assert seen["peak_mb"] > 100 and seen["eta_s"] == pytest.approx(2 * seen["usual_s"], abs=0.1)
    if texts:  # num_tokens of the second step: of texts as long as they can be
        least = 96 if "max_new_tokens" in settings else 30
        assert seen["tokens_per_second_worst"] * seen["step_s"] >= texts * least
        assert seen["tokens_per_second_worst"] * seen["step_s"] <= texts * (128 + least)


def marked(rows: list[dict]) -> list[dict]:
    return [row | {"label": at % 2 == 0} for at, row in enumerate(rows)]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "shape"), [("dpo", paired), ("kto", marked), ("reward", paired), ("prm", stepwise)])
def test_what_is_compared_or_marked_is_learned_by_heart_too(recipe, shape, tmp_path, monkeypatch):
    for name, value in {"FROM": 1, "OFTEN": 12, "SHORT": 60.0}.items():  # few steps, however slow the machine
        monkeypatch.setattr(probe, name, value)
    short = {"batch_size": 8, "max_steps": 1, "eval_fraction": 0, "save_steps": 100, "max_length": 64}
    for lr, level in ((1e-3, None), (1e-9, "warn")):
        run(recipe, tmp_path / str(lr), shape(sft_rows(64)), lr=lr, **short)
        assert preflight(tmp_path / str(lr))["overfit"]["rows"] == 8
        assert said(tmp_path / str(lr)).get("cannot_overfit") == level


def test_only_the_batch_and_its_like_are_changed():
    config = sft.Config(model=str(STARTER), data="d", batch_size=4, lr=1e-4, max_length=64)
    choices = probe._choices(config, [], None, None)
    assert [c.batch_size for c in choices] == [4, 2, 1, 1]
    others = [c.model_dump(exclude={"batch_size", "grad_accumulation", "gradient_checkpointing"}) for c in choices]
    assert all(other == others[0] for other in others)
