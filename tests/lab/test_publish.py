"""What a session has made goes to a Hub, as the real client sends it there; to a Hub on loopback that may fail."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download

from agent.gate import judge
from agent.settings import ROOT, Settings
from lab.backend import write_json
from lab.errors import LabError, NotThere, Refused
from lab.judge import score_of, seal_of
from lab.lab import Lab
from lab.models import STARTER
from lab.publish import What
from lab.tasks import Vault, read_rows, write_rows
from recipes.seal import file_hash
from record.events import Ended, Launched, Progressed, Promoted, Published
from record.journal import Journal
from tests import hub as loopback
from tests.conftest import cli_environment, free_port, until
from tests.hub.access import PREFIX
from tests.hub.prying import pried
from tests.scripted import open_lab
from tools.publish import Publish

RIGHT = {"base": 3, "sft-1": 391}  # of 400


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loopback.Hub]:
    with loopback.serve(tmp_path_factory.mktemp("hub")) as served:
        yield served


@pytest.fixture
def at_hub(hub: loopback.Hub, settings: Settings) -> Callable[..., Settings]:
    """Settings of a person with a token for this Hub."""
    hub.faults.clear()
    hub.faults.asked.clear()

    def make(name: str = "ada", **more) -> Settings:
        token = hub.people.add(name, **more).token
        return replace(settings, keys={"HF_TOKEN": token}, job_env=settings.job_env | {"HF_ENDPOINT": hub.url})

    return make


def evaluated(journal: Journal, folder: Path, items: Path, model: str) -> None:
    """A model that had so many of the held-out items right."""
    at = STARTER if model == "base" else folder / "jobs" / model / "model"
    job = f"evaluate-{model}"
    place, seal = folder / "jobs" / job, seal_of("chains", items, at)
    write_rows(place / "items.jsonl", ({**row, "correct": n < RIGHT[model]} for n, row in enumerate(read_rows(items))))
    result = {"ok": True, "seal": seal.model_dump(), "items_sha256": file_hash(place / "items.jsonl")}
    write_json(place / "result.json", result)
    config = {"benchmark": "chains", "split": "heldout", "items": str(items)}
    journal.append(
        Launched(job=job, recipe="evaluate", config=config, machine="m", hours=1, folder=f"jobs/{job}"),
        Ended(job=job, state="done", seconds=1, result=result),
    )
    journal.append(score_of(journal.views.jobs[job], folder, model, "accuracy", seal))


def trained(settings: Settings, session: str, score: bool = True) -> tuple[Lab, Journal, Path]:
    """A lab of a session that has trained sft-1 on prepared rows, and measured it and the base."""
    lab, _, journal = open_lab(settings, session)
    made = lab.prepare("rows", "task", 40, 0.5)
    place = lab.folder / "jobs" / "sft-1"
    shutil.copytree(STARTER, place / "model")
    shutil.copy(lab.workspace.path("data/rows.jsonl"), place / "data.jsonl")
    config = {"data": str(place / "data.jsonl"), "data_sha256": made["sha256"], "model": str(STARTER), "lr": 0.003}
    journal.append(
        Launched(job="sft-1", recipe="sft", config=config, machine="m", hours=1, folder="jobs/sft-1"),
        *(Progressed(job="sft-1", step=n, values={"loss": 2.0 / n}) for n in range(1, 9)),
        Ended(job="sft-1", state="done", seconds=60),
    )
    for model in RIGHT if score else ():
        evaluated(journal, lab.folder, Vault(settings.vault).items("chains", "heldout"), model)
    journal.append(Promoted(model="sft-1", verdict="keep", against="base", reason="Better."))
    return lab, journal, place


def published(journal: Journal) -> list[str]:
    journal.log.refresh()
    return [fact.where for fact in journal.log if isinstance(fact, Published)]


def test_a_model_is_published_whole_with_the_scores_of_the_log_and_updated_once(hub, at_hub, new_session, tmp_path):
    mine = at_hub()
    session, _ = new_session(mine)
    lab, journal, place = trained(mine, session)
    made = lab.publish("model")
    api, name = HfApi(hub.url, token=mine.keys["HF_TOKEN"]), f"ada/starter-chains-{session[-6:]}"
    info = api.model_info(name)
    assert made["private"] and info.private and made["where"] == f"{hub.url}/{name}/commit/{info.sha}"
    extra = {"README.md", "REPORT.md", "recipe.json", "curves.png", ".gitattributes"}
    weights = {file.name for file in place.joinpath("model").iterdir()} - {"README.md"}
    assert {file.rfilename for file in info.siblings or []} == weights | extra

    def text(file: str) -> str:
        asked = {"token": mine.keys["HF_TOKEN"], "endpoint": hub.url, "revision": info.sha, "local_dir": tmp_path}
        return Path(hf_hub_download(name, file, **asked)).read_text()

    score = journal.views.score("sft-1", "heldout")
    (metric,) = yaml.safe_load(text("README.md").split("---")[1])["model-index"][0]["results"][0]["metrics"]
    assert score and metric["value"] == score.value == 391 / 400
    assert metric["args"] == {"n": 400, "low": score.low, "high": score.high, "interval": "Wilson 95 %"}
    assert "the training split of `chains` |" in text("README.md")
    assert "| sft-1 | 0 of 40 rows | no script |" in text("README.md")
    assert json.loads(text("recipe.json"))[0]["settings"]["lr"] == 0.003
    for file in ("README.md", "REPORT.md", "recipe.json"):
        assert str(mine.home) not in text(file) and "](jobs/" not in text(file)
    assert Path(hf_hub_download(name, "model.safetensors", token=mine.keys["HF_TOKEN"], endpoint=hub.url, local_dir=tmp_path)).read_bytes() == (STARTER / "model.safetensors").read_bytes()  # fmt: skip

    before = len(journal.log)
    assert lab.publish("model")["where"] == made["where"] and len(journal.log) == before, "nothing new, nothing written"
    rows = lab.publish("dataset", public=True)
    assert not rows["private"] and not api.dataset_info(f"{name}-data").private
    assert lab.publish("report")["private"]
    again = lab.publish("model")  # its card names the rows now
    assert again["where"] != made["where"] and api.model_info(name).card_data["datasets"] == [f"{name}-data"]
    assert len(published(journal)) == len(set(published(journal))) == 4
    assert len(api.list_repo_commits(name)) == 3  # the first of a repository is the Hub's own


@pytest.mark.parametrize(
    ("to", "cut"),
    [("cut-1", "POST .*/commit/"), ("cut-2", "POST /api/repos/create"), ("cut-3", "GET /api/models/ada/cut-3")],
)
def test_what_was_cut_off_is_found_again_and_not_done_twice(hub, at_hub, new_session, to, cut):
    mine = at_hub()
    lab, journal, _ = trained(mine, new_session(mine)[0], score=False)
    hub.faults.add(cut, lost=True)  # the Hub does it, and the answer is lost
    hub.faults.add(cut, status=503, times=1)
    made = lab.publish("model", to=to)
    commits = HfApi(hub.url, token=mine.keys["HF_TOKEN"]).list_repo_commits(f"ada/{to}")
    assert len(commits) == 2 and made["where"].endswith(commits[0].commit_id)
    assert published(journal) == [made["where"]]


def test_killed_between_commit_and_fact_the_next_call_writes_the_fact_only(hub, at_hub, new_session):
    mine = at_hub()
    lab, journal, _ = trained(mine, new_session(mine)[0], score=False)
    real = hub.faults.asked
    first = lab.publish("model", to="killed")["where"]
    lines = journal.log.path.read_bytes().splitlines(keepends=True)
    assert b'"published"' in lines[-1]
    journal.log.path.write_bytes(b"".join(lines[:-1]))  # as a kill before the fact leaves it
    lab, _, journal = open_lab(mine, lab.folder.name)
    real.clear()
    assert lab.publish("model", to="killed")["where"] == first and published(journal) == [first]
    assert not [path for _, _, path, _ in real if "/commit/" in path]


def test_who_commits_meanwhile_is_seen_and_the_publication_comes_after_it(hub, at_hub, new_session):
    mine = at_hub()
    lab, journal, _ = trained(mine, new_session(mine)[0], score=False)
    api = HfApi(hub.url, token=mine.keys["HF_TOKEN"])
    lab.publish("model", to="both")
    lab.publish("dataset", to="both-rows")  # which the model's card names from now on
    hub.faults.asked.clear()
    slow = hub.faults.add("POST .*/preupload/", wait_s=3)
    with ThreadPoolExecutor() as threads:
        made = threads.submit(lab.publish, "model", to="both")
        until(lambda: not slow.times)  # it has seen the repository, and is on its way
        api.create_commit("ada/both", [CommitOperationAdd("model.gguf", b"a person's own")], commit_message="own")
    assert [status for _, _, path, status in hub.faults.asked if "/commit/" in path] == [200, 412, 200]
    assert api.file_exists("ada/both", "model.gguf") and published(journal)[2:] == [made.result()["where"]]


def test_a_refusal_is_one_sentence_and_leaves_nothing_public(hub, at_hub, new_session):
    mine = at_hub()
    session, journal = new_session(mine)
    lab, _, _ = trained(mine, session, score=False)

    def refused(kind: type[LabError], says: str, lab: Lab = lab, **ask) -> None:
        with pytest.raises(kind, match=says) as caught:
            lab.publish("model", **ask)
        assert "\n" not in str(caught.value) and len(published(journal)) <= 1

    def as_other(**changed) -> Lab:
        return open_lab(replace(mine, **changed), session)[0]

    refused(LabError, "No HF_TOKEN is set", as_other(keys={}))
    refused(Refused, "does not know this HF_TOKEN", as_other(keys={"HF_TOKEN": "hf_wrong"}))
    refused(Refused, "this HF_TOKEN may not do it", to="eve/model")
    refused(Refused, "may not do it", as_other(keys={"HF_TOKEN": hub.people.add("ada", scopes=("read-repos",)).token}))
    refused(LabError, "cannot be reached", as_other(job_env={"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}))
    refused(LabError, "'a b' cannot be a repository", to="a b")
    for name in ("base", "evaluate-base", "none"):
        refused(LabError, f"'{name}' is no model that this session has trained", model=name)
    api = HfApi(hub.url, token=mine.keys["HF_TOKEN"])
    api.create_repo("ada/mine")
    api.upload_file(path_or_fileobj=b"# Mine", path_in_repo="README.md", repo_id="ada/mine")
    refused(Refused, "holds something that ML Intern did not make", to="ada/mine")
    api.create_repo("ada/bare")
    api.upload_file(path_or_fileobj=b"precious", path_in_repo="pytorch_model.bin", repo_id="ada/bare")
    refused(Refused, "holds something that ML Intern did not make", to="ada/bare")
    assert api.file_exists("ada/bare", "pytorch_model.bin")
    hub.faults.add("POST .*/commit/", status=503, times=3)
    refused(LabError, "cannot be reached .*nothing is done twice", to="half", public=True)
    assert api.model_info("ada/half").private and not published(journal)
    only = {"keys": {"HF_TOKEN": hub.people.add("ada", scopes=("contribute-repos",)).token}}
    refused(Refused, "to make ada/narrow public", as_other(**only), to="narrow", public=True)
    assert len(published(journal)) == 1, "it lies there, private, and that is written down"


def test_one_kind_never_writes_over_another_and_nothing_over_sessions(hub, at_hub, new_session):
    mine = at_hub()
    lab, journal, _ = trained(mine, new_session(mine)[0], score=False)
    api = HfApi(hub.url, token=mine.keys["HF_TOKEN"])
    lab.publish("dataset", to="kinds")
    sessions = (
        "---\ntags: [ml-intern]\n---\n",
        "---\ntags: [ml-intern-report]\n---\n",
        (ROOT / "record/card.md").read_text(),
    )
    for n, card in enumerate(sessions):
        api.create_repo(f"ada/sessions-{n}", repo_type="dataset", private=True)
        added = {"README.md": card, "sessions/s/events/000001.jsonl": "{}"}
        what = [CommitOperationAdd(path, text.encode()) for path, text in added.items()]
        api.create_commit(f"ada/sessions-{n}", what, commit_message="mirror", repo_type="dataset")
    for to in ("kinds", *(f"sessions-{n}" for n in range(3))):
        with pytest.raises(Refused, match="did not make; give another name"):
            lab.publish("report", to=to, public=True)
    assert all(api.dataset_info(f"ada/sessions-{n}").private for n in range(3)) and len(published(journal)) == 1


@pytest.mark.slow
def test_nobody_else_reads_anything_that_was_not_published_for_all(hub, at_hub, new_session):
    mine = at_hub("cy")
    lab, journal, _ = trained(mine, new_session(mine)[0])
    for what in get_args(What):
        assert lab.publish(what)["private"]
    assert {one.kind for kind in PREFIX for one in hub.repos.all(kind) if one.namespace == "cy"} >= {
        "model",
        "dataset",
        "space",
    }
    assert len(published(journal)) == 5 and pried(hub, "cy") == set()
    lab.publish("report", public=True, to="open")
    assert {address.split("/")[-1] for address in pried(hub, "cy")} >= {"open", "README.md"}, "the test would see it"


def test_only_what_was_measured_and_checked_is_published(at_hub, new_session):
    mine = at_hub("bob")
    lab, journal, place = trained(mine, new_session(mine)[0])
    items = lab.folder / "jobs" / "evaluate-sft-1" / "items.jsonl"
    kept = items.read_bytes()
    write_rows(items, ({**row, "correct": True} for row in read_rows(items)))
    with pytest.raises(Refused, match="items of sft-1 on heldout are not those that were scored"):
        lab.publish("model")
    items.write_bytes(kept)
    (place / "model" / "generation_config.json").write_text("{}")
    with pytest.raises(Refused, match="files of sft-1 have changed since they were measured"):
        lab.publish("model")
    (place / "model" / "generation_config.json").unlink()
    (place / "model" / "generation_config.json").symlink_to(items)
    with pytest.raises(Refused, match=r"generation_config.json of the model is a link"):
        lab.publish("model")
    with (place / "data.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(Refused, match="rows of sft-1 have changed since its launch"):
        lab.publish("dataset")
    (place / "data.jsonl").unlink()
    with pytest.raises(NotThere, match="rows of sft-1 are not in"):
        lab.publish("dataset")
    assert not published(journal)


def test_the_agent_asks_first_whatever_the_session_allows(settings, new_session):
    _, journal = new_session(approval="auto", dollars=5)
    verdict = judge(Publish.effect, 0.0, journal.views, journal.views.opened.at)
    assert verdict.kind == "ask"


def test_a_person_publishes_by_a_command(hub, at_hub, new_session):
    mine = at_hub()
    session, _ = new_session(mine)
    trained(mine, session, score=False)
    env = cli_environment(mine) | {"HF_ENDPOINT": hub.url, "HF_TOKEN": mine.keys["HF_TOKEN"]}

    def publish(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent", "publish", session, *more]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)

    done = publish("--what", "dataset", "--to", "ada/rows", "--public")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"dataset, public: {hub.url}/datasets/ada/rows/commit/")
    refused = publish("--to", "eve/model")
    assert refused.returncode == 2 and "this HF_TOKEN may not do it" in refused.stderr
    assert HfApi(hub.url, token=False).dataset_info("ada/rows").id == "ada/rows"
