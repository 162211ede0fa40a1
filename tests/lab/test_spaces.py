"""A demo and curves become Spaces of the person: the app answers as a real process, the curves draw in a real browser."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from gradio_client import Client
from huggingface_hub import HfApi, snapshot_download
from playwright.sync_api import Browser
from safetensors.torch import load_file, save_file

from agent.settings import Settings
from lab.errors import BadInput, LabError, NotThere, Refused
from lab.models import STARTER
from lab.parcel import CPU_WHEELS
from recipes.benchmarks import Item, load
from recipes.evaluate import Config, generate
from recipes.training import load_model, load_tokenizer
from record.events import Launched, Progressed
from tests import hub as loopback
from tests.conftest import cli_environment, free_port, until
from tests.lab.test_publish import at_hub, hub, published, trained
from tests.scripted import open_lab

__all__ = ["at_hub", "hub"]  # fixtures

QUESTION = "1 + 2 - 3"


@pytest.fixture
def based(hub: loopback.Hub, at_hub) -> Settings:
    """Settings of a person at a Hub that has the starter model as lib/tiny."""
    mine = at_hub()
    api = HfApi(hub.url, token=hub.people.add("lib").token)
    api.create_repo("lib/tiny", exist_ok=True)
    api.upload_folder(repo_id="lib/tiny", folder_path=STARTER)
    return mine


def changed(place: Path) -> None:
    """Another model than the one that it was."""
    weights = load_file(place / "model.safetensors")
    save_file({name: weight * 1.3 for name, weight in weights.items()}, place / "model.safetensors", {"format": "pt"})


def adapted(place: Path) -> None:
    """An adapter instead of the whole model, as a script may leave it: our recipes merge theirs."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    adapter = get_peft_model(load_model(str(STARTER), half=False), config)
    for file in place.iterdir():
        if file.name != "config.json":  # which a model of a job has
            file.unlink()
    adapter.save_pretrained(str(place))


def answer(model, tokenizer) -> str:
    """As the judge hears it."""
    ask = Config(model="", benchmark="chains", items="", split="heldout")
    item = Item(id="", question=QUESTION, answer="")
    return next(generate(ask, load("chains"), [item], model.eval(), tokenizer))[1][0].text


@contextmanager
def running(folder: Path, env: dict[str, str]) -> Iterator[Client]:
    """The app of a Space, started as the Hub starts it, and a client of it."""
    port = free_port()
    env = env | {"GRADIO_SERVER_PORT": str(port), "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        app = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=env, stdout=log, stderr=log)
    try:
        until(lambda: "Running on local URL" in (folder / "log.txt").read_text() or app.poll() is not None, 120)
        assert app.poll() is None, (folder / "log.txt").read_text()
        yield Client(f"http://127.0.0.1:{port}", verbose=False)
    finally:
        app.kill()
        app.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole and private", "adapter and public"])
def test_a_demo_answers_what_the_judge_heard_with_a_base_of_the_hub_beside(hub, based, new_session, tmp_path, kind):
    private = "private" in kind
    session, _ = new_session(based, model="starter" if private else "lib/tiny")
    lab, journal, place = trained(based, session, score=False)
    (changed if private else adapted)(place / "model")
    to = "whole" if private else "adapter"
    lab.publish("model", to=to, public=not private)
    made = lab.publish("demo", to=f"{to}-demo", public=not private)
    api, space = HfApi(hub.url, token=based.keys["HF_TOKEN"]), f"ada/{to}-demo"
    info, (model,) = (
        api.space_info(space),
        [f.where for f in journal.log if f.kind == "published" and f.what == "model"],
    )
    assert info.private == made["private"] == private and made["where"] == f"{hub.url}/spaces/{space}/commit/{info.sha}"
    assert (info.sdk, info.card_data["models"]) == ("gradio", [f"ada/{to}", *([] if private else ["lib/tiny"])])
    assert not api.get_space_secrets(space) and api.get_space_runtime(space).requested_hardware == "cpu-basic"

    files = snapshot_download(space, repo_type="space", local_dir=tmp_path / "app", endpoint=hub.url, token=api.token)
    about = json.loads(Path(files, "demo.json").read_text())
    assert Path(files, "requirements.txt").read_text().startswith(f"--extra-index-url {CPU_WHEELS}\ntorch==")
    volumes = [volume.to_dict() for volume in api.get_space_runtime(space).volumes or []]
    if private:  # what the Hub does with a mount
        mounted = {
            "type": "model",
            "source": f"ada/{to}",
            "revision": model[-40:],
            "mountPath": "/model",
            "readOnly": True,
        }
        assert volumes == [mounted] and about["model"]["folder"] == "/model" and not about["base"]
        given = {"revision": model[-40:], "endpoint": hub.url, "token": api.token}
        about["model"]["folder"] = snapshot_download(f"ada/{to}", local_dir=tmp_path / "mount", **given)
        Path(files, "demo.json").write_text(json.dumps(about))
    else:
        assert not volumes

    tokenizer, base = load_tokenizer(str(STARTER)), load_model(str(STARTER), half=False)
    heard = [answer(base, tokenizer)]
    if private:
        heard.append(answer(load_model(str(place / "model"), half=False), tokenizer))
    else:
        from peft import PeftModel

        heard.append(answer(PeftModel.from_pretrained(base, str(place / "model")), tokenizer))
    assert heard[0] != heard[1], "or it does not show which one answers"
    env = {name: value for name, value in cli_environment(based).items() if name != "HF_TOKEN"}
    with running(Path(files), env | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}) as client:
        assert client.predict(QUESTION, api_name="/ask") == (heard[1] if private else (heard[1], heard[0]))
        with pytest.raises(Exception, match="has 5000 characters"):
            client.predict("1" * 5000, api_name="/ask")


