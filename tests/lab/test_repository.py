"""Rented jobs of a person who may use no bucket: they travel and come back in a private repository, with a token made for it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from agent.settings import ROOT, SettingsError, read
from agent.wallet import Grant, Wallet
from lab.backend import JobSpec, read_json
from lab.backends.bucket import Bucket
from lab.backends.folder import log_tail, metrics, result
from lab.backends.hf_jobs import HFJobs, _handed, about_file
from lab.backends.repository import JOB_TOKEN, Repository
from recipes import outbox
from recipes.outbox import Commits
from tests.conftest import until
from tests.hub import Hub
from tests.hub.prying import pried
from tests.hub.runs import of_job
from tests.lab.test_hf_jobs import end_of, spec_in

REPO = "ada/ml-intern-jobs"
TOKEN = "hf_canaryOfTheJobsOwnToken00000000000"
NO_BUCKETS = ("read-repos", "jobs")  # of a token that mounts and starts, and writes nowhere


def repository(hub: Hub, private: bool = True) -> None:
    """As a person makes it, and a token for it alone."""
    HfApi(endpoint=hub.url, token=hub.people.add("ada").token).create_repo(REPO, repo_type="dataset", private=private)
    hub.people.add("ada", TOKEN, scopes=("write-repos",), only=(f"dataset {REPO}",))


def backend(hub: Hub, scopes: tuple[str, ...] = NO_BUCKETS, token: str | None = TOKEN) -> HFJobs:
    person = hub.people.add("ada", scopes=scopes)
    return HFJobs(lambda: HfApi(endpoint=hub.url, token=person.token), lambda: token, look=0.1, saving=1.0)


def training(folder: Path, name: str = "sft-1", **config) -> JobSpec:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i}+1=", "completion": str(i + 1)}) + "\n" for i in range(300)))
    whole = {"model": str(Path("starter/model").resolve()), "data": str(rows), "batch_size": 8, "log_steps": 1}
    return spec_in(folder, name, **(whole | config))


def committed(hub: Hub) -> dict[str, bytes]:
    files = hub.repos.files("dataset", REPO)
    return {path: data for path, data in files.items() if path != ".gitattributes"}


def commits(hub: Hub) -> list[str]:
    api = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    return [one.title for one in api.list_repo_commits(REPO, repo_type="dataset")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_by_repository_is_live_outlives_its_machine_and_makes_what_one_by_bucket_makes(hub: Hub, tmp_path: Path):
    repository(hub)
    config = {"max_steps": 60, "save_steps": 5, "seed": 3}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    bucket, by_bucket = training(tmp_path / "b", "sft-2", **config), backend(hub, hub.people.add("ada").scopes)
    by_bucket.launch(bucket)
    assert end_of(by_bucket, bucket.folder).state == "done", log_tail(bucket.folder)
    assert not committed(hub) and not any(run.spec["secrets"] for run in hub.jobs.runs.values())

    spec, rented = training(tmp_path / "a", **config), backend(hub)
    rented.launch(spec)
    (run,) = [run for run in hub.jobs.runs.values() if run.spec["secrets"]]
    (volume,) = run.spec["volumes"]
    assert (volume["type"], volume["source"], volume["readOnly"]) == ("dataset", REPO, True)
    assert volume["revision"] == HfApi(endpoint=hub.url, token=TOKEN).repo_info(REPO, repo_type="dataset").sha
    place = "ml-intern/session/sft-1"
    assert all(path.startswith(f"{place}/") for path in committed(hub))
    complete = re.compile(rf"{place}/out/checkpoints/checkpoint-(\d+)/complete$")
    seen: list[str] = []
    while not any(complete.match(path) for path in committed(hub)):  # meanwhile nobody on its machine shows the token
        for process in of_job(run.id):
            seen += [f"{process.environ()}{process.cmdline()}" for _ in range(1) if process.is_running()]
        assert rented.state(spec.folder).state in ("queued", "running"), log_tail(spec.folder)
        time.sleep(0.2)
    assert [point.step for point in metrics(spec.folder, 0)[0]], "the curve is live"
    assert any("recipes.sft" in text for text in seen) and any("recipes.remote" in text for text in seen)
    assert not [text for text in seen if TOKEN in text]
    kept = committed(hub)
    marks = [int(found[1]) for path in kept if (found := complete.match(path))]
    curve = [json.loads(line)["step"] for line in kept[f"{place}/out/metrics.jsonl"].splitlines()]
    assert max(curve) >= max(marks), "with the curve that belongs to it"
    again = backend(hub)  # we are replaced, and the machine is lost
    hub.jobs.fail(run.id, "Node lost")
    over = end_of(again, spec.folder)
    assert over.signal and read_json(about_file(spec.folder))["repository"] == REPO

    again.launch(replace(spec, attempt=2))
    over = end_of(again, spec.folder)
    assert over.state == "done" and result(spec.folder)["resumed_from"] in marks, log_tail(spec.folder)
    weights = [one.folder / "model" / "model.safetensors" for one in (spec, bucket)]
    assert len({sha256(path.read_bytes()).hexdigest() for path in weights}) == 1
    curves = [
        [(point.step, point.values["loss"]) for point in metrics(one.folder, 0)[0] if "loss" in point.values]
        for one in (spec, bucket)
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 60
    last = [path for path in committed(hub) if "/out/" in path]
    assert f"{place}/out/exit.json" in last and f"{place}/out/model/model.safetensors" in last
    assert len(commits(hub)) <= 2 + 2 + 3, "a parcel an attempt, a commit at most in two minutes, one at the end"
    assert pried(hub, "ada") == set()
    everything = [*committed(hub).values(), *(path.read_bytes() for path in tmp_path.rglob("*") if shown(path))]
    assert len(everything) > 20 and not [data for data in everything if TOKEN.encode() in data]
    assert TOKEN not in json.dumps([run.spec for run in hub.jobs.runs.values()])


@pytest.mark.slow
def test_one_that_is_cancelled_saves_and_brings_its_model_by_its_last_commit(hub: Hub, tmp_path: Path):
    repository(hub)
    spec, rented = training(tmp_path, max_steps=5000, save_steps=1000), backend(hub)
    rented.launch(spec)
    until(lambda: len(metrics(spec.folder, 0)[0]) > 5)
    rented.cancel(spec.folder)
    over = end_of(rented, spec.folder)
    assert (over.state, over.reason) == ("cancelled", "cancelled") and over.seconds > 0
    left = json.loads(below(hub, "ml-intern/session/sft-1/out")["exit.json"])
    assert left["state"] == "cancelled" and set(left["files"]) <= set(below(hub, "ml-intern/session/sft-1/out"))
    assert (spec.folder / "model" / "model.safetensors").is_file(), "the checkpoint that it saved when it was told"


def shown(path: Path) -> bool:
    """What people or machines may see of it: all but the Hub's own list of tokens."""
    return path.is_file() and path.name != "people.json"


