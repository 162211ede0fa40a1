"""Who samples the answers of RL: what is asked for, what is there, and what TRL is told of it; and vLLM where it is installed."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread
from typing import Any

import pytest
from pydantic import ValidationError

from lab.reach import PORTS as OPEN
from lab.reach import Reach
from recipes import grpo, probe, sampler
from recipes.job import ConfigError, problems
from recipes.training import Parts
from recipes.weights import load_tokenizer
from tests.recipes.rig import ROOT, SMALL, STARTER, metric, run, sft_rows

HERE = find_spec("vllm") is not None
OFF = "sampling/sampling_logp_difference/mean"
REWARDS = [{"kind": "format", "pattern": "7"}]
RIGHT = {"weight_transfer_config": {"backend": "nccl"}, "model_config": {"logprobs_mode": "processed_logprobs"}}


def config(**settings: Any) -> grpo.Config:
    return grpo.Config.model_validate({"model": str(STARTER), "data": "d", "rewards": REWARDS} | settings)


@contextmanager
def serving(about: dict[str, Any] | None) -> Iterator[str]:
    """The address of a server that tells this of itself as vLLM 0.31 does, or that is none of vLLM's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = about is not None and self.path == "/server_info?config_format=json"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"vllm_config": about} if known else {"detail": "Not Found"}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"engine": "sglang"}, "engine: Input should be 'auto', 'transformers' or 'vllm', not 'sglang'"),
        ({"vllm_server": "localhost:8000"}, "'localhost:8000', and no address like http://127.0.0.1:8000"),
        ({"vllm_server": "http://h:1", "engine": "transformers"}, "leave one of them out"),
        ({"vllm_memory": 1.0}, "vllm_memory: Input should be less than 1"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, says):
    with pytest.raises(ValidationError) as caught:
        config(**settings)
    assert says in problems(caught.value)


@pytest.mark.skipif(HERE, reason="vLLM is installed")
def test_without_vllm_transformers_samples_and_says_so_and_who_asks_for_vllm_is_told(capsys):
    assert sampler.chosen(config(), "cuda") == "transformers"
    assert capsys.readouterr().out == "transformers samples the answers: vLLM is not installed on this machine.\n"
    assert sampler.chosen(config(engine="transformers"), "cuda") == "transformers"
    assert capsys.readouterr().out == ""
    for asked in ({"engine": "vllm"}, {"vllm_server": "http://127.0.0.1:1"}):
        with pytest.raises(ConfigError, match=r"^vLLM is not installed on this machine; use .* 'transformers'\.$"):
            sampler.chosen(config(**asked), "cuda")


