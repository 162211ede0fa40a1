"""Models of a Hub on loopback: who may have one, and that a trainer without a token finds what was fetched for it."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError, Refused
from lab.hub import Hub
from lab.models import STARTER, config_of
from tests.conftest import free_port
from tests.scripted import open_lab

TOKEN, COMMIT = "hf_mine", "c0ffee" + "0" * 34
LOADS = """
import sys
from recipes.training import load_model, load_tokenizer
print(load_tokenizer(sys.argv[1]).eos_token, load_model(sys.argv[1], half=False).num_parameters())
"""


class Door(BaseHTTPRequestHandler):
    """What the client asks of a Hub: about a model, its files, and each of them."""

    server: "LoopbackHub"

    def do_GET(self, body: bool = True) -> None:
        path, token = self.path.partition("?")[0], self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.asked.append((self.path, token))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        about = self.server.models.get(name)
        if about is None or (about["private"] and token != TOKEN):
            return self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if rest[:1] in (["auth-check"], ["resolve"]) and about["gated"] and token != TOKEN:
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        files = {file.name: file for file in STARTER.iterdir()}
        listed = [{"type": "file", "path": n, "size": f.stat().st_size, "oid": "0" * 40} for n, f in files.items()]
        if rest[:1] == ["resolve"]:
            if rest[2] not in files:
                return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            content = files[rest[2]].read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            return self.answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
        if rest[:1] == ["tree"]:
            return self.answer(200, json.dumps(listed).encode())
        siblings = [{"rfilename": one["path"], "size": about.get("size", one["size"])} for one in listed]
        told = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        return self.answer(200, json.dumps(told | {k: about[k] for k in ("private", "gated")}).encode())

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def answer(self, code: int, content: bytes, headers: dict[str, str] | None = None, body: bool = True) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class LoopbackHub(ThreadingHTTPServer):
    models = {
        "org/open": {"private": False, "gated": False},
        "org/gated": {"private": False, "gated": "manual"},
        "org/private": {"private": True, "gated": False},
        "org/huge": {"private": False, "gated": False, "size": 10**15},
    }

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.asked: list[tuple[str, str]] = []


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    made = LoopbackHub()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def env(server: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf")}


def hub_of(env: dict[str, str], token: str | None = None) -> Hub:
    return Hub(Path(env["HF_HOME"]).with_name("own"), token, env)


def said(hub: Hub, model: Path | str) -> tuple[str, str] | None:
    found = hub.look(model)
    return (found[0].rule, found[0].level) if found else None


@pytest.mark.parametrize("name", ["org/gated", "org/private", "org/none"])
def test_what_nobody_may_read_without_a_token_is_a_stop_in_one_sentence(env, name):
    (found,) = hub_of(env).look(name)
    assert (found.rule, found.level) == ("no_access", "stop")
    assert name in found.what and "HF_TOKEN" in found.what + found.advice
    assert (said(hub_of(env, TOKEN), name) is None) == (name != "org/none")


def test_a_public_model_needs_nothing_and_one_without_room_is_refused(env, server):
    assert said(hub_of(env), "org/open") is None
    assert said(hub_of(env), STARTER) is None
    assert said(hub_of(env), "org/huge") == ("no_disk", "stop")
    assert {token for _, token in server.asked} == {""}


def test_a_hub_that_does_not_answer_refuses_nothing(tmp_path):
    env = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HOME": str(tmp_path)}
    assert said(hub_of(env, TOKEN), "org/gated") == ("hub_silent", "info")


def test_whoever_else_answers_in_its_place_refuses_nothing_either(env, server, monkeypatch):
    for page in (b"<html>Sign in to this network</html>", b"{}"):
        monkeypatch.setattr(Door, "do_GET", lambda self, page=page: self.answer(200, page))
        assert said(hub_of(env, TOKEN), "org/gated") == ("hub_silent", "info")


def test_a_gated_model_is_fetched_and_a_trainer_without_a_token_loads_it(env, server, settings):
    hub = hub_of(env, TOKEN)
    config = config_of("org/gated", hub)
    assert config and config["hidden_size"] == 128  # before anything large is there
    assert said(hub, "org/gated") is None
    folder = str(hub.fetch("org/gated"))
    assert str(hub_of(env).fetch("org/gated")) == folder
    assert said(hub_of(env), "org/gated") is None  # it is cached
    server.asked.clear()
    bare = settings.job_env | env | {"HF_TOKEN_PATH": "/nowhere"}
    loaded = subprocess.run(
        [sys.executable, "-c", LOADS, folder], env=bare, capture_output=True, text=True, timeout=120
    )
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert int(loaded.stdout.split()[-1]) > 800_000
    assert not server.asked


def test_the_commit_of_a_model_is_known_where_it_is_looked_at_or_was_fetched(env, server):
    settings = {"model": "org/open", "teacher": "org/gated", "data": "/x"}
    hub = hub_of(env, TOKEN)
    assert hub.revisions(settings) == {}
    for name in ("org/open", "org/gated"):
        assert hub.look(name) == []
    assert hub.revisions(settings) == {"org/open": COMMIT, "org/gated": COMMIT}
    assert hub.revisions({"model": str(hub.fetch("org/gated"))}) == {}
    assert hub_of(env, TOKEN).revisions(settings) == {"org/gated": COMMIT}


def test_nothing_is_written_where_a_trainer_has_planted_a_link(env, tmp_path):
    elsewhere, snapshots = tmp_path / "elsewhere", tmp_path / "hf" / "hub" / "models--org--gated" / "snapshots"
    elsewhere.mkdir()
    snapshots.mkdir(parents=True)
    (snapshots / COMMIT).symlink_to(elsewhere)
    hub = hub_of(env, TOKEN)
    assert config_of("org/gated", hub) and said(hub, "org/gated") is None
    assert Path(hub.fetch("org/gated"), "config.json").is_file()
    assert not list(elsewhere.iterdir())


def test_a_public_model_is_left_to_its_trainer(env, server):
    hub = hub_of(env, TOKEN)
    assert said(hub, "org/open") is None
    assert hub.fetch("org/open") == "org/open"
    assert not [path for path, _ in server.asked if "resolve" in path]


def test_a_download_that_breaks_off_is_one_sentence(env, server):
    hub = hub_of(env, TOKEN)
    assert said(hub, "org/gated") is None
    server.shutdown()
    server.server_close()
    with pytest.raises(LabError, match="'org/gated' could not be fetched"):
        hub.fetch("org/gated")


def test_a_cache_without_all_parts_is_not_the_model(env, tmp_path):
    snapshot = tmp_path / "hf" / "hub" / "models--org--gated" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(STARTER / name, snapshot)
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert said(hub_of(env), "org/gated") == ("no_access", "stop")
    shutil.copy(STARTER / "model.safetensors", snapshot / "one.safetensors")
    for forged in ("{", "[]", "{}", '{"weight_map": {"a": 1}}'):  # the cache is a trainer's to write, too
        (snapshot / "model.safetensors.index.json").write_text(forged)
        assert said(hub_of(env), "org/gated") == ("no_access", "stop")
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert said(hub_of(env), "org/gated") is None
    assert hub_of(env).fetch("org/gated") == snapshot


def test_a_job_on_a_model_that_was_closed_meanwhile_is_refused_before_anything_starts(env, settings, new_session):
    mine = replace(settings, job_env=settings.job_env | env, keys={"HF_TOKEN": TOKEN})
    session, journal = new_session(mine, model="org/gated")
    lab, _, _ = open_lab(replace(mine, keys={}), session)
    lab.prepare("rows", "task", 50, 0.5)
    with pytest.raises(Refused, match="'org/gated' is gated, and no HF_TOKEN is set"):
        lab.train("sft", {"data": "data/rows.jsonl"}, 1.0, "", "c1", gain=0.1)
    with pytest.raises(Refused, match="is gated"):
        lab.measure("base", "dev", "c2")
    assert not journal.views.jobs
    assert [found.rule for found in journal.views.findings if found.level == "stop"] == ["no_access"] * 2