# A trainer that looks for a secret wherever a process of its user may look.
PRIES = """
import json, os
from pathlib import Path

seen = [json.dumps(dict(os.environ))]
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            seen.append(Path("/proc", pid, name).read_text(errors="replace"))
        except OSError:
            pass
parent = os.getppid()
while parent > 1:
    seen.append(f"parent {Path('/proc', str(parent), 'cmdline').read_text()}")
    try:
        fd = os.open(f"/proc/{parent}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
        seen.append(os.read(fd, 4096).decode(errors="replace"))
    except OSError:
        pass
    parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
Path("model").mkdir()
Path("model", "seen.txt").write_text("\\n".join(seen))
"""
UV = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"  # it stays, as uv does, and does not become its command


def test_the_trainer_finds_the_token_nowhere(hub: Hub, tmp_path: Path):
    repository(hub)
    place = tmp_path / "place"
    shutil.copytree(ROOT / "recipes", place / "code" / "recipes")
    (place / "code" / "recipes" / "pries.py").write_text(PRIES)
    job = {"recipe": "pries", "hours": 0.1, "attempt": 1, "accelerators": 1}
    (place / "job.json").write_text(json.dumps(job))
    (place / "config.json").write_text("{}")
    there = {path.relative_to(place) for path in place.rglob("*")}
    run = [sys.executable, "-m", "recipes.remote", str(place), "--commit", hub.url, REPO, "ml-intern/s/pries-1"]
    env = {"PYTHONPATH": str(place / "code"), "TMPDIR": str(tmp_path), "PATH": os.environ["PATH"], JOB_TOKEN: TOKEN}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "HF_HOME": str(tmp_path / "hf")}
    command = _handed([sys.executable, "-c", UV, *run])
    ran = subprocess.run(command, cwd=tmp_path, env=env, timeout=100, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert TOKEN not in ran.stdout + ran.stderr and TOKEN not in " ".join(command)
    seen = committed(hub)["ml-intern/s/pries-1/out/model/seen.txt"].decode()
    assert seen.count("parent ") >= 3 and "subprocess.call" in seen and "recipes.remote" in seen
    assert TOKEN not in seen and JOB_TOKEN not in seen.replace(_handed([])[2], "")
    left = json.loads(committed(hub)["ml-intern/s/pries-1/out/exit.json"])
    assert (left["state"], left["files"]) == ("done", {"model/seen.txt": len(seen.encode())})
    assert {path.relative_to(place) for path in place.rglob("*")} == there, "the mount is read-only"


def test_a_secret_is_read_once_and_the_memory_that_has_it_is_closed():
    asks = "import ctypes\nfrom recipes.secret import take\nprint(take(), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    line = [sys.executable, "-c", asks]  # 3: PR_GET_DUMPABLE
    ran = subprocess.run(line, cwd=ROOT, input="a secret\n", capture_output=True, text=True, timeout=60)
    assert ran.stdout == "a secret 0\n", ran.stderr


def refused(hub: Hub, spec: JobSpec, token: str | None = TOKEN) -> str:
    """Why a job is not sent; nothing of it is then on the Hub."""
    rented = backend(hub, token=token)
    rented.launch(spec)
    over = rented.state(spec.folder)
    assert (over.state, over.signal) == ("failed", None) and not hub.jobs.runs and over.reason.count(". ") == 0
    return over.reason


def test_who_may_use_neither_is_told_of_both_ways_in_one_sentence(hub: Hub, tmp_path: Path):
    said = refused(hub, training(tmp_path), token=None)
    assert "write-repos" in said and f"set {JOB_TOKEN} to a token that may write in the private dataset" in said


def test_a_public_repository_and_a_token_for_something_else_get_nothing(hub: Hub, tmp_path: Path):
    repository(hub, private=False)
    assert "is public" in refused(hub, training(tmp_path))
    owner = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    owner.update_repo_settings(REPO, repo_type="dataset", private=True)
    hub.people.add("ada", "hf_other", scopes=("write-repos",), only=("dataset ada/other",))
    (tmp_path / "other").mkdir()
    assert f"{JOB_TOKEN} may not write in" in refused(hub, training(tmp_path / "other"), token="hf_other")
    assert not committed(hub)


@pytest.mark.parametrize("role", ["write", "read"])
def test_a_token_for_all_that_is_theirs_goes_to_no_machine(hub: Hub, tmp_path: Path, role: str):
    repository(hub)
    whole = hub.people.add("ada", "hf_whole", **({} if role == "write" else {"scopes": ("read-repos",)}))
    assert whole.role == role
    said = refused(hub, training(tmp_path), token=whole.token)
    assert f"its role is {role}" in said and f"may write in the dataset repository {REPO} alone" in said
    assert not committed(hub)


def test_what_could_not_be_mounted_and_read_back_is_not_sent(hub: Hub, tmp_path: Path):
    repository(hub)
    rented, spec = backend(hub, scopes=("jobs",)), training(tmp_path)
    rented.launch(spec)
    assert f"may not read the dataset repository {REPO}" in rented.state(spec.folder).reason
    assert not committed(hub) and not hub.jobs.runs


def test_a_job_whose_repository_was_deleted_ends_and_one_that_is_hidden_is_waited_for(hub: Hub, tmp_path: Path):
    repository(hub)
    hub.jobs.stuck = True
    rented, spec = backend(hub), training(tmp_path)
    rented.launch(spec)
    (run,) = hub.jobs.runs.values()
    run.started = time.time() - 9
    ada, ben = (HfApi(endpoint=hub.url, token=hub.people.add(name).token) for name in ("ada", "ben"))
    ada.delete_repo(REPO, repo_type="dataset")
    run.settle("COMPLETED")
    over = end_of(rented, spec.folder)
    assert (over.state, over.reason) == ("failed", "it ended well, and what it made did not come back")
    for depot in (Repository(ben, REPO), Bucket(ben, "ada")):
        with pytest.raises(HfHubHTTPError):
            depot.listed("x")


@pytest.mark.parametrize("untold", ["volumes", "labels"])
def test_whoever_finds_the_job_again_knows_that_it_went_by_repository(hub: Hub, tmp_path: Path, untold: str):
    repository(hub)
    hub.jobs.stuck = True
    spec = training(tmp_path)
    backend(hub).launch(spec)
    (run,) = hub.jobs.runs.values()
    run.spec["volumes"] = [] if untold == "volumes" else run.spec["volumes"]
    if untold == "labels":
        run.spec["labels"] = {"ml-intern": run.spec["labels"]["ml-intern"]}
    about_file(spec.folder).unlink()
    backend(hub).launch(spec)
    assert read_json(about_file(spec.folder))["repository"] == REPO and len(hub.jobs.runs) == 1


@pytest.mark.parametrize(
    ("recipe", "config"),
    [
        ("script", {}),
        ("grpo", {"rewards": [{"kind": "exact"}, {"kind": "code"}]}),
        ("evaluate", {"benchmark": "gym:countdown"}),
        ("grpo", {"benchmark": "gym:puzzle24"}),  # its own rewards
        ("grpo", {"rewards": [{"kind": "benchmark", "name": "gym:simple_integration"}], "benchmark": "chains"}),
    ],
)
def test_what_a_model_wrote_shares_no_machine_with_a_token(hub: Hub, tmp_path: Path, recipe: str, config: dict):
    repository(hub)
    said = refused(hub, replace(training(tmp_path, **config), recipe=recipe))
    assert "runs code that a model wrote" in said and not committed(hub)


@pytest.fixture
def box(hub: Hub, tmp_path: Path) -> Commits:
    """An outbox with one whole checkpoint in it."""
    repository(hub)
    folder = tmp_path / "out"
    checkpoint(folder, 5)
    return Commits(HfApi(endpoint=hub.url, token=TOKEN), REPO, "a/out", folder, pauses=(0.1, 0.5))


def checkpoint(folder: Path, step: int) -> None:
    made = folder / "checkpoints" / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(os.urandom(5000))
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {n}}}\n' for n in range(1, step + 1)))
    (made / "shards").mkdir()
    (made / "shards" / "0.bin").write_bytes(b"of several processes")
    (made / "complete").touch()


