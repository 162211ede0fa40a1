"""A machine that is lost: its worker and its trainer are killed, its disk is wiped, and another one goes on from the mirror."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi, Volume

from agent.kept import lacking
from agent.mirroring import Mirroring, connect, fetch
from agent.sessions import Request, not_theirs, open_session
from agent.settings import ROOT, Provider, Settings, SettingsError, _mirror, read
from agent.steering import delete, halt
from agent.wallet import Grant, Wallet
from agent.worker import Worker
from lab.backend import read_json
from lab.backends.runner import run_file
from lab.models import STARTER
from lab.processes import alive
from lab.tasks import write_rows
from record.contents import oids
from record.events import Budget, Call, Closed, Goal, Halted, Launched, Opened, Progressed, Replied
from record.journal import Journal
from record.log import Log
from record.mirror import Pace
from record.remote import Trouble
from record.shelf import Shelf
from record.views import Views
from tests.chat.server import chat_server
from tests.chat.turns import says, stalls
from tests.conftest import cli_environment, forks, until
from tests.hub import Hub, serve
from tests.hub.prying import pried
from tests.recipes.rig import sft_rows

REPO = "ada/ml-intern-sessions"
QUICK = Pace(every=0.5, gap=0.1, most=10_000)
CONFIG = {"data": "data/rows.jsonl", "max_steps": 2000, "batch_size": 8, "max_length": 64, "save_steps": 20}
TRAIN = Call(id="c1", name="train", arguments={"config": CONFIG, "idea": "try", "expected_gain": 0.1})


def work(server: Settings) -> None:
    """What a worker does, with its one mirror at a quicker pace."""
    wallet = Wallet(server)
    Mirroring(wallet.settings_of("ada"), QUICK).start()
    Worker(wallet).run()


@contextmanager
def working(server: Settings) -> Iterator[None]:
    """A worker in a process of its own, which is killed in the end."""
    process = forks("agent.session", __name__).Process(target=work, args=(server,))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as hub:
        hub.people.add("ada", "hf_ada")
        yield hub


@pytest.fixture
def server(settings: Settings, hub: Hub) -> Settings:
    """Settings of a Space of ada's with her token, on which people sign in; nobody has. The mirror is on."""
    job_env = settings.job_env | {"HF_ENDPOINT": hub.url}
    keys, mirror = {"HF_TOKEN": "hf_ada"}, "{user}/ml-intern-sessions"
    oauth = Provider("c", (), "http://127.0.0.1:9", "")
    return replace(settings, space="ada/intern", oauth=oauth, keys=keys, mirror=mirror, job_env=job_env)


@pytest.fixture
def space(server: Settings) -> Settings:
    """The part of it that is ada's."""
    return Wallet(server).settings_of("ada")


def keep(hub: Hub, space: Settings, session: str) -> None:
    """Mirror until the session is there."""
    mirroring = Mirroring(space, QUICK)
    mirroring.start()
    owner = f"sessions/{session}/owner.json"
    until(lambda: hub.repos.get("dataset", REPO) and owner in hub.repos.files("dataset", REPO))
    mirroring.stop(10)


