import json
import signal
import time

import pytest

from recipes.recorder import COMPLETE, resume_point
from tests.recipes.rig import metric, run_sft, sft_folder, start

LONG = {"max_steps": 40, "save_steps": 10, "log_steps": 5, "eval_steps": 20, "lr": 3e-3}


def wait_for(path, seconds=60):
    deadline = time.time() + seconds
    while not path.exists():
        assert time.time() < deadline, f"{path} never came"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, run_sft(folder, **LONG)


def test_a_minute_of_sft_lowers_the_loss(uninterrupted):
    folder, result = uninterrupted
    losses = metric(folder, "loss")
    assert losses[-1] < losses[0] / 2
    assert metric(folder, "eval_loss")[-1] == result["eval_loss"] < losses[0]
    assert result["steps"] == 40
    assert result["tokens"] == metric(folder, "num_tokens")[-1] > 0


def test_preflight_shows_what_trl_feeds(uninterrupted):
    folder, _ = uninterrupted
    seen = json.loads((folder / "preflight.json").read_text())
    assert seen["steps"] == 40
    assert seen["vocabulary"] == 320  # the starter's config.json
    assert seen["stop_token_trained"] == 1.0
    assert seen["truncated_share"] == 0.0 and seen["max_length"] >= seen["length_max"]
    for whole, trained in zip(seen["rendered"], seen["labels"], strict=True):
        assert whole.startswith("Calculate")
        assert whole.endswith(trained)
        assert trained.endswith(seen["stop_token"])
        assert "Calculate" not in trained


def test_preflight_sees_truncation_and_the_lost_stop_token(tmp_path):
    run_sft(tmp_path, max_steps=1, max_length=30)
    seen = json.loads((tmp_path / "preflight.json").read_text())
    assert seen["truncated_share"] > 0.5
    assert seen["stop_token_trained"] < 0.5
    assert seen["length_max"] > 30


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_says_stopped(tmp_path):
    process = start("sft", sft_folder(tmp_path, **LONG | {"max_steps": 5_000, "save_steps": 5_000}))
    wait_for(tmp_path / "metrics.jsonl")
    while not metric(tmp_path, "loss"):
        time.sleep(0.01)
    asked = time.time()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert time.time() - asked < 10
    assert process.returncode == 143
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "stopped"
    assert resume_point(tmp_path / "checkpoints") is not None


def test_a_checkpoint_cut_off_by_a_kill_is_not_resumed_from(tmp_path):
    for step, complete in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / COMPLETE).touch()
    assert resume_point(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-12").exists()


def test_a_broken_learning_rate_shows_as_it_is(tmp_path):
    run_sft(tmp_path, lr=1e30, max_steps=6, schedule="constant", max_grad_norm=1e9)
    seen = metric(tmp_path, "loss") + metric(tmp_path, "grad_norm")
    assert {"nan", "inf"} & {value for value in seen if isinstance(value, str)}


def test_a_lora_run_leaves_a_whole_model(tmp_path):
    from transformers import AutoModelForCausalLM

    run_sft(tmp_path, lora_rank=4, lora_dropout=0.1, lr=3e-3, max_steps=10)
    losses = metric(tmp_path, "loss")
    assert losses[-1] < losses[0]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert (tmp_path / "model" / "generation_config.json").exists()


def test_packing_feeds_whole_documents_that_end_in_the_stop_token(tmp_path):
    result = run_sft(tmp_path, packing=True, max_length=256, batch_size=2)
    seen = json.loads((tmp_path / "preflight.json").read_text())
    assert seen["stop_token_trained"] == 1.0
    assert result["loss"] < metric(tmp_path, "loss")[0]
