"""One trainer as several processes: what each of them does, how accelerate starts them, and that together they are one.

They run on the CPU here, by gloo. What accelerate makes of FSDP's settings is read off; a sharded model has not been trained.
"""

import json
import signal

import pytest

from recipes.memory import share
from recipes.processes import launcher
from recipes.recorder import COMPLETE
from recipes.sft import Config
from recipes.weights import saved
from tests.conftest import until
from tests.recipes.rig import metric, run_sft, sft_folder, start

# 192 rows, 12 steps an epoch: the last step of one that has fewer rows is filled up where there are several processes
LONG = {"max_steps": 36, "save_steps": 100, "eval_steps": 18, "eval_fraction": 0.04, "lr": 3e-4}


@pytest.mark.parametrize(
    ("batch", "times", "most", "least", "shares"),
    [
        (64, 1, 1, 1, (1, 64, 1)),
        (64, 1, 4, 1, (4, 16, 1)),  # no accumulation to give away: each has fewer rows a pass
        (8, 4, 4, 1, (4, 8, 1)),
        (8, 6, 4, 1, (4, 6, 2)),  # 12 rows of each in as few passes as rows of 8 at most allow
        (6, 1, 4, 1, (3, 2, 1)),  # the most that divide 6
        (1, 1, 8, 1, (1, 1, 1)),
        (2, 1, 2, 2, (1, 2, 1)),  # KTO learns nothing from a pass of one row
        (2, 2, 2, 2, (2, 2, 1)),
    ],
)
def test_each_process_has_as_much_of_a_step_as_any_other(batch, times, most, least, shares):
    assert share(batch, times, most, least) == shares
    count, size, passes = shares
    assert count * size * passes == batch * times


@pytest.mark.parametrize("sharded", [False, True])
def test_accelerate_reads_what_it_is_given(sharded, monkeypatch):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    given = [*launcher(4, sharded, half=False), "recipes.sft", "/job/config.json", "4"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert (args.num_processes, args.mixed_precision, args.module) == (4, "no", True)
    assert (args.use_fsdp, args.multi_gpu) == (sharded, not sharded)
    assert (args.training_script, args.training_script_args) == ("recipes.sft", ["/job/config.json", "4"])
    told = prepare_multi_gpu_env(args)
    assert args.nproc_per_node == "4" and ("ACCELERATE_USE_FSDP" in told) == sharded
    if sharded:
        for name in (name for name in told if name.startswith("FSDP_")):
            monkeypatch.setenv(name, told[name])
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
        assert plugin.transformer_cls_names_to_wrap is None  # by the model's own _no_split_modules


def test_a_checkpoint_of_an_adapter_is_the_whole_model(tmp_path):
    """What a sharded model is saved from: none of the processes has all of it."""
    from safetensors.torch import load_file
    from transformers import AutoConfig

    run_sft(tmp_path, max_steps=2, lora_rank=2)
    config = Config.model_validate_json((tmp_path / "config.json").read_bytes())
    like = AutoConfig.from_pretrained(config.model)
    again = saved(tmp_path / "checkpoints" / "checkpoint-2", config, like, half=False).state_dict()
    whole = load_file(tmp_path / "model" / "model.safetensors")
    assert all((again[name] - whole[name]).abs().max() < 1e-6 for name in whole)


@pytest.mark.slow
def test_two_processes_are_one_job_with_the_same_curve_and_go_on_after_sigterm(tmp_path):
    from transformers import AutoModelForCausalLM

    one, two = tmp_path / "one", tmp_path / "two"
    run_sft(one, **LONG)
    config = sft_folder(two, **LONG)
    first = start("sft", config, 2)
    until(lambda: len(metric(two, "loss")) > 2)
    first.terminate()
    _, told = first.communicate(timeout=120)
    assert first.returncode == 128 + signal.SIGTERM, told[-3000:]
    assert json.loads((two / "result.json").read_text())["kind"] == "stopped" and not (two / "model").exists()
    (kept,) = (two / "checkpoints").glob(f"checkpoint-*/{COMPLETE}")
    assert {path.name for path in kept.parent.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    again = start("sft", config, 2)
    _, told = again.communicate(timeout=240)
    assert again.returncode == 0, told[-3000:]
    result = json.loads((two / "result.json").read_text())
    assert result["ok"] and result["resumed_from"] == int(kept.parent.name.partition("-")[2])
    assert (result["processes"], result["accelerators"], result["sharded"]) == (2, 2, False)
    assert result["of_each"] == {"batch_size": 8, "grad_accumulation": 1, "rows_a_step": 16}
    steps = metric(two, "step")
    assert [step for step, line in zip(steps, _lines(two), strict=True) if "loss" in line] == list(range(1, 37))
    assert metric(two, "num_tokens") == metric(one, "num_tokens")
    for name in ("loss", "grad_norm", "eval_loss"):  # rounding in another order grows with the steps
        assert metric(two, name)[:5] == pytest.approx(metric(one, name)[:5], rel=1e-2), name
        assert metric(two, name) == pytest.approx(metric(one, name), rel=0.1), name
    assert AutoModelForCausalLM.from_pretrained(two / "model").num_parameters() > 10**5
    assert json.loads((two / "preflight.json").read_text())["peak_mb"] > 0  # measured once, before there were two


def _lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