def below(hub: Hub, folder: str) -> dict[str, bytes]:
    top = f"{folder}/"
    return {path.removeprefix(top): data for path, data in committed(hub).items() if path.startswith(top)}


def laid(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": 500, "times": 3},
        {"status": 429, "times": 2, "headers": {"Retry-After": "1"}},
        {"lost": True},
        {"cut_after": 5},
    ],
)
def test_whatever_goes_wrong_with_a_commit_the_repository_is_the_folder_in_the_end(hub: Hub, box: Commits, trouble):
    hub.faults.add(rf"POST /api/datasets/{REPO}/commit/main", **trouble)
    box.changed()
    until(lambda: below(hub, "a/out") == laid(box.folder))
    checkpoint(box.folder, 9)
    shutil.rmtree(box.folder / "checkpoints" / "checkpoint-5")
    box.changed()  # a commit that would come too soon after the last
    hub.faults.add(rf"POST /api/datasets/{REPO}/commit/main", **trouble)
    (box.folder / "exit.json").write_text("{}")
    box.close()
    assert below(hub, "a/out") == laid(box.folder) and "checkpoints/checkpoint-9/complete" in below(hub, "a/out")
    made = [title for title in commits(hub) if title == "What a/out holds"]
    assert len(made) == 2, "one commit has the checkpoint that was there, and one all that there is in the end"


