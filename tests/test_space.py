"""What the Hub reads of a Space, and what it would run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from agent.providers import OPEN
from agent.settings import ROOT, is_bucket, is_disk, read
from record.card import KINDS


def front_matter() -> dict:
    return yaml.safe_load((ROOT / "README.md").read_text().split("---")[1])


def test_space_yaml_says_what_the_front_matter_says():
    assert yaml.safe_load((ROOT / "space.yaml").read_text()) == front_matter()


def test_the_port_of_the_space_is_the_port_that_the_app_takes():
    assert front_matter()["sdk"] == "docker"
    assert front_matter()["app_port"] == read({}).port
    assert read({"SPACE_ID": "me/space"}).host == "0.0.0.0"


def test_who_signs_in_gives_what_jobs_models_and_publishing_need_and_no_more():
    matter = front_matter()
    assert (
        matter["hf_oauth"] is True and matter["suggested_hardware"] == "t4-small" and KINDS["space"] in matter["tags"]
    )
    assert set(matter["hf_oauth_scopes"]) == {"jobs", "inference-api", "contribute-repos"}
    assert 480 <= matter["hf_oauth_expiration_minutes"] <= 43200  # the Hub's default, and its most
    assert len(matter["short_description"]) <= 60


def test_the_models_and_datasets_of_the_front_matter_are_those_that_the_program_names_itself():
    """Its own tasks are made by a rule or a generator; what else is used of the Hub, a person has named."""
    named = re.compile(r"""["']([\w.-]+/[\w.-]+)["']""")
    text = "".join(file.read_text() for file in (ROOT / "recipes" / "benchmarks").glob("*.py"))
    assert front_matter()["datasets"] == sorted(set(named.findall(text)))
    assert front_matter()["models"] == [OPEN.removeprefix("huggingface/")]


def test_sessions_lie_on_a_disk_and_never_on_a_mounted_bucket():
    root = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n"
    assert is_disk("/data", f"{root}/dev/nvme1n1 /data ext4 rw 0 0\n") and is_disk("/data", root)
    for kind in ("fuse.hf-mount", "fuse", "nfs4"):
        assert not is_disk("/data", f"{root}hf-mount /data {kind} rw 0 0\n")
        assert is_disk("/data", f"{root}hf-mount /database {kind} rw 0 0\n"), "another folder's"
        assert not is_disk("/data", f"hf-mount / {kind} rw 0 0\n")
    assert not is_disk("/data", "")


def test_a_bucket_is_what_is_mounted_at_data_without_locks_and_can_be_written():
    root = "overlay / overlay rw 0 0\n"
    for kind in ("fuse.hf-mount", "fuse", "nfs4"):
        assert is_bucket("/data", f"{root}hf-mount /data {kind} rw,nosuid,nodev 0 0\n")
        assert not is_bucket("/data", f"{root}hf-mount /data {kind} ro,nosuid 0 0\n"), "only to read"
        assert not is_bucket("/data", f"{root}hf-mount /data/model {kind} rw 0 0\n"), "a folder below it"
        assert not is_bucket("/data", f"hf-mount / {kind} rw 0 0\n"), "the whole disk"
        assert not is_bucket("/data", f"{root}hf-mount /data {kind} rw 0 0\n/dev/sdb /data ext4 rw 0 0\n"), "hidden"
    assert not is_bucket("/data", f"{root}/dev/nvme1n1 /data ext4 rw 0 0\n") and not is_bucket("/data", root)


def test_the_image_runs_as_uid_1000_with_no_secret_in_its_build():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"useradd .*--uid 1000", text) and "\nUSER user\n" in text
    assert "PIP_NO_CACHE_DIR=1" in text, "what pip downloads would lie in a layer beside what it installs"
    assert not re.search(r"(?i)(token|secret|password|api_key)\s*=", text)


def test_dev_mode_finds_its_programs_and_every_file_in_app_which_belongs_to_the_user():
    """As the Hub's documentation of Dev Mode asks for; a file left out would be a deletion in a commit made there."""
    text = (ROOT / "Dockerfile").read_text()
    installed = set(re.findall(r"--no-install-recommends (.*) \\\n", text)[0].split())
    assert {"bash", "curl", "git", "git-lfs", "procps", "wget"} <= installed
    assert "install --directory --owner=user /app\n" in text and "\nWORKDIR /app\n" in text
    assert "PATH=/app/.venv/bin:$PATH" in text and text.rstrip().endswith('CMD ["python", "app.py"]')
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ignored = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()]
    assert not [name for name in tracked if set(Path(name).parts) & set(ignored)]


def test_every_requirement_is_pinned_and_locked_at_the_same_version():
    lock = {_plain(n): v for n, v in (row.split("==") for row in (ROOT / "requirements.lock").read_text().split())}
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            requirement = line.split("#")[0].strip()
            if requirement and not requirement.startswith("-"):
                package, version = requirement.split("==")
                assert lock[_plain(package)] == version


def _plain(package: str) -> str:
    """A package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def test_gradio_knows_that_it_is_in_a_space_where_docker_does_not_say_it():
    look = (
        "from agent.settings import quiet_libraries; quiet_libraries(); import gradio.utils as u; print(u.get_space())"
    )
    env = {name: value for name, value in os.environ.items() if name != "SYSTEM"} | {"SPACE_ID": "ada/intern"}
    told = subprocess.run([sys.executable, "-c", look], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "ada/intern", told.stderr
