"""The Hub on loopback, asked by the real clients: what they are answered, who is answered, and what lasts."""

import importlib
import io
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RevisionNotFoundError,
)  # fmt: skip
from starlette.routing import Route

from agent.settings import ROOT
from tests.hub import Hub, serve
from tests.hub.access import signed
from tests.hub.lfs import PART
from tests.hub.people import Person
from tests.hub.server import PARTS

CARD = b"---\nlicense: mit\nbase_model: big/base\ntags: [tiny]\n---\n# A model\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as hub:
        yield hub


def api(hub: Hub, name: str, **more) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.people.add(name, **more).token)


def add(path: str, content: bytes) -> CommitOperationAdd:
    """By a stream, which the client sends by LFS and not by Xet."""
    return CommitOperationAdd(path, io.BytesIO(content))


def asked(hub: Hub, where: str) -> list[int | None]:
    """How each request was answered whose "METHOD /path" matches."""
    return [status for _, method, path, status in hub.faults.asked if re.search(where, f"{method} {path}")]


def test_a_repository_from_its_making_to_its_end(hub: Hub, tmp_path: Path):
    ada = api(hub, "ada")
    assert ada.create_repo("ada/m", private=True).repo_id == ada.create_repo("ada/m", exist_ok=True).repo_id == "ada/m"
    big = os.urandom(PART + 1)  # two parts
    first = ada.create_commit("ada/m", [add("README.md", CARD), add("w/big.bin", big)], commit_message="one")
    assert asked(hub, "PUT /lfs/content") == [200, 200] and asked(hub, "POST /lfs/complete") == [200]
    again = ada.create_commit("ada/m", [add("w/big.bin", big)], commit_message="no news")
    assert again.oid == first.oid and len(asked(hub, "POST .*/commit/")) == 1, "the client saw that nothing is new"
    about = ada.model_info("ada/m", files_metadata=True)
    assert (about.sha, about.private, about.card_data["license"]) == (first.oid, True, "mit")
    assert {"tiny", "license:mit", "base_model:big/base", "base_model:finetune:big/base"} <= set(about.tags or [])
    assert {s.rfilename: s.size for s in about.siblings or []}["w/big.bin"] == len(big)
    edits = [CommitOperationDelete("README.md"), CommitOperationCopy("w/big.bin", "copy.bin"), add("a.txt", b"a")]
    asks = ada.create_commit("ada/m", edits, commit_message="two", create_pr=True)
    assert "copy.bin" not in ada.list_repo_files("ada/m") and "copy.bin" in ada.list_repo_files(
        "ada/m", revision="refs/pr/1"
    )
    ada.comment_discussion("ada/m", asks.pr_num, "good")
    ada.merge_pull_request("ada/m", asks.pr_num)
    told = ada.get_discussion_details("ada/m", 1)
    assert (told.status, [event.type for event in told.events]) == (
        "merged",
        ["comment", "comment", "status-change", "commit"],
    )
    assert [d.num for d in ada.get_repo_discussions("ada/m")] == [1]
    got = Path(ada.snapshot_download("ada/m", cache_dir=tmp_path / "cache"))
    assert {str(p.relative_to(got)) for p in got.rglob("*") if p.is_file()} == {
        ".gitattributes",
        "a.txt",
        "copy.bin",
        "w/big.bin",
    }
    assert (got / "copy.bin").read_bytes() == big
    ada.create_branch("ada/m", branch="try/this", revision=first.oid)
    ada.create_tag("ada/m", tag="v1")
    with pytest.raises(HfHubHTTPError, match="already exists"):
        ada.create_tag("ada/m", tag="v1")
    assert [c.title for c in ada.list_repo_commits("ada/m")] == ["two (#1)", "one", "initial commit"]
    last = {row.path: row.last_commit.title for row in ada.list_repo_tree("ada/m", recursive=True, expand=True)}
    assert last["w/big.bin"] == "one" and last["a.txt"] == "two (#1)"
    ada.super_squash_history("ada/m")
    assert len(hub.repos.commits("model", "ada/m")) == 1 and len(hub.repos.commits("model", "ada/m", "try/this")) == 2
    ada.delete_branch("ada/m", branch="try/this")
    refs = ada.list_repo_refs("ada/m", include_pull_requests=True)
    assert [r.name for kind in (refs.branches, refs.tags, refs.pull_requests or []) for r in kind] == [
        "main",
        "v1",
        "1",
    ]
    with pytest.raises(RevisionNotFoundError):
        ada.list_repo_files("ada/m", revision="try/this")
    ada.duplicate_repo("ada/m", "ada/twin")
    ada.move_repo("ada/twin", "ada/moved")
    ada.delete_repo("ada/m")
    assert hub.repos.files("model", "ada/moved")["copy.bin"] == big and not ada.repo_exists("ada/m")