def test_a_trainer_that_saves_all_the_time_commits_no_more_often_than_the_hub_takes(hub: Hub, box: Commits):
    box.changed()
    until(lambda: below(hub, "a/out"))
    for step in range(6, 12):
        checkpoint(box.folder, step)
        box.changed()
        time.sleep(0.3)  # longer than a commit takes
    (box.folder / "exit.json").write_text("{}")
    box.close()
    assert below(hub, "a/out") == laid(box.folder) and commits(hub).count("What a/out holds") == 2


@pytest.mark.parametrize("trouble", [{}, {"status": 429, "headers": {"Retry-After": "9999"}}])
def test_a_job_that_ends_while_a_commit_is_under_way_waits_for_nothing_else(hub, box, monkeypatch, trouble):
    monkeypatch.setattr(outbox, "GAP", 9999.0)  # none of it is waited for
    under_way = hub.faults.add(rf"POST /api/datasets/{REPO}/commit/main", wait_s=1.0, **trouble)
    box.changed()
    until(lambda: not under_way.times)
    (box.folder / "exit.json").write_text("{}")
    box.close()
    assert below(hub, "a/out") == laid(box.folder)


def test_the_more_is_new_the_longer_until_the_next_commit(hub, box, monkeypatch):
    monkeypatch.setattr(outbox, "GAP", 0.0)
    monkeypatch.setattr(outbox, "PACE", 5000 / 9999)  # of one checkpoint
    box.changed()
    until(lambda: below(hub, "a/out"))
    checkpoint(box.folder, 9)
    box.changed()
    time.sleep(1)  # longer than a commit takes
    assert not [name for name in below(hub, "a/out") if "checkpoint-9" in name]
    box.close()
    assert below(hub, "a/out") == laid(box.folder)