def test_a_demo_needs_a_published_model_and_shows_nobody_what_they_may_not_read(hub, based, new_session):
    lab, journal, _ = trained(based, new_session(based, model="lib/tiny")[0], score=False)
    journal.append(Launched(job="reward-1", recipe="reward", config={}, machine="m", hours=1, folder="jobs/reward-1"))
    api = HfApi(hub.url, token=based.keys["HF_TOKEN"])
    with pytest.raises(BadInput, match="reward-1 was trained by reward: it marks texts"):
        lab.publish("demo", "reward-1", to="not")
    with pytest.raises(NotThere, match="sft-1 is not on the Hub yet; publish it with what=model"):
        lab.publish("demo", to="not")
    lab.publish("model", to="shut")
    with pytest.raises(Refused, match="ada/shut may not be read by everybody, and a public demo would let"):
        lab.publish("demo", to="not", public=True)
    assert not api.repo_exists("ada/not", repo_type="space")

    hub.faults.add("PUT /api/spaces/ada/shut-demo/volumes", status=503, times=3)
    with pytest.raises(LabError, match="cannot be reached for the mounts of ada/shut-demo"):
        lab.publish("demo", to="shut-demo")
    assert len(published(journal)) == 1, "a demo that cannot read its model is none"
    made = lab.publish("demo", to="shut-demo")["where"]
    assert (
        lab.publish("demo", to="shut-demo")["where"] == made == published(journal)[-1] and len(published(journal)) == 2
    )
    assert len(api.list_repo_commits("ada/shut-demo", repo_type="space")) == 2  # the first is the Hub's own
    puts = [path for method, _, path, status in hub.faults.asked if path.endswith("/volumes") and status == 200]
    assert len(puts) == 1

    api.update_repo_settings("ada/shut-demo", repo_type="space", private=False)
    with pytest.raises(Refused, match="a public demo would let everybody ask"):
        lab.publish("demo", to="shut-demo")


def test_curves_are_a_private_trackio_space_that_draws_from_its_own_files(
    hub, at_hub, new_session, tmp_path, browser: Browser
):
    mine = at_hub()
    session, _ = new_session(mine)
    with pytest.raises(NotThere, match="No job has logged anything yet"):
        open_lab(mine, session)[0].publish("curves")
    lab, journal, _ = trained(mine, session, score=False)
    made = lab.publish("curves", to="lines")
    api = HfApi(hub.url, token=mine.keys["HF_TOKEN"])
    info = api.space_info("ada/lines")
    assert info.private and made["private"] and info.sdk == "static" and "trackio" in info.card_data["tags"]
    assert not HfApi(hub.url, token=False).repo_exists("ada/lines", repo_type="space")
    assert lab.publish("curves", to="lines")["where"] == made["where"] and len(published(journal)) == 1

    files = snapshot_download(
        "ada/lines", repo_type="space", local_dir=tmp_path / "page", endpoint=hub.url, token=api.token
    )
    for name in ("data/metrics.parquet", "data/aux/configs.parquet", "README.md", "data/runs.json"):
        assert str(mine.home).encode() not in Path(files, name).read_bytes()
    with served(Path(files)) as url:
        page, asked, troubles = browser.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(url)
        page.get_by_text("sft-1").first.wait_for()
        page.get_by_text("loss").first.wait_for()
        page.locator("canvas, svg.marks").first.wait_for()
        page.screenshot(path=str(tmp_path / "curves.png"))
        page.close()
    assert f"{url}/data/metrics.parquet" in asked and not troubles
    assert not [one for one in asked if not one.startswith((url, "data:", "blob:"))]

    journal.append(Progressed(job="sft-1", step=9, values={"loss": 0.1}))
    again = lab.publish("curves", to="lines")["where"]
    assert again != made["where"] and len(api.list_repo_commits("ada/lines", repo_type="space")) == 3


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A static Space: its files, and nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