def test_lists_are_searched_filtered_and_paged(hub: Hub):
    for n in range(5):
        hub.repos.write("model", f"ada/tiny-{n}", {"README.md": CARD})
    hub.repos.write("dataset", "bob/tiny-data", {"README.md": b"---\nlanguage: en\n---\n"}, visibility="private")
    ada, bob = api(hub, "ada"), api(hub, "bob")
    assert [m.id for m in ada.list_models(author="ada", filter="license:mit", limit=2)] == ["ada/tiny-4", "ada/tiny-3"]
    assert not list(ada.list_models(filter="license:apache-2.0")) and not list(ada.list_models(author="bob"))
    assert [d.id for d in bob.list_datasets(search="TINY", language="en")] == ["bob/tiny-data"]
    assert not list(ada.list_datasets())
    page = httpx.get(f"{hub.url}/api/models", params={"limit": 3})
    assert [len(page.json()), len(httpx.get(page.links["next"]["url"]).json())] == [3, 2]
    names = {f"{n:04}.txt": b"" for n in range(1500)}
    hub.repos.write("dataset", "ada/many", names)
    assert len(list(ada.list_repo_tree("ada/many", repo_type="dataset"))) == 1501  # in two pages, with .gitattributes


def test_a_commit_happens_wholly_or_not_at_all(hub: Hub):
    ada = api(hub, "ada")
    ada.create_repo("ada/m")
    start = hub.repos.commits("model", "ada/m")[0].oid
    lines = [
        {"key": "header", "value": {"summary": "half"}},
        {"key": "file", "value": {"path": "a.txt", "content": "YQ==", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": "0" * 64, "size": 1}},
    ]
    head = {"authorization": f"Bearer {ada.token}"}
    body = "\n".join(map(json.dumps, lines))
    assert httpx.post(f"{hub.url}/api/models/ada/m/commit/main", content=body, headers=head).status_code == 400
    for create_pr in (False, True):
        with pytest.raises(HfHubHTTPError, match="404"):
            edits = [add("a.txt", b"a"), CommitOperationDelete("not-there")]
            ada.create_commit("ada/m", edits, commit_message="half", create_pr=create_pr)
    assert not list(ada.get_repo_discussions("ada/m")) and list(hub.repos.refs(hub.repos.repo("model", "ada/m"))) == [
        "refs/heads/main"
    ]
    assert [c.oid for c in hub.repos.commits("model", "ada/m")] == [start]

    def race(n: int) -> int:
        try:
            ada.create_commit("ada/m", [add(f"{n}.txt", b"")], commit_message=f"{n}", parent_commit=start)
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(race, range(6))) == [200] + [412] * 5
    assert len(hub.repos.commits("model", "ada/m")) == 2
    with pytest.raises((ValueError, BadRequestError)):
        ada.create_commit("ada/m", [add("README.md", b"---\na: [\n---\n")], commit_message="bad card")


def test_what_goes_wrong_on_the_way(hub: Hub, tmp_path: Path):
    ada = api(hub, "ada")
    ada.create_repo("ada/m")
    hub.faults.add("POST .*preupload", status=503)
    hub.faults.add("PUT /lfs", status=429, headers={"ratelimit": '"api";r=0;t=0'})
    weights = bytes(DOWNLOAD_CHUNK_SIZE) + b"end" * 10**6
    ada.create_commit("ada/m", [add("w.bin", weights)], commit_message="tried again")
    assert asked(hub, "preupload") == [503, 200] and asked(hub, "PUT /lfs") == [429, 200]
    hub.faults.add("POST .*/commit/", lost=True)
    before = hub.repos.commits("model", "ada/m")[0].oid
    edit = {"operations": [add("a.txt", b"a")], "commit_message": "never answered", "parent_commit": before}
    with pytest.raises((httpx.HTTPError, ValueError)):
        ada.create_commit("ada/m", **edit)
    assert hub.repos.commits("model", "ada/m")[0].title == "never answered"
    edit["operations"] = [add("a.txt", b"b")]
    with pytest.raises(HfHubHTTPError, match="412"):  # who names the parent does not do it twice
        ada.create_commit("ada/m", **edit)
    hub.faults.add("GET .*/resolve/", cut_after=len(weights) - 1)
    got = ada.hf_hub_download("ada/m", "w.bin", cache_dir=tmp_path / "cache")
    assert Path(got).read_bytes() == weights and asked(hub, "GET .*/resolve/") == [200, 206]


def _addresses(hub: Hub) -> list[tuple[str, str]]:
    """(method, address) of every route of the Hub, pointed at ada's private repository and bucket, as bob might."""
    told = {"t": "models", "ns": "ada", "name": "secret", "rev": "main", "path": "hidden.txt", "num": "1", "prefix": ""}
    told |= {"verb": "comment", "branch": "main", "hash": "0" * 64, "store": "ada-0"}
    routes = [
        route for part in PARTS for route in importlib.import_module(f"tests.hub.{part}").routes(hub) if route.path
    ]
    found = []
    for route in routes:
        assert isinstance(route, Route)
        names = set(re.findall(r"{(\w+)", route.path))
        if "name" in names or {"t"} == names or "ns" in names or "store" in names:
            path = re.sub(r"{(\w+)(:\w+)?}", lambda m: told.get(m[1], "x"), route.path)
            methods = (route.methods or set()) - {"HEAD"} | ({"HEAD"} if "resolve" in path else set())
            found += [(method, path.replace("secret/info", "secret.git/info")) for method in methods]
    return found


def test_nothing_private_is_answered_to_anybody_else(hub: Hub):
    ada = api(hub, "ada")
    for kind in ("model", "dataset", "space", "kernel"):
        hub.repos.write(kind, "ada/secret", {"hidden.txt": b"classified"}, visibility="private")
    ada.create_discussion("ada/secret", title="hidden talk")
    bucket = hub.repos.add("bucket", "ada/secret", "private")
    file = hub.repos.file(b"classified")
    hub.repos.put(bucket, "hidden.txt", file)
    strangers: list[Person | None] = [
        None,
        hub.people.add("bob"),
        hub.people.add("ada", "hf_inference", scopes=("jobs",)),
    ]
    strangers.append(hub.people.add("ada", "hf_other", scopes=("contribute-repos",), app="another"))
    oid = hub.repos.commits("model", "ada/secret")[0].oid
    words = ("hidden", "classified", oid, file.sha, file.oid, 'ada/secret"')
    body = json.dumps({"paths": ["hidden.txt"], "files": [], "objects": [], "target": {}})
    with httpx.Client(base_url=hub.url) as client:
        addresses = _addresses(hub)
        assert len(addresses) > 55
        for person in strangers:
            head = {"authorization": f"Bearer {person.token}"} if person else {}
            for method, path in addresses:
                got = client.request(method, path, headers=head, content=None if method in ("GET", "HEAD") else body)
                if got.status_code == 409 and person and person.name == "ada":
                    continue  # that the name is taken is said to everybody who may make things in the namespace
                who = f"{method} {path} for {person and person.name}: {got.status_code} {got.text} {got.headers}"
                assert got.status_code in (401, 403, 404) or got.json() == [], who
                assert not any(word in got.text + str(got.headers) for word in words), who
        head = {"authorization": f"Bearer {ada.token}"}
        answers = [client.get(path, headers=head) for method, path in addresses if method == "GET"]
    assert sum("hidden" in got.text or "classified" in got.text for got in answers) >= 9, "they do answer to ada"


def test_content_of_one_repository_is_not_to_be_had_by_its_name_for_another(hub: Hub):
    ada, bob = api(hub, "ada"), api(hub, "bob")
    ada.create_repo("ada/secret", private=True)
    ada.create_commit("ada/secret", [add("w.bin", b"classified")], commit_message="w")
    bob.create_repo("bob/m")
    sha = hub.repos.tree(repo := hub.repos.repo("model", "ada/secret"), hub.repos.resolve(repo, "main"))["w.bin"].sha
    head = {"authorization": f"Bearer {bob.token}"}
    lines = [{"key": "header", "value": {"summary": "steal"}}, {"key": "lfsFile", "value": {"path": "w", "oid": sha}}]
    body = "\n".join(map(json.dumps, lines))
    assert httpx.post(f"{hub.url}/api/models/bob/m/commit/main", content=body, headers=head).status_code == 400
    asks = {"operation": "upload", "objects": [{"oid": sha, "size": 10}]}
    told = httpx.post(f"{hub.url}/bob/m.git/info/lfs/objects/batch", json=asks, headers=head).json()["objects"][0]
    assert httpx.put(told["actions"]["upload"]["href"], content=b"guessed").status_code == 400
    assert (
        httpx.put(told["actions"]["upload"]["href"][:-1], content=b"classified").status_code == 403
    )  # not its signature
    assert list(hub.repos.files("model", "bob/m")) == [".gitattributes"]


def test_a_token_does_what_its_scopes_say(hub: Hub):
    hub.repos.write("model", "ada/old", {"a.txt": b"a"}, visibility="private")
    read = api(hub, "ada", scopes=("read-repos",))
    write = api(hub, "ada", scopes=("write-repos",))
    mine = api(hub, "ada", scopes=("contribute-repos",), app="ml-intern")
    assert "a.txt" in read.list_repo_files("ada/old")
    for refused in (lambda: read.upload_file(path_or_fileobj=b"", path_in_repo="b", repo_id="ada/old"),
                    lambda: read.create_repo("ada/new"), lambda: write.create_repo("ada/new"),
                    lambda: write.delete_repo("ada/old"), lambda: mine.list_repo_files("ada/old"),
                    lambda: api(hub, "bob").create_repo("ada/new")):  # fmt: skip
        with pytest.raises(HfHubHTTPError) as error:
            refused()
        assert error.value.response.status_code in (403, 404)
    write.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="ada/old")
    mine.create_repo("ada/new", private=True)
    same = api(hub, "ada", scopes=("contribute-repos",), app="ml-intern")  # signed in again
    same.upload_file(path_or_fileobj=b"c", path_in_repo="c.txt", repo_id="ada/new")
    assert hub.repos.files("model", "ada/new")["c.txt"] == b"c"
    team = api(hub, "eve", orgs=("team",))
    team.create_repo("team/m", private=True)
    assert api(hub, "joe", orgs=("team",)).auth_check("team/m", write=True) is None