def test_where_all_is_refused_in_the_end_the_model_and_how_it_ended_are_tried_alone(hub, box):
    box.changed()
    until(lambda: below(hub, "a/out"))
    before = below(hub, "a/out")
    checkpoint(box.folder, 9)
    (box.folder / "model").mkdir()
    (box.folder / "model" / "model.safetensors").write_bytes(b"WHOLE")
    (box.folder / "exit.json").write_text("{}")
    hub.faults.add(rf"POST /api/datasets/{REPO}/commit/main", status=403)
    box.close()
    light = {name: data for name, data in laid(box.folder).items() if not name.startswith("checkpoints/")}
    assert below(hub, "a/out") == before | light and {"exit.json", "model/model.safetensors"} <= set(light)


def test_half_a_checkpoint_is_not_committed_and_a_repository_that_became_public_gets_nothing(hub: Hub, box: Commits):
    (box.folder / "checkpoints" / "checkpoint-7").mkdir()
    (box.folder / "checkpoints" / "checkpoint-7" / "model.safetensors").write_bytes(b"HALF")
    box.changed()
    until(lambda: below(hub, "a/out"))
    assert {path.split("/")[1] for path in below(hub, "a/out") if "/" in path} == {"checkpoint-5"}
    owner = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    owner.update_repo_settings(REPO, repo_type="dataset", private=False)
    (box.folder / "exit.json").write_text("{}")
    box.close()  # and does not wait for what will not be
    assert "exit.json" not in below(hub, "a/out")


def test_the_token_is_the_owners_alone_and_is_not_their_own(settings):
    keys = {"HF_TOKEN": "hf_ofTheOwner", JOB_TOKEN: TOKEN}
    wallet = Wallet(replace(settings, space="ada/space", keys=keys))
    wallet.give(Grant("ben", "hf_ofBen", time.time() + 60))
    assert wallet.settings_of("ada").keys == keys and wallet.settings_of("ben").keys == {"HF_TOKEN": "hf_ofBen"}
    assert TOKEN in wallet.settings_of("ben").secrets, "to be taken out of whatever they see"
    assert read({"HOME": "/home/ada", **keys}).keys == keys
    with pytest.raises(SettingsError, match="is your HF_TOKEN, which no machine gets") as error:
        read({"HOME": "/home/ada", "HF_TOKEN": TOKEN, JOB_TOKEN: f"{TOKEN}\n"})
    assert TOKEN not in str(error.value)