def lose(settings: Settings, folder: Path) -> None:
    """What is left of a machine when its disk is wiped."""
    run = read_json(run_file(folder))
    for who in (run["runner"], run["trainer"]):
        with suppress(ProcessLookupError):
            os.kill(who[0], signal.SIGKILL)
    until(lambda: not alive(run["trainer"]))
    shutil.rmtree(settings.home)


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_on_a_new_machine(
    hub: Hub, server: Settings, space: Settings, new_session
):
    session, journal = new_session(space)
    write_rows(space.sessions / session / "workspace" / "data" / "rows.jsonl", sft_rows(200))
    journal.append(Replied(calls=(TRAIN,), model="m"))
    folder = space.sessions / session / "jobs" / "sft-1"

    def checkpoints() -> list[int]:
        files = hub.repos.files("dataset", REPO) if hub.repos.get("dataset", REPO) else {}
        whole = [path.split("/")[-2] for path in files if path.endswith("/complete")]
        return [int(name.removeprefix("checkpoint-")) for name in whole]

    with working(server):
        until(checkpoints)
        (kept,) = checkpoints()
    before = journal.log.path.read_bytes()
    lose(space, folder)
    with working(server):
        log = Log(space.sessions / session / "events.jsonl")
        again = Journal(log)
        until(lambda: any(isinstance(fact, Launched) and fact.attempt == 2 for fact in (again.views, *log)[1:]), 60)
        launched = max(fact.seq for fact in log if isinstance(fact, Launched))
        until(lambda: any(isinstance(fact, Progressed) for fact in (again.views, *log[launched:])[1:]), 60)
        (first, *_) = [fact for fact in log[launched:] if isinstance(fact, Progressed)]
        lines = zip(before.splitlines(), log.path.read_bytes().splitlines(), strict=False)
        assert sum(old == new for old, new in lines) > 5, "it is the same session, further on"
        assert first.step >= kept > 0, "what was trained is not trained again"
        assert len([fact for fact in log if isinstance(fact, Replied) and fact.calls == (TRAIN,)]) == 1
        halt(log)
        until(lambda: again.views.settled, 60)


def test_a_space_whose_disk_is_wiped_goes_on_from_its_bucket_without_a_token(server: Settings, tmp_path: Path):
    """Its worker is killed while the model is asked, and the next one has nothing but the folder."""
    turns = [says("", ("shell", {"command": "echo one >> done.txt"})), stalls(), says("Done."), *[says("Done.")] * 3]
    (tmp_path / "bucket").mkdir()
    with chat_server(turns) as chat:
        server = replace(server, mirror=str(tmp_path / "bucket"), oauth=None, keys={}, api_base=chat.base)
        space = Wallet(server).settings_of("ada")
        session = open_session(space, Request(task="chains", driver="openai/m", person="ada"))
        folder, indexes = space.sessions / session, tmp_path / "bucket" / "sessions"
        with working(server):
            until(lambda: len(chat.requests) == 2)
            before = (folder / "events.jsonl").read_bytes()
            until(lambda: [file for file in indexes.glob("*.json") if min(oids(before), key=len) in file.read_text()])
        shutil.rmtree(server.home)
        with working(server):
            until(lambda: (folder / "events.jsonl").exists())
            assert Journal(Log(folder / "events.jsonl")).wait(lambda views: views.settled, 60)
    assert (folder / "events.jsonl").read_bytes().startswith(before)
    assert (folder / "workspace" / "done.txt").read_text() == "one\n", "what was done is there, and is not done again"


def test_a_token_of_a_member_brings_no_session_of_theirs_to_the_space_of_an_organization(
    hub: Hub, server: Settings, space: Settings, new_session
):
    session, journal = new_session(space)
    journal.append(Halted(), Closed(outcome="stopped", reason="enough"))
    keep(hub, space, session)
    (whole,) = Wallet(replace(server, home=server.home / "other", space="org/intern")).everyone()
    with pytest.raises(SettingsError, match="the HF_TOKEN is of ada, and not of org"):
        fetch(whole)
    assert not whole.sessions.exists()


def test_the_command_line_fetches_what_is_not_here(hub: Hub, space: Settings, new_session, tmp_path: Path):
    session, journal = new_session(space)
    journal.append(Halted(), Closed(outcome="stopped", reason="enough"))
    keep(hub, space, session)
    assert pried(hub, "ada") == set()
    laptop = replace(space, home=tmp_path / "laptop", space=None)
    env = cli_environment(laptop) | {"HF_TOKEN": "hf_ada", "HF_ENDPOINT": hub.url, "ML_INTERN_MIRROR": "on"}

    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "agent", *arguments]
        return subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout

    assert f"{session}: fetched" in said("pull", session[:15])
    assert session in said("list")
    assert (laptop.sessions / session / "workspace").is_dir()
    log = Log(laptop.sessions / session / "events.jsonl")
    delete(laptop, log)
    mirroring = Mirroring(laptop, QUICK)
    mirroring.start()
    until(lambda: not [path for path in hub.repos.files("dataset", REPO) if session in path])
    mirroring.stop(10)