def test_a_gate_lets_in_whom_it_was_told_to(hub: Hub, tmp_path: Path):
    hub.repos.write("model", "ada/gated", {"w.txt": b"w"})
    hub.repos.gate("model", "ada/gated", accepted=["bob"])
    for name, inside in (("bob", True), ("eve", False), ("ada", True)):
        one = api(hub, name)
        assert one.model_info("ada/gated").gated == "auto"
        if inside:
            assert one.auth_check("ada/gated") is None
            assert Path(one.hf_hub_download("ada/gated", "w.txt", cache_dir=tmp_path / name)).read_bytes() == b"w"
        else:
            for read in (
                lambda one=one: one.auth_check("ada/gated"),
                lambda one=one: one.hf_hub_download("ada/gated", "w.txt", cache_dir=tmp_path / "eve"),
            ):
                with pytest.raises(GatedRepoError):
                    read()
    eve, sha = hub.people.add("eve").token, hub.repos.file(b"w").sha
    for path in ("xet-write-token/main?create_pr=1", "xet-read-token/main", "tree/main", "lfs-files/duplicate"):
        verb = "POST" if path == "lfs-files/duplicate" else "GET"
        body = {"target": {"type": "model", "name": "eve/m"}, "files": [{"sha256": sha}]}
        head = {"authorization": f"Bearer {eve}"}
        got = httpx.request(verb, f"{hub.url}/api/models/ada/gated/{path}", headers=head, json=body)
        assert got.headers["x-error-code"] == "GatedRepo", path
    api(hub, "ada").create_repo(
        "ada/app", repo_type="space", space_sdk="gradio", space_secrets=[{"key": "K", "value": "s"}]
    )
    api(hub, "bob").duplicate_repo("ada/app", "bob/app", repo_type="space")
    assert hub.repos.repo("space", "ada/app").more["secrets"] and hub.repos.repo("space", "bob/app").more == {
        "sdk": "gradio"
    }


