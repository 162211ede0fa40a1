"""The loopback Hub's running half, as the real clients see it."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet
import pytest
from huggingface_hub import HfApi, JobInfo, Volume
from huggingface_hub.errors import HfHubHTTPError, JobNotFoundError

from tests.conftest import until
from tests.hub import Hub, serve


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serve(tmp_path_factory.mktemp("hub")) as served:
        yield served


@pytest.fixture(scope="module")
def ada(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.people.add("ada", orgs=("lab",)).token)


@pytest.fixture(scope="module")
def bob(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.people.add("bob").token)


def run(api: HfApi, code: str, namespace: str = "ada", **more) -> JobInfo:
    return api.run_job(image="python:3.12", command=["python", "-uc", code], namespace=namespace, **more)


def ended(api: HfApi, job: JobInfo) -> JobInfo:
    return api.wait_for_job(job.id, namespace=job.owner.name, poll_interval=0.03, timeout=20)


def test_a_job_is_a_process_with_its_own_home_and_its_lines_come_while_it_runs(hub: Hub, ada: HfApi):
    code = "import os, time; print(dict(os.environ)); open('big', 'w').write('x'); print(os.getcwd()); time.sleep(60)"
    job = run(ada, code, env={"MODE": "test"}, secrets={"KEY": "hidden"}, flavor="t4-small", labels={"for": "us"})
    assert (job.owner.name, job.initiator.name, job.flavor, job.labels["for"]) == ("ada", "ada", "t4-small", "us")
    lines = iter(ada.fetch_job_logs(job_id=job.id, namespace="ada", follow=True))
    seen, folder = eval(next(lines)), Path(next(lines))  # the job still runs
    assert (seen["MODE"], seen["KEY"], seen["JOB_ID"], seen["HF_ENDPOINT"]) == ("test", "hidden", job.id, hub.url)
    assert (seen["ACCELERATOR"], seen["CPU_CORES"], seen["MEMORY"], seen["HOME"]) == (
        "t4-small",
        "4",
        "15Gi",
        str(folder),
    )
    assert "USER" not in seen and "VIRTUAL_ENV" not in seen
    assert (folder / "big").exists()
    now = ada.inspect_job(job_id=job.id, namespace="ada")
    assert (now.status.stage, now.secrets, now.finished_at) == ("RUNNING", {"KEY": ""}, None)
    assert now.created_at <= now.started_at
    ada.cancel_job(job_id=job.id, namespace="ada")
    assert list(lines) == []
    assert ended(ada, job).status.stage == "CANCELED"
    assert not folder.exists(), "the disk of a job goes with it"
    assert "hidden" not in (hub.folder / "jobs" / f"{job.id}.json").read_text()


def test_a_command_that_fails_an_out_of_time_one_and_one_whose_machine_dies(hub: Hub, ada: HfApi):
    bad, late, oom = (
        run(ada, "raise SystemExit(3)"),
        run(ada, "import time; time.sleep(60)", timeout=1),
        run(ada, "input"),
    )
    missing = ada.run_job(image="x", command=["no-such-command"], namespace="ada")
    assert ended(ada, bad).status.message == "Job failed with exit code: 3"
    assert ended(ada, bad).status.stage == ended(ada, missing).status.stage == "ERROR"
    assert "no-such-command" in ended(ada, missing).status.message
    end = ended(ada, late)
    assert (end.status.stage, end.status.message, end.durations.running_secs) == ("ERROR", "Job timeout", 1)
    assert ended(ada, oom).status.stage == "COMPLETED"
    victim = run(ada, "import time; time.sleep(60)")
    hub.jobs.fail(victim.id, "Job failed with exit code: 137. Reason: OOMKilled")
    assert ended(ada, victim).status.message.endswith("OOMKilled")


def test_cancel_gives_time_and_then_takes_everything_that_the_job_started(hub: Hub, ada: HfApi):
    polite = run(
        ada, "import signal, time; signal.signal(15, lambda *_: (print('saved'), exit())); print('on'); time.sleep(60)"
    )
    lines = iter(ada.fetch_job_logs(job_id=polite.id, namespace="ada", follow=True))
    assert next(lines) == "on"
    ada.cancel_job(job_id=polite.id, namespace="ada")
    assert list(lines) == ["saved"]
    hub.jobs.grace_s = 0.2
    child = "import subprocess, sys, time, signal; signal.signal(15, signal.SIG_IGN)"
    child += "; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid); time.sleep(60)"
    deaf = run(ada, child)
    lines = iter(ada.fetch_job_logs(job_id=deaf.id, namespace="ada", follow=True))
    pid = int(next(lines))
    ada.cancel_job(job_id=deaf.id, namespace="ada")
    assert list(lines) == []
    hub.jobs.grace_s = 10.0
    with suppress(psutil.NoSuchProcess):
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_stuck_job_starts_when_the_hub_lets_it_and_a_deleted_one_never(hub: Hub, ada: HfApi):
    hub.jobs.stuck = True
    first, second = run(ada, "print(1)"), run(ada, "print(2)")
    time.sleep(0.3)
    assert ada.inspect_job(job_id=first.id, namespace="ada").status.stage == "SCHEDULING"
    hub.jobs.delete(second.id)
    hub.jobs.stuck = False
    assert ended(ada, first).status.stage == "COMPLETED"
    gone = ended(ada, second)
    assert (gone.status.stage, gone.started_at) == ("DELETED", None)


def test_logs_have_a_tail_and_may_close_early(hub: Hub, ada: HfApi):
    job = run(ada, "print('a\\nb\\nc'); import time; time.sleep(60)")
    until(lambda: len((hub.folder / "jobs" / f"{job.id}.log").read_text().splitlines()) == 4, 10)
    hub.jobs.close_logs_early = True
    assert list(ada.fetch_job_logs(job_id=job.id, namespace="ada", follow=True, tail=2)) == ["b", "c"]
    assert ada.inspect_job(job_id=job.id, namespace="ada").status.stage == "RUNNING", "only the stream has ended"
    hub.jobs.close_logs_early = False
    ada.cancel_job(job_id=job.id, namespace="ada")


def test_metrics_hardware_and_what_it_cost(hub: Hub, ada: HfApi):
    job = run(ada, "while True: pass", namespace="lab", flavor="a10g-largex2")
    until(lambda: hub.jobs.runs[job.id].stage == "RUNNING", 10)
    hub.jobs.metrics_s = 0.1
    *_, last = islice(ada.fetch_job_metrics(job_id=job.id, namespace="lab"), 4)
    assert len(last["gpus"]) == 2 and last["memory_total_bytes"] == 92 * 10**9 > last["memory_used_bytes"] > 10**6
    assert last["cpu_usage_pct"] > 0
    ada.cancel_job(job_id=job.id, namespace="lab")
    assert list(ada.fetch_job_metrics(job_id=job.id, namespace="lab")) == []  # 500, which the client knows
    hardware = {one.name: one for one in ada.list_jobs_hardware()}
    assert {"cpu-basic", "t4-small", "a10g-largex2", "a100x8", "h200"} <= hardware.keys()
    assert (hardware["a10g-largex2"].accelerator.vram, hardware["cpu-basic"].accelerator) == ("48 GB", None)
    assert hardware["h200"].unit_cost_usd * 60 == pytest.approx(5.00, abs=0.001)  # dollars an hour
    assert hub.jobs.spent("lab") == pytest.approx(3.00 / 60)  # one minute that began


def test_whose_job_it_is(hub: Hub, ada: HfApi, bob: HfApi):
    job = run(ada, "print()", name="mine", labels={"n": "1"})
    for ask in (bob.inspect_job, bob.cancel_job):
        with pytest.raises(JobNotFoundError):
            ask(job_id=job.id, namespace="ada")
    for namespace in ("ada", "lab"):
        with pytest.raises(HfHubHTTPError, match="403"):
            run(bob, "print()", namespace=namespace)
    narrow = HfApi(endpoint=hub.url, token=hub.people.add("ada", scopes=("read-repos",)).token)
    with pytest.raises(HfHubHTTPError, match="jobs"):
        run(narrow, "print()")
    ended(ada, job)
    assert [one.id for one in ada.list_jobs(namespace="ada", labels={"n": "1"}, status="COMPLETED")] == [job.id]
    assert list(ada.list_jobs(namespace="ada", labels={"n": "1"}, status="ERROR")) == []
    assert ada.update_job_labels(job_id=job.id, labels={"n": "2"}, namespace="ada").labels == {"name": "mine", "n": "2"}


def test_uv_runs_scripts_with_this_interpreter_and_installs_nothing(ada: HfApi):
    code = "import sys; print(sys.executable, sys.argv[1:])"
    script = f'echo "{code}" > s.py; pip install x; uv run --with torch --python 3.12 s.py --a b; uv run python -c "print(1)"'
    job = ada.run_job(image="x", command=["bash", "-ec", script], namespace="ada")
    *_, ran, one = ada.fetch_job_logs(job_id=job.id, namespace="ada", follow=True)
    assert (ran, one) == (f"{sys.executable} ['--a', 'b']", "1")
    assert ended(ada, job).status.stage == "COMPLETED"


def test_a_mounted_bucket_has_what_was_in_it_and_keeps_what_the_job_wrote(
    hub: Hub, ada: HfApi, bob: HfApi, tmp_path: Path
):
    (tmp_path / "in.json").write_text("[7]")
    volume = ada.sync_job_volume(tmp_path, "/data", remote_name="run", read_only=False, namespace="ada")
    hub.repos.write("model", "ada/base", {"config.json": b"{}"})
    volumes = [volume, Volume(type="model", source="ada/base", mount_path="/base")]
    code = "mkdir /data/new; rm /data/in.json; ls /base /database; echo $WHERE; echo x > /data/new/out; echo /base/no >> /base/config.json"
    more = {"volumes": volumes, "namespace": "ada", "env": {"WHERE": "/data/new"}}
    job = ada.run_job(image="x", command=["bash", "-c", code], **more)
    lines = list(ada.fetch_job_logs(job_id=job.id, namespace="ada", follow=True))
    assert any("config.json" in line for line in lines) and any("'/database'" in line for line in lines)
    assert lines[-1].endswith("/data/new") and lines[-1] != "/data/new"
    assert ended(ada, job).status.stage == "COMPLETED"
    ada.sync_bucket("hf://buckets/ada/jobs-artifacts/run", str(tmp_path / "found"))
    assert [file.name for file in (tmp_path / "found").rglob("*") if file.is_file()] == ["out"]
    assert (tmp_path / "found" / "new" / "out").read_text() == "x\n"
    assert hub.repos.files("model", "ada/base")["config.json"] == b"{}"
    with pytest.raises(HfHubHTTPError, match="404"):
        run(bob, "print()", namespace="bob", volumes=[volume])


def test_a_bucket_gets_what_is_written_while_the_job_runs_and_not_what_a_killed_one_had_not_brought(
    hub: Hub, ada: HfApi
):
    ada.create_bucket("ada/kept")
    volumes = [Volume(type="bucket", source="ada/kept", mount_path="/out")]
    code = "import os, sys, time; open(sys.argv[1] + '/a', 'w').write('1'); time.sleep(60)"
    hub.jobs.sync_s = 0.1
    job = ada.run_job(image="x", command=["python", "-c", code, "/out"], namespace="ada", volumes=volumes)
    until(lambda: hub.repos.files("bucket", "ada/kept") == {"a": b"1"}, 10)
    ada.cancel_job(job_id=job.id, namespace="ada")
    hub.jobs.sync_s = 2.0
    code = (
        "import os, sys, time; open(sys.argv[1] + '/b', 'w').write('1'); print('written', flush=True); time.sleep(60)"
    )
    job = ada.run_job(image="x", command=["python", "-c", code, "/out"], namespace="ada", volumes=volumes)
    lines = iter(ada.fetch_job_logs(job_id=job.id, namespace="ada", follow=True))
    assert next(lines) == "written"
    ada.cancel_job(job_id=job.id, namespace="ada")
    assert list(lines) == []
    assert hub.repos.files("bucket", "ada/kept").keys() == {"a"}
    until(lambda: not [token for token in hub.people._by_token if token.startswith("hf_mount_")], 5)


def test_a_local_script_of_run_uv_job_comes_by_its_bucket(ada: HfApi, tmp_path: Path):
    (tmp_path / "work.py").write_text("import sys; print('from', sys.argv[1:])")
    job = ada.run_uv_job(str(tmp_path / "work.py"), script_args=["--n", "1"], dependencies=["trl"], namespace="ada")
    assert list(ada.fetch_job_logs(job_id=job.id, namespace="ada", follow=True)) == ["from ['--n', '1']"]


def test_a_hub_that_was_away_knows_its_jobs_and_none_runs_on(tmp_path: Path):
    with serve(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token=hub.people.add("ada", "hf_ada").token)
        done, lost = run(api, "print('hello')"), run(api, "import os, time; print(os.getpid()); time.sleep(60)")
        assert ended(api, done).status.stage == "COMPLETED"
        pid = int(next(iter(api.fetch_job_logs(job_id=lost.id, namespace="ada", follow=True))))
    assert not psutil.pid_exists(pid)
    with serve(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token="hf_ada")
        assert {job.id: job.status.stage for job in api.list_jobs(namespace="ada")} == {
            done.id: "COMPLETED",
            lost.id: "ERROR",
        }
        assert list(api.fetch_job_logs(job_id=done.id, namespace="ada")) == ["hello"]


def test_a_space_builds_after_a_commit_and_is_paused_and_set(hub: Hub, ada: HfApi, bob: HfApi):
    name = "ada/page"
    ada.create_repo(name, repo_type="space", space_sdk="docker", space_variables=[{"key": "MODE", "value": "first"}])
    assert ada.get_space_runtime(name).stage == "NO_APP_FILE"
    hub.repos.write("space", name, {"Dockerfile": b"FROM scratch"})
    now = ada.get_space_runtime(name)
    assert (now.stage, now.hardware, now.requested_hardware) == ("BUILDING", None, "cpu-basic")
    assert "page" in "".join(ada.fetch_space_logs(name, build=True, follow=True))  # ends with the build
    now = bob.get_space_runtime(name)
    assert (now.stage, now.hardware, now.sleep_time) == ("RUNNING", "cpu-basic", 48 * 3600)
    assert ada.pause_space(name).stage == "PAUSED"
    assert ada.restart_space(name).stage == "BUILDING"
    assert ada.request_space_hardware(name, "t4-small", sleep_time=600).requested_hardware == "t4-small"
    assert ada.set_space_sleep_time(name, 300).sleep_time == 300
    ada.set_space_sleep_time(name, 1)
    until(lambda: ada.get_space_runtime(name).stage == "SLEEPING")
    assert ada.restart_space(name).stage == "BUILDING"
    ada.set_space_sleep_time(name, 300)
    ada.add_space_secret(name, "KEY", "hidden", description="a key")
    assert (ada.get_space_secrets(name)["KEY"].description, ada.add_space_variable(name, "B", "2")["B"].value) == (
        "a key",
        "2",
    )
    assert {key: one.value for key, one in ada.get_space_variables(name).items()} == {"MODE": "first", "B": "2"}
    assert ada.delete_space_variable(name, "B").keys() == {"MODE"}
    secret = httpx.get(f"{hub.url}/api/spaces/{name}/secrets", headers={"authorization": f"Bearer {ada.token}"})
    assert "hidden" not in secret.text
    for ask in (bob.pause_space, bob.get_space_secrets):
        with pytest.raises(HfHubHTTPError, match="403"):
            ask(name)
    hub.spaces.broken[name] = "RUNTIME_ERROR"
    assert ada.get_space_runtime(name).stage == "RUNTIME_ERROR"
    assert "t4-small" in {one.name for one in ada.list_spaces_hardware()}


def test_papers_are_found_told_and_read(hub: Hub):
    api = HfApi(endpoint=hub.url, token=False)
    best, *_ = api.list_papers(query="GRPO warm-up arithmetic")
    assert (best.id, best.submitted_by.username) == ("2501.90001", "ada") and "GRPO" in best.summary
    assert list(api.list_papers(query="zebrafish")) == []
    assert api.paper_info("2503.90003").authors[0].name == "D. Muster"
    assert "13-grams" in api.read_paper("2504.90004")
    assert [paper.id for paper in api.list_daily_papers(month="2025-03")] == ["2503.90003"]
    assert next(iter(api.list_daily_papers(sort="trending"))).upvotes == 58
    with pytest.raises(HfHubHTTPError, match="404"):
        api.paper_info("9999.99999")


def test_the_viewer_shows_splits_rows_sizes_and_parquet(hub: Hub, ada: HfApi, bob: HfApi, tmp_path: Path):
    rows = [{"text": f"row {n}", "n": n, "messages": [{"role": "user", "content": "hi"}]} for n in range(150)]
    lines = "\n".join(map(json.dumps, rows)).encode()
    hub.repos.write("dataset", "ada/rows", {"train.jsonl": lines, "test.csv": b"text,n\na,1\n"}, visibility="private")

    client = httpx.Client(base_url=f"{hub.url}/datasets-server")

    def ask(what: str, by: HfApi = ada, **query) -> httpx.Response:
        headers = {"authorization": f"Bearer {by.token}"}
        return client.get(f"/{what}", params={"dataset": "ada/rows"} | query, headers=headers)

    valid = ask("is-valid").json()
    assert valid["viewer"] is valid["search"] is True and valid["filter"] is False
    found = ask("search", query="ROW 14", length=2).json()
    assert [row["row"]["n"] for row in found["rows"]] == [14, 140] and found["num_rows_total"] == 11
    assert [one["split"] for one in ask("splits").json()["splits"]] == ["test", "train"]
    first = ask("first-rows").json()
    assert (first["rows"][0]["row"], len(first["rows"])) == (rows[0], 100)
    assert [one["type"].get("dtype") for one in first["features"]] == ["string", "int64", None]
    more = ask("rows", offset=140, length=20).json()
    assert ([one["row_idx"] for one in more["rows"]][-1], more["num_rows_total"]) == (149, 150)
    assert ask("rows", length=101).status_code == 422 and ask("rows", split="none").status_code == 404
    assert ask("size").json()["size"]["dataset"]["num_rows"] == 151
    column = ask("statistics").json()["statistics"][1]["column_statistics"]
    assert (column["min"], column["max"], column["mean"]) == (0, 149, 74.5)
    url = next(one["url"] for one in ask("parquet").json()["parquet_files"] if one["split"] == "train")
    file = {"revision": "refs/convert/parquet", "repo_type": "dataset", "cache_dir": tmp_path}
    got = ada.hf_hub_download("ada/rows", url.rpartition("%2Fparquet/")[2], **file)
    assert pyarrow.parquet.read_table(got).num_rows == 150
    assert ask("rows", by=bob).status_code == 404
    card = b"---\nconfigs:\n- config_name: a\n  data_files:\n  - split: dev\n    path: train*\n---\n"
    hub.repos.write("dataset", "ada/rows", {"README.md": card})
    assert ask("splits").json()["splits"] == [{"dataset": "ada/rows", "config": "a", "split": "dev"}]