def test_a_sign_in_begins_the_mirror_and_the_next_one_goes_on_with_it(hub: Hub, space: Settings, new_session):
    _, journal = new_session(space)
    mirroring = Mirroring(replace(space, keys={}), replace(QUICK, longest=0.3))
    mirroring.start()

    def there() -> bytes:
        files = hub.repos.files("dataset", REPO) if hub.repos.get("dataset", REPO) else {}
        return b"".join(data for path, data in files.items() if "/events/" in path)

    mirroring.renew(space)
    until(lambda: there() == journal.log.path.read_bytes())
    hub.people.revoke("hf_ada")
    journal.append(Halted())
    until(lambda: [line for line in hub.faults.asked if line[3] == 401])
    hub.people.add("ada", "hf_next")
    mirroring.renew(replace(space, keys={"HF_TOKEN": "hf_next"}))
    until(lambda: there() == journal.log.path.read_bytes())
    mirroring.stop(5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_session_whose_machine_was_heard_of_a_moment_ago_is_fetched_once_it_is_silent(
    hub: Hub, space: Settings, new_session, tmp_path: Path
):
    session, _ = new_session(space)
    keep(hub, space, session)
    laptop = replace(space, home=tmp_path / "laptop", space=None)
    laptop.home.mkdir()
    (laptop.home / "mirror.lock").mkdir()  # at which its thread dies
    mirroring = Mirroring(laptop, replace(QUICK, dead=2.0, longest=0.1))
    mirroring.start()
    until(lambda: mirroring._thread and not mirroring._thread.is_alive())
    (laptop.home / "mirror.lock").rmdir()
    until(lambda: (mirroring.renew(laptop), (laptop.sessions / session / "events.jsonl").exists())[1], 20)
    mirroring.stop(10)


def test_a_session_that_names_files_of_others_is_not_laid_down_on_a_space(hub: Hub, server: Settings, space: Settings):
    other = server.home / "people" / "ben"
    secret = other / "sessions" / "x" / "workspace" / "rows.jsonl"
    link = space.sessions / "mine" / "jobs" / "sft-1" / "link"
    for path in (secret, link):
        path.parent.mkdir(parents=True)
    secret.write_text("{}")
    link.symlink_to(secret)

    def session(config: dict | None = None, data: str | None = None, **goal: str) -> list:
        about = Goal(**{"text": "t", "task": "chains", "model": "starter"} | goal)
        opened = Opened(session="s", goal=about, budget=Budget(), driver="autopilot", data=data)
        job = Launched(job="sft-1", recipe="sft", config=config or {}, machine="m", hours=1, folder="jobs/sft-1")
        return [opened, job]

    own = {
        "data": str(link.with_name("data.jsonl")),
        "items": str(space.vault / "x"),
        "model": str(STARTER),
        "lr": "auto",
    }
    fine = [session(), session(own), session({"model": "/home/ada/of-another-machine"}), session(model="org/name")]
    fine.append(session(task=f"table:org/name@{'c' * 40}"))
    workspace = str(space.sessions / "mine" / "workspace" / "x")
    named = [
        str(secret),
        str(link),
        f"{space.home}/../ben/not-yet",
        f"table:{secret}",
        f"a:{secret}",
        workspace,
        "/etc/passwd",
    ]
    theirs = [session({"deep": [{"model": text}]}) for text in named]
    theirs += [session(data=str(secret)), session(model=str(secret)), session(task=f"table:{secret}")]
    assert [not_theirs(space, Views(one)) for one in fine] == [""] * len(fine)
    assert all(not_theirs(space, Views(one)) for one in theirs)
    assert not_theirs(replace(space, space=None), Views(theirs[0])) == ""
    log = Log(space.home / "made-up.jsonl")
    log.append(*theirs[0])
    api = HfApi(endpoint=hub.url, token="hf_ada")
    api.create_repo(REPO, repo_type="dataset", private=True)
    place = "sessions/s/events/000001.jsonl"
    api.upload_file(path_or_fileobj=log.path, path_in_repo=place, repo_id=REPO, repo_type="dataset")
    assert "is no file of its own" in fetch(space).left["s"] and not (space.sessions / "s").exists()


@pytest.mark.parametrize("private", [True, False, None], ids=["private", "public", "unknown"])
def test_a_bucket_that_nobody_has_named_keeps_sessions_only_where_it_is_private(hub: Hub, space: Settings, private):
    api = HfApi(endpoint=hub.url, token="hf_ada")
    api.create_bucket("ada/store", private=bool(private))
    if private is not None:
        api.create_repo("ada/intern", repo_type="space", space_sdk="docker", exist_ok=True)
        api.set_space_volumes("ada/intern", [Volume(type="bucket", source="ada/store", mount_path="/data")])
    ours = replace(space, space="ada/intern", mirror="/data/ml-intern")
    if private:
        assert isinstance(connect(ours), Shelf)
        return
    why = "is not known" if private is None else "ada/store is public, and sessions are not"
    with pytest.raises(Trouble, match=rf"{why}.*set ML_INTERN_MIRROR to another folder of it"):
        connect(ours)
    assert isinstance(connect(replace(ours, mirror="/data/named")), Shelf)


def test_a_folder_can_be_the_owners_mirror_and_is_not_asked_for_before_it_is_used(space: Settings, tmp_path: Path):
    folder = tmp_path / "share"
    env = {"ML_INTERN_MIRROR": str(folder), "ML_INTERN_HOME": str(tmp_path / "home")}
    assert read(env).shelf == folder and read(env | {"ML_INTERN_MIRROR": f"{folder}/"}).shelf == folder
    inside = tmp_path / "home" / "kept"
    inside.mkdir(parents=True)
    with pytest.raises(SettingsError, match="outside ML_INTERN_HOME"):
        read(env | {"ML_INTERN_MIRROR": str(inside)})
    many = {"SPACE_ID": "o/i", "SPACE_HOST": "o-i.hf.space", "OAUTH_CLIENT_ID": "x", "OAUTH_CLIENT_SECRET": "y"}
    wallet = Wallet(read(env | many))
    wallet.give(Grant("ben", "a token", time.time() + 60))
    ben = wallet.settings_of("ben")
    assert wallet.settings_of("o").shelf == folder and (ben.shelf, ben.mirror) == (None, "{user}/ml-intern-sessions")
    assert lacking(wallet.settings_of("o")) == lacking(ben) == "" and lacking(wallet.settings_of("eve"))
    home, mounts = tmp_path / "home", "overlay / overlay rw 0 0\nhf-mount /data fuse.hf-mount rw 0 0\n"
    for alone in (True, False):
        assert _mirror({"SPACE_ID": "o/i"}, home, alone, mounts) == "/data/ml-intern"
        assert (
            _mirror({"SPACE_ID": "o/i", "ML_INTERN_MIRROR": "on"}, home, alone, mounts) == "{user}/ml-intern-sessions"
        )


def test_nobody_is_mirrored_who_has_not_asked_but_on_a_space(space: Settings):
    assert read({}).mirror == "" and read({"HF_TOKEN": "hf_x"}).mirror == ""
    assert read({"SPACE_ID": "ada/intern"}).mirror == "{user}/ml-intern-sessions"
    assert read({"SPACE_ID": "ada/intern", "ML_INTERN_MIRROR": "off"}).mirror == ""
    assert read({"ML_INTERN_MIRROR": "my-runs"}).mirror == "my-runs"
    with pytest.raises(SettingsError, match="ML_INTERN_MIRROR is 'a/b/c'"):
        read({"ML_INTERN_MIRROR": "a/b/c"})
    many = {
        "SPACE_ID": "org/intern",
        "SPACE_HOST": "org-intern.hf.space",
        "OAUTH_CLIENT_ID": "x",
        "OAUTH_CLIENT_SECRET": "y",
    }
    assert read(many | {"ML_INTERN_MIRROR": "my-runs"}).mirror == "my-runs", "of whoever has signed in"
    with pytest.raises(SettingsError, match="ML_INTERN_MIRROR is 'org/all', one for everybody who signs in"):
        read(many | {"ML_INTERN_MIRROR": "org/all"})
    with pytest.raises(SettingsError, match="The mirror is off"):
        fetch(replace(space, mirror=""))
