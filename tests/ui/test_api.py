"""The REST door against real files: what it appends, what it tells, what it keeps to itself."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.settings import ROOT
from record.events import Closed, Decided, Ended, Halted, Opened, Said
from tests.hub import serve
from tests.ui import story
from tests.ui.conftest import Site
from ui.apidoc import document
from ui.firstrun import _hub, _storage


def test_say_stop_and_decide_append_one_fact_each(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    before = len(log)
    assert http.post(
        f"/api/sessions/{name}/decide", json={"call": "c9", "allow": True, "arguments": {"lr": 1}}
    ).is_success
    assert http.post(f"/api/sessions/{name}/say", json={"text": " more rows "}).is_success
    assert http.post(f"/api/sessions/{name}/stop", json={}).is_success
    log.refresh()
    decided, said, halted = log[before:]
    assert isinstance(decided, Decided) and (decided.call, decided.allow, decided.arguments) == ("c9", True, {"lr": 1})
    assert isinstance(said, Said) and said.text == "more rows"
    assert isinstance(halted, Halted)


def test_a_second_decision_is_refused_in_one_sentence(site: Site, http: httpx.Client):
    name, _ = site.session(story.beginning)
    http.post(f"/api/sessions/{name}/decide", json={"call": "c9", "allow": False})
    again = http.post(f"/api/sessions/{name}/decide", json={"call": "c9", "allow": True})
    assert again.status_code == 422
    assert "Nothing waits" in again.json()["error"]


def test_a_session_is_opened_from_the_fields_of_a_request(site: Site, http: httpx.Client):
    answer = http.post("/api/sessions", json={"task": "chains", "target": 0.5, "hours": 0.1, "driver": "autopilot"})
    assert answer.status_code == 201, answer.text
    name = answer.json()["session"]
    state = http.get(f"/api/sessions/{name}").json()
    assert (state["goal"]["task"], state["goal"]["target"], state["state"]) == ("chains", 0.5, "working")
    first = json.loads(http.get(f"/api/sessions/{name}/log").text.splitlines()[0])
    assert first["kind"] == "opened"
    assert name in [s["id"] for s in http.get("/api/sessions").json()]
    http.post(f"/api/sessions/{name}/stop", json={})


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"task": "chains", "target": 3}, "target"),
        ({"task": "no such task"}, "no such task"),
        ({"task": "chains", "hours": "soon"}, "hours"),
        ({"task": "chains", "hours": "soon"}, "'soon'"),
        ({"task": "chains", "colour": "red"}, "colour"),
        ({}, "task"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(http: httpx.Client, body: dict, word: str):
    answer = http.post("/api/sessions", json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert word in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_the_demo_needs_nothing(site: Site, http: httpx.Client):
    name = http.post("/api/demo", json={"seed": 7}).json()["session"]
    opened = json.loads((site.settings.sessions / name / "events.jsonl").read_text().splitlines()[0])
    assert Opened.model_validate(opened).seed == 7
    http.post(f"/api/sessions/{name}/stop", json={})


def test_the_state_is_the_fold_of_the_log(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    state = http.get(f"/api/sessions/{name}").json()
    assert state["best_model"] == "sft-2" and state["state"] == "waiting for you"
    assert [job["id"] for job in state["jobs"]] == ["sft-1", "sft-2"]
    assert state["spent"]["dollars"] == pytest.approx(0.21)
    log.append(*story.ending())
    assert http.get(f"/api/sessions/{name}").json()["state"] == "stopped"


def test_the_list_follows_a_log_that_grows(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    states = lambda: {s["id"]: s["state"] for s in http.get("/api/sessions").json()}  # noqa: E731
    assert states()[name] == "waiting for you"
    log.append(*story.ending())
    assert states()[name] == "stopped"


def test_the_report_comes_as_markdown_or_not_at_all(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    missing = http.get(f"/api/sessions/{name}/report")
    assert missing.status_code == 404 and "no report yet" in missing.json()["error"]
    (log.path.parent / "report.md").write_text("# Chains\n")
    report = http.get(f"/api/sessions/{name}/report")
    assert report.text == "# Chains\n" and report.headers["content-type"] == "text/markdown; charset=utf-8"


def test_a_session_that_is_not_there_is_one_sentence(http: httpx.Client):
    for path in ("nope-0000", "..%2f..%2fetc", "UPPER"):
        for tail in ("", "/events", "/log", "/report"):
            answer = http.get(f"/api/sessions/{path}{tail}")
            assert answer.status_code == 404


def test_a_person_keeps_and_changes_a_session_by_the_door(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    at = f"/api/sessions/{name}"
    assert http.post(f"{at}/rename", json={"title": "Chains"}).is_success
    assert http.post(f"{at}/share", json={"public": True}).is_success
    assert http.post(f"{at}/tune", json={"budget": {"dollars": 5}, "approval": "always"}).is_success
    state = http.get(at).json()
    assert (state["title"], state["public"], state["budget"]["dollars"], state["approval"]) == (
        "Chains", True, 5.0, "always",
    )  # fmt: skip
    for path, body, word in (
        ("rename", {"title": ""}, "title"),
        ("tune", {"budget": {"hours": -1}}, "hours"),
        ("tune", {"effort": "endless"}, "effort"),
        ("undo", {}, "stop it first"),
    ):
        answer = http.post(f"{at}/{path}", json=body)
        assert answer.status_code == 422 and word in answer.json()["error"], path
    refused = http.request("DELETE", at, json={})
    assert refused.status_code == 422 and "stop it first" in refused.json()["error"]
    new = http.post(f"{at}/fork", json={}).json()["session"]
    assert http.get(f"/api/sessions/{new}").json()["state"] == "stopped"
    log.append(Closed(outcome="done", reason="done"))
    assert http.post(f"{at}/undo", json={}).is_success
    assert http.request("DELETE", at, json={}).is_success
    assert http.get(at).status_code == 404


def test_a_beginning_of_an_id_is_enough_to_look_and_too_little_to_change(site: Site, http: httpx.Client):
    name, log = site.session(story.beginning)
    log.append(*story.ending(), *[Ended(job="sft-3", state="done", seconds=1.0)])
    before, short = len(log), name[:-1]
    assert http.get(f"/api/sessions/{short}").json()["id"] == name
    bodies = {
        "say": {"text": "x"},
        "decide": {"call": "c9", "allow": True},
        "rename": {"title": "x"},
        "share": {"public": True},
    }
    for verb in ("say", "stop", "decide", "tune", "compact", "undo", "rename", "share", "fork", "jobs/sft-3/stop"):
        answer = http.post(f"/api/sessions/{short}/{verb}", json=bodies.get(verb, {}))
        assert answer.status_code == 404 and "the whole id" in answer.json()["error"], (verb, answer.text)
    assert http.request("DELETE", f"/api/sessions/{short}", json={}).status_code == 404
    log.refresh()
    assert len(log) == before and log.path.is_file()


def test_the_first_run_check_names_what_is_missing_and_what_to_do(http: httpx.Client):
    checks = {check["name"]: check for check in http.get("/api/check").json()}
    assert list(checks) == ["model", "Hub token", "hardware", "disk", "storage", "confinement"]
    assert checks["model"]["state"] == "warn" and "ANTHROPIC_API_KEY" in checks["model"]["fix"]
    assert checks["Hub token"]["state"] == "warn" and "HF_TOKEN" in checks["Hub token"]["fix"]


@pytest.mark.parametrize(("status", "state"), [(401, "bad"), (403, "unknown"), (404, "unknown"), (503, "unknown")])
def test_only_a_token_that_the_hub_does_not_know_is_called_refused(site: Site, tmp_path: Path, status: int, state: str):
    with serve(tmp_path / "hub") as hub:
        hub.faults.add("GET /api/whoami-v2", status=status, times=9)
        env = {"HF_ENDPOINT": hub.url}
        told = _hub(replace(site.settings, keys={"HF_TOKEN": "hf_x"}, job_env=env))
    assert told.state == state and ("new token" in told.fix) == (state == "bad")


def test_the_first_run_check_says_where_a_spaces_sessions_are_kept(site: Site):
    on_a_space = replace(site.settings, space="ada/ml-intern", home=Path("/home/user/.ml-intern"), mirror="{user}/kept")
    told = _storage(on_a_space)
    assert told.state == "warn" and "HF_TOKEN" in told.fix
    assert _storage(replace(on_a_space, keys={"HF_TOKEN": "hf_x"})).state == "ok"
    assert _storage(replace(on_a_space, keys={"HF_TOKEN": "hf_x"}, mirror="")).state == "warn"
    assert _storage(replace(on_a_space, home=Path("/data/ml-intern"))).state == "ok"
    assert _storage(replace(on_a_space, mirror="/data/ml-intern")).what.endswith(
        "sessions are kept in /data/ml-intern."
    )


def test_the_page_of_documentation_is_the_servers_own(site: Site):
    assert document(site.app.openapi()) == (ROOT / "docs" / "api.md").read_text(), (
        "run python -m ui.apidoc > docs/api.md"
    )