def test_a_server_that_cannot_take_weights_is_refused_in_one_sentence():
    def said(address: str) -> str:
        with pytest.raises(ConfigError) as caught:
            sampler.look_at_server(address)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "answers at http://127.0.0.1:1 ([Errno 111] Connection refused); start one: VLLM" in said(
        "http://127.0.0.1:1"
    )
    with serving(None) as other:
        assert f"answers at {other} (Not Found)" in said(other)
    with serving(RIGHT | {"weight_transfer_config": None}) as bare:
        assert f"The server at {bare} was started without --weight-transfer-config; start it so" in said(bare)
    with serving(RIGHT | {"model_config": {"logprobs_mode": "raw_logprobs"}}) as raw:
        assert "was started without --logprobs-mode processed_logprobs" in said(raw)
    with serving(RIGHT) as right:
        sampler.look_at_server(right)


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock")
def test_a_confined_job_is_told_that_no_server_can_have_its_weights(tmp_path):
    """NCCL connects to ports of its own choice (bootstrap.cc), and a job may not."""
    session = tmp_path / "home" / "sessions" / "s"
    session.mkdir(parents=True)
    reach = Reach(session, {"PATH": "/usr/bin", "HF_HOME": str(tmp_path / "hf")})
    code = "from recipes.sampler import look_at_server; look_at_server('http://127.0.0.1:29500')"
    command = [*reach.trainer(session, []), sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "ConfigError: This job may open no connection but to the web (Landlock)" in ended.stderr


def test_where_vllm_meets_itself_is_a_port_that_a_confined_job_may_use():
    assert set(sampler.PORTS) <= set(OPEN)
    port = sampler.free_port(sampler.PORTS)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        assert sampler.free_port(sampler.PORTS) not in (port, *set(range(65536)) - set(OPEN))
        with pytest.raises(ConfigError, match="are taken"):
            sampler.free_port([port])


def test_trl_is_told_who_samples_and_how_long_the_longest_can_get():
    from trl.trainer.distillation_config import DistillationConfig
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.rloo_config import RLOOConfig

    tokenizer, context = load_tokenizer(str(STARTER)), 512  # its config.json's
    longest = len(tokenizer("7 + 7 + 7")["input_ids"])

    def told(kind: type = dict, **settings: Any) -> Any:
        rows = [{"prompt": "7"}, {"prompt": "7 + 7 + 7"}]
        bare = {} if kind is dict else {"output_dir": "o", "bf16": False}
        return kind(
            **bare, **sampler.settings_of(Parts(config(**settings), "cpu", tokenizer, rows[:1], rows[1:], {}, [], []))
        )

    assert told(engine="transformers") == {}
    assert told(engine="vllm", max_new_tokens=context)["vllm_max_model_length"] == context
    for kind in (GRPOConfig, RLOOConfig, DistillationConfig):
        here = told(kind, engine="vllm", max_new_tokens=20, vllm_memory=0.25)
        assert (here.use_vllm, here.vllm_mode, here.vllm_gpu_memory_utilization) == (True, "colocate", 0.25)
        assert here.vllm_max_model_length == longest + 20
        there = told(kind, engine="vllm", vllm_server="http://127.0.0.1:8000/")
        assert (there.vllm_mode, there.vllm_server_base_url) == ("server", "http://127.0.0.1:8000")


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="vLLM is not installed")
@pytest.mark.parametrize("settings", [{"lr": 2e-3}, {"lr": 2e-2, "lora_rank": 8}], ids=["every weight", "an adapter"])
def test_vllm_samples_with_the_weights_of_each_step_and_of_a_resume(settings, tmp_path, monkeypatch):
    """An engine that kept its first weights would be off by more with each step; these have nearly none in common."""
    import torch
    import vllm._custom_ops  # pyright: ignore[reportMissingImports]

    if (
        not torch.cuda.is_available()
    ):  # its build for CPUs packs weights, and takes none after that, unless oneDNN is missing
        monkeypatch.setattr(sampler, "GPU_ONLY", None)
        monkeypatch.setattr(vllm._custom_ops, "_supports_onednn", False)
        monkeypatch.setenv("VLLM_CPU_CI_ENV", "1")  # nothing is compiled
    monkeypatch.setattr(probe, "FROM", 1)  # which throws an engine away
    rows = [{"prompt": row["prompt"]} for row in sft_rows(60)]
    asks = {"rewards": [{"kind": "length", "free": 4, "limit": 30}], "generations": 4, "max_new_tokens": 32}
    asks |= SMALL | {"max_steps": 12, "batch_size": 32, "save_steps": 6, "vllm_memory": 0.3} | settings
    here, there = tmp_path / "vllm", tmp_path / "transformers"
    assert run("grpo", here, rows, engine="vllm", **asks)["engine"] == "vllm"
    assert json.loads((here / "preflight.json").read_text())["step_s"] > 0
    lengths = metric(here, "completions/mean_length")
    assert lengths[-1] < lengths[0] / 1.5 and max(metric(here, OFF)) < 0.05
    shutil.rmtree(here / "checkpoints" / "checkpoint-12")
    probe._free(
        "cuda" if torch.cuda.is_available() else "cpu"
    )  # of the engine of that job, which had a process to itself
    assert run("grpo", here, rows, engine="vllm", **asks)["resumed_from"] == 6
    assert len(metric(here, OFF)) == 12 and max(metric(here, OFF)) < 0.05
    probe._free("cuda" if torch.cuda.is_available() else "cpu")
    run("grpo", there, rows, engine="transformers", **asks | {"max_steps": 1})
    first = metric(there, "completions/mean_length")[0]
    assert lengths[0] == pytest.approx(first, abs=6)  # 32 answers, each off by about 8: three standard errors of both
