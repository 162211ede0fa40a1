"""`make deploy` sends a commit to a Space and says how it came up; to a Hub on loopback."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from agent.settings import KEY_NAMES, ROOT
from scripts import deploy as deploying
from tests import hub as loopback

README = "---\ntitle: T\nsdk: docker\ntags:\n- ml-intern-space\n---\n# T\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[loopback.Hub]:
    with loopback.serve(tmp_path / "hub") as served:
        served.spaces.build_s = 0.0
        yield served


def git(clone: Path, *arguments: str) -> None:
    name = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    subprocess.run(["git", *name, *arguments], cwd=clone, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of one commit."""
    made = tmp_path / "clone"
    for name, text in {
        "README.md": README,
        "Dockerfile": "FROM x",
        "a/b.py": "1",
        "ö.txt": "o",
        ".gitignore": "x",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    git(made, "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-qm", "one")
    (made / "x").write_text("ignored")
    return made


@pytest.fixture
def deploy(hub: loopback.Hub, clone: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    token = hub.people.add("ada").token
    env = {name: value for name, value in os.environ.items() if name not in KEY_NAMES}
    env |= {
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "ML_INTERN_HOME": str(tmp_path / "home"),
        "HF_TOKEN": token,
    }

    def run(*more: str, **changed: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "deploy.py"), "ada/space", *more]
        return subprocess.run(command, cwd=clone / "a", env=env | changed, capture_output=True, text=True, timeout=120)

    return run


def test_a_commit_becomes_a_private_space_of_exactly_its_files(hub, clone, deploy):
    done = deploy()
    assert done.returncode == 0, done.stderr
    assert f"5 files are there (private): {hub.url}/spaces/ada/space" in done.stdout
    assert done.stdout.endswith(f"It runs on cpu-basic: {hub.url}/spaces/ada/space\n")
    api = HfApi(hub.url, token=next(iter(hub.people._by_token)))
    api.upload_file(path_or_fileobj=b"x", path_in_repo="left.py", repo_id="ada/space", repo_type="space")
    git(clone, "rm", "-q", "a/b.py", "--cached")
    git(clone, "commit", "-qm", "two")
    (clone / "a" / "b.py").unlink()
    assert deploy().returncode == 0
    info = api.space_info("ada/space")
    files = {file.rfilename for file in info.siblings or []} - {".gitattributes"}
    assert files == {"README.md", "Dockerfile", "ö.txt", ".gitignore"} and info.private and info.sdk == "docker"
    commits = len(api.list_repo_commits("ada/space", repo_type="space"))
    assert deploy().returncode == 0
    assert len(api.list_repo_commits("ada/space", repo_type="space")) == commits, "the same commit is there already"


def test_a_space_that_does_not_come_up_shows_its_log_and_ends_with_1(hub, deploy):
    assert deploy().returncode == 0
    hub.spaces.broken["ada/space"] = "BUILD_ERROR"
    hub.spaces.say("ada/space", "no matching distribution\n", "build")
    done = deploy()
    assert done.returncode == 1 and "no matching distribution" in done.stderr
    assert done.stderr.endswith("deploy: ada/space is BUILD_ERROR: it was told to fail.\n")
    hub.spaces.broken["ada/space"] = "BUILDING"
    late = deploy("--patience", "0.1")
    assert late.returncode == 1 and "is BUILDING after 0.1 s" in late.stderr


def test_what_runs_is_this_commit_where_the_hub_says_which(hub, capsys, monkeypatch):
    monkeypatch.setattr(deploying, "POLL", 0.01)
    api = HfApi(hub.url, token=hub.people.add("ada").token)
    api.create_repo("ada/space", repo_type="space", space_sdk="docker")
    app = {"path_or_fileobj": b"FROM x", "path_in_repo": "Dockerfile"}
    mine = api.upload_file(**app, repo_id="ada/space", repo_type="space").oid
    hub.spaces.sha["ada/space"] = "0" * 40  # still that of the commit before
    assert deploying.wait(api, "ada/space", mine, 0.5) == 1 and "is RUNNING after 0.5 s" in capsys.readouterr().err
    hub.spaces.sha["ada/space"] = mine
    assert deploying.wait(api, "ada/space", mine, 5.0) == 0


def test_what_a_person_must_mend_is_one_sentence_and_sends_nothing(hub, clone, deploy):
    for changed, says in (
        ({"HF_TOKEN": ""}, "No HF_TOKEN is set"),
        ({"HF_TOKEN": "hf_no"}, "does not know this HF_TOKEN"),
    ):
        done = deploy(**changed)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and says in done.stderr
    (clone / "README.md").write_text("# Changed")
    done = deploy()
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "differs from HEAD in 1 files (README.md, ...)" in done.stderr
    api = HfApi(hub.url, token=next(iter(hub.people._by_token)))
    assert not api.repo_exists("ada/space", repo_type="space")
    git(clone, "checkout", "-q", "README.md")
    api.create_repo("ada/space", repo_type="space", space_sdk="docker")
    for name, content in (("README.md", b"---\nsdk: docker\n---\n"), ("app.py", b"print()")):
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="ada/space", repo_type="space")
    done = deploy()
    assert done.returncode == 2 and "did not make; give another name" in done.stderr
