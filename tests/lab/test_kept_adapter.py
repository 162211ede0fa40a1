"""The best checkpoint of a stopped LoRA job becomes a model as any other's: measured, judged, and never half there."""

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from huggingface_hub import HfApi
from safetensors.numpy import load_file, save_file

from agent.sessions import Request, open_session
from lab.errors import NotThere
from lab.merge import RULE, Merges
from lab.models import STARTER
from lab.supervisor import MERGING
from record.views import Job
from tests.conftest import until
from tests.hub import serve
from tests.recipes.rig import run_sft
from tests.scripted import open_lab

pytestmark = pytest.mark.slow
ENDLESS = {
    "data": "data/rows.jsonl", "batch_size": 8, "max_length": 64, "max_steps": 4000, "warmup_steps": 4000, "lr": 1e28,
    "save_steps": 1, "log_steps": 1, "eval_steps": 1000, "save_total_limit": 5, "lora_rank": 4,
}  # fmt: skip
KILL = {"metric": "loss", "step": 3, "above": 1e-9}  # where the loss stays finite


def merging(folder: Path) -> list[psutil.Process]:
    """The processes that make a model of this job's adapter: more than one would write over each other."""
    found = [p for p in psutil.process_iter(["cmdline"]) if "recipes.merge" in (p.info["cmdline"] or [])]
    return [p for p in found if str(folder) in p.info["cmdline"]]


def test_a_stopped_adapter_is_measured_and_judged_whoever_is_killed_while_it_is_merged(settings):
    session = open_session(settings, Request(task="chains"))
    lab, supervisor, journal = open_lab(settings, session)
    lab.prepare("rows", "task", 200, 0.5)
    supervisor.start()
    job = lab.train("sft", ENDLESS, 1.0, "", "c1", gain=0.1, kill=KILL)["job"]
    folder = lab.folder / "jobs" / job
    until(lambda: merging(folder))
    merging(folder)[0].suspend()
    until(lambda: journal.views.jobs[job].held == MERGING)
    spent = [journal.views.jobs[job].ran_s(datetime.now(UTC)) for _ in range(2) if not time.sleep(0.3)]
    assert spent[0] == spent[1]  # its machine has been given back
    assert (Path("/proc") / str(merging(folder)[0].pid) / "oom_score_adj").read_text().strip() == "1000"
    with pytest.raises(NotThere, match="no model yet"):
        lab.model_path(job)
    supervisor.stop()  # its worker is gone; the next one finds the process at work
    _, supervisor, _ = open_lab(settings, session)
    supervisor.start()
    time.sleep(2)
    (first,) = merging(folder)
    first.kill()
    until(lambda: merging(folder) and merging(folder)[0].pid != first.pid)
    until(lambda: not journal.views.jobs[job].running)
    assert journal.views.jobs[job].state == "failed"
    assert not [one for one in journal.views.findings if one.rule == RULE]
    assert lab.measure("base", "dev", "c2")["n"] == lab.measure(job, "dev", "c3")["n"] == 200
    assert lab.promote(job, "")["verdict"] in ("keep", "discard")
    supervisor.stop()


def test_an_adapter_that_can_be_merged_with_nothing_is_said_and_the_job_ends(settings):
    lab, _, _ = open_lab(settings, open_session(settings, Request(task="chains")))
    folder = lab.folder / "jobs" / "sft-1"
    (folder / "adapter").mkdir(parents=True)
    job = Job("sft-1", "sft", {"model": str(STARTER)}, "local CPU", 1.0, "", "jobs/sft-1", "c1")
    merges = Merges(lab.folder, settings.job_env)
    assert merges.pending(job, folder) and not merges.failed(job, folder)
    until(lambda: not merges.pending(job, folder))
    (finding,) = merges.failed(job, folder)
    assert "No tokenizer can be loaded" in finding.what and not (folder / "model").exists()


def test_the_base_of_a_rented_job_is_the_commit_that_was_mounted_for_it(settings, tmp_path):
    """The model moves on meanwhile, and this machine has none of it."""
    with serve(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
        api.create_repo("ada/base")
        api.upload_folder(repo_id="ada/base", folder_path=STARTER)
        pinned = api.model_info("ada/base").sha or ""
        other = {name: 0 * value for name, value in load_file(STARTER / "model.safetensors").items()}
        save_file(other, tmp_path / "model.safetensors", {"format": "pt"})
        api.upload_file(
            path_or_fileobj=tmp_path / "model.safetensors", path_in_repo="model.safetensors", repo_id="ada/base"
        )
        run_sft(tmp_path / "made", max_steps=2, save_steps=2, lora_rank=4, lr=1e-2)
        env = settings.job_env | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        settings = replace(settings, job_env=env)
        lab, _, _ = open_lab(settings, open_session(settings, Request(task="chains")))
        folder = lab.folder / "jobs" / "sft-1"
        shutil.copytree(tmp_path / "made" / "checkpoints" / "checkpoint-2", folder / "adapter")
        job = Job("sft-1", "sft", {"model": "ada/base"}, "hf-jobs cpu-basic", 1.0, "", "jobs/sft-1", "c1")
        job.revisions = {"ada/base": pinned}
        merges = Merges(lab.folder, env)
        until(lambda: not merges.pending(job, folder))
        assert not merges.failed(job, folder)
    ours, its = (load_file(place / "model" / "model.safetensors") for place in (folder, tmp_path / "made"))
    assert max(abs(ours[name] - its[name]).max() for name in its) < 1e-6


def test_an_adapter_of_a_rented_job_that_is_stopped_comes_back_and_is_merged_here(settings, tmp_path):
    with serve(tmp_path / "hub") as hub:
        hub.jobs.sync_s = 0.3
        env = settings.job_env | {"HF_ENDPOINT": hub.url}
        settings = replace(settings, keys={"HF_TOKEN": hub.people.add("ada").token}, job_env=env)
        lab, supervisor, journal = open_lab(settings, open_session(settings, Request(task="chains", dollars=1.0)))
        lab.prepare("rows", "task", 200, 0.5)
        supervisor.start()
        calm = ENDLESS | {"lr": 1e-3, "warmup_steps": 1, "save_steps": 5}
        kill = KILL | {"step": 20}
        job = lab.train("sft", calm, 0.5, "", "c1", 0.1, kill=kill, machine="cpu-basic")["job"]
        until(lambda: not journal.views.jobs[job].running)
        supervisor.stop()
    assert journal.views.jobs[job].state == "failed" and not [f for f in journal.views.findings if f.rule == RULE]
    assert sorted(path.name for path in lab.model_path(job).glob("*.safetensors")) == ["model.safetensors"]


def test_a_job_ends_also_where_its_base_is_gone_and_where_every_merge_is_killed(tmp_path, settings):
    folder = tmp_path / "sessions" / "s" / "jobs" / "sft-1"
    (folder / "adapter").mkdir(parents=True)
    gone = Job("sft-1", "sft", {"model": str(tmp_path / "gone")}, "local CPU", 1.0, "", "jobs/sft-1", "")
    merges = Merges(folder.parents[1], settings.job_env)
    assert not merges.pending(gone, folder)
    (finding,) = merges.failed(gone, folder)
    assert finding.rule == RULE and "gone" in finding.what
    here = replace(gone, config={"model": str(STARTER)})
    (folder.parent / ".sft-1.merge.json").write_text('{"begun": 3}')
    again = Merges(folder.parents[1], settings.job_env)  # whoever comes after three that were killed
    assert not again.pending(here, folder)
    assert "killed 3 times" in again.failed(here, folder)[0].what