TOKEN = "hf_of_ada"
CLIENT = """
import os, subprocess, sys
from pathlib import Path
from huggingface_hub import HfApi, constants
folder, xet = Path(sys.argv[1]), sys.argv[2] == "xet"
assert constants.HF_HUB_DISABLE_XET != xet
api, private = HfApi(), {"private": True}
(folder / "up/sub").mkdir(parents=True)
(folder / "up/sub/w.bin").write_bytes(b"".join(n.to_bytes(4, "little") for n in range(100_000)) + os.urandom(200_000))
(folder / "up/t.txt").write_text("text")
api.create_repo("ada/m", **private)
api.upload_folder(repo_id="ada/m", folder_path=folder / "up")
api.upload_file(repo_id="ada/m", path_in_repo="one.bin", path_or_fileobj=(folder / "up/sub/w.bin").read_bytes()[7:])
got = Path(api.snapshot_download("ada/m"))
assert (got / "sub/w.bin").read_bytes() == (folder / "up/sub/w.bin").read_bytes()
if xet:
    assert all(f.xet_hash for f in api.list_repo_tree("ada/m", recursive=True) if f.path.endswith(".bin"))
    api.create_bucket("ada/b", **private)
    api.sync_bucket(str(folder / "up"), "hf://buckets/ada/b/run", quiet=True)
    api.batch_bucket_files("ada/b", add=[(b"new", "new.txt")], delete=["run/t.txt"])
    api.copy_files("hf://ada/m/sub/", "hf://buckets/ada/b/from-repo/")
    api.sync_bucket("hf://buckets/ada/b", str(folder / "down"), quiet=True)
    names = {str(p.relative_to(folder / "down")) for p in (folder / "down").rglob("*") if p.is_file()}
    assert names == {"new.txt", "run/sub/w.bin", "from-repo/w.bin"}, names
    assert (folder / "down/from-repo/w.bin").read_bytes() == (folder / "up/sub/w.bin").read_bytes()
    import numpy
    from huggingface_hub import ModelHubMixin
    from safetensors.numpy import load_file, save_file
    class Tiny(ModelHubMixin):
        def __init__(self, weights):
            self.weights = weights
        def _save_pretrained(self, folder):
            save_file({"layer": self.weights}, folder / "model.safetensors")
    Tiny(numpy.arange(10, dtype="float32")).push_to_hub("ada/tiny", **private)
    assert load_file(api.hf_hub_download("ada/tiny", "model.safetensors"))["layer"].sum() == 45
    assert api.model_info("ada/tiny").safetensors.total == 10
else:
    import datasets
    rows = datasets.Dataset.from_dict({"q": [f"{n} + 1" for n in range(50)], "a": list(range(1, 51))})
    rows.push_to_hub("ada/d", split="train", **private)
    assert datasets.load_dataset("ada/d", split="train")[7] == {"q": "7 + 1", "a": 8}
    assert len(list(datasets.load_dataset("ada/d", split="train", streaming=True))) == 50
    hf = Path(sys.executable).with_name("hf")
    subprocess.run([hf, "upload", "ada/m", folder / "up/t.txt", "cli.txt"], check=True, stdout=subprocess.DEVNULL)
"""


def _client(hub: Hub, folder: Path, way: str) -> subprocess.Popen:
    quiet = {"HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "USE_TORCH": "0"}
    where = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_TOKEN": hub.people.add("ada", TOKEN).token}
    switch = {"HF_HUB_DISABLE_XET": "0" if way == "xet" else "1", "PYTHONPATH": str(ROOT)}
    folder.mkdir()
    line = [sys.executable, "-c", CLIENT, str(folder), way]
    return subprocess.Popen(line, env=os.environ | quiet | where | switch, stderr=subprocess.PIPE, text=True)


def test_clients_with_xet_and_without_it_and_a_hub_that_starts_again(tmp_path: Path):
    with serve(tmp_path / "xet") as one, serve(tmp_path / "plain") as two:
        running = [_client(one, tmp_path / "a", "xet"), _client(two, tmp_path / "b", "plain")]
        for process in running:
            assert (said := process.communicate(timeout=200)[1]) is not None and process.returncode == 0, said
        assert asked(one, "POST /cas/.*/shards") and not asked(two, "/cas/")
        two_kept = two.repos.files("model", "ada/m")
        kept = one.repos.files("model", "ada/m"), one.repos.files("bucket", "ada/b")
    assert kept[0]["sub/w.bin"] == (tmp_path / "a/up/sub/w.bin").read_bytes()
    with serve(tmp_path / "xet") as again:
        assert (again.repos.files("model", "ada/m"), again.repos.files("bucket", "ada/b")) == kept
        ada = HfApi(endpoint=again.url, token=TOKEN)  # known still
        assert ada.list_repo_commits("ada/m")[-1].title == "initial commit"
        there, head = f"{again.url}/ada/m/resolve/main/sub/w.bin", {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(there, headers=head | {"range": "bytes=5-8"}).content == kept[0]["sub/w.bin"][5:9]
    assert two_kept["cli.txt"] == b"text"


def test_another_persons_xorbs_are_closed(hub: Hub):
    """A xorb mixes files: who may read one of them gets the bytes of that one, and nobody builds on those of others."""
    name = "a" * 64
    hub.repos.keep_xorb("ada", name, b"0123456789")
    key = signed(hub, "ada", name, 2, 4)
    there = f"{hub.url}/xorbs?key={key}"
    assert httpx.get(there, headers={"range": "bytes=2-4"}).content == b"234"
    for bytes_of_others in ("bytes=1-4", "bytes=2-5"):
        assert httpx.get(there, headers={"range": bytes_of_others}).status_code == 403
    assert httpx.get(there).status_code == 403
    assert httpx.get(there.replace(":2:4:", ":0:9:"), headers={"range": "bytes=0-9"}).status_code == 403
    chunk = b"\0" + (4).to_bytes(3, "little") + b"\0" + (4).to_bytes(3, "little") + b"mine"
    hub.repos.keep_xorb("ada", "0" * 64, chunk)
    row = bytes(32) + struct.pack("<4I", 0, 4, 0, 1)  # four bytes: the chunks from 0 to before 1
    shard = bytes(48) + b"\1" * 32 + struct.pack("<4I", 0, 1, 0, 0) + row + b"\xff" * 32
    for person, status in (("bob", 400), ("ada", 200)):
        api(hub, person).create_repo(f"{person}/m")
        head = {"authorization": f"Bearer {hub.people.add(person).token}"}
        told = httpx.get(f"{hub.url}/api/models/{person}/m/xet-write-token/main", headers=head).json()
        head = {"authorization": f"Bearer {told['accessToken']}"}
        assert httpx.post(f"{told['casUrl']}/v1/shards", content=shard, headers=head).status_code == status
        held = hub.repos.held(hub.repos.repo("model", f"{person}/m"), xet="01" * 32)
        assert (held and hub.repos.blob(held.sha).read_bytes()) == (b"mine" if status == 200 else None)


def test_it_is_a_program_for_people_who_work_offline(tmp_path: Path):
    line = [sys.executable, "-m", "tests.hub", str(tmp_path / "hub"), "--person", "ada:hf_ada"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as hub:
        try:
            assert hub.stdout and hub.stdout.readline() == "ada: HF_TOKEN=hf_ada\n"
            endpoint = hub.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
            assert HfApi(endpoint=endpoint, token="hf_ada").whoami()["name"] == "ada"
        finally:
            hub.terminate()
    assert hub.returncode == 0
