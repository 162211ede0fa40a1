"""Files of a session over real HTTP and in a real Chromium: what may be read, what it looks like, and what never leaves."""

import json
import os
import socket
import struct
import zlib
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.ui import story
from tests.ui.conftest import SHOTS, Site
from ui.files import LISTED, listing, open_one

KEY = "hf_" + "Ab1" * 12
ODD = (
    'a "quote".txt',
    "ünï ☃.txt",
    "a#b?c%20d.txt",
    "semi;colon.txt",
    "<img src=x onerror=window.hacked=1>.txt",
    "-rf.txt",
)


@pytest.fixture
def place(site: Site) -> tuple[str, Path]:
    name, log = site.session(story.beginning)
    return name, log.path.parent


def put(folder: Path, path: str, content: str | bytes) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def look(http: httpx.Client, name: str, path: str) -> dict:
    answer = http.get(f"/api/sessions/{name}/preview/{quote(path)}")
    assert answer.is_success, answer.text
    return answer.json()


def png(width: int, height: int) -> bytes:
    """A grey picture: the PNG specification's signature and its three chunks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([90] * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def safetensors(header: dict) -> bytes:
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + bytes(24)


def test_the_list_holds_what_a_person_may_read_and_nothing_else(place, http: httpx.Client):
    name, folder = place
    for path in (
        "report.md", "jobs/a/config.json", "jobs/a/result.json", "jobs/a/metrics.jsonl", "jobs/a/log.txt", "jobs/a/items.jsonl",
        "jobs/a/model/config.json", "jobs/a/model/model.safetensors", "workspace/data/x.csv", "workspace/notes.md",
    ):  # fmt: skip
        put(folder, path, "{}")
    for path in (
        "jobs/a/job.json", "jobs/a/run.json", "jobs/a/checkpoints/c/model.safetensors", "jobs/items.jsonl", "mine.txt",
        "scouts/one/events.jsonl", "workspace/.git/config", "workspace/__pycache__/a.pyc",
    ):  # fmt: skip
        put(folder, path, "{}")
    (folder / "workspace" / "link.md").symlink_to(folder / "report.md")
    (folder / "workspace" / "out").symlink_to("/etc")
    os.mkfifo(folder / "workspace" / "pipe")
    (folder / "workspace" / os.fsdecode(b"\xff.txt")).write_text("no text is its name")
    answer = http.get(f"/api/sessions/{name}/files").json()
    listed = {entry["path"] for entry in answer["files"]}
    assert listed == {
        "report.md", "jobs/a/config.json", "jobs/a/result.json", "jobs/a/metrics.jsonl", "jobs/a/log.txt", "jobs/a/items.jsonl",
        "jobs/a/model/config.json", "jobs/a/model/model.safetensors", "workspace/data/x.csv", "workspace/notes.md",
    }  # fmt: skip
    assert answer["more"] == 0 and all(entry["size"] == 2 for entry in answer["files"])


def test_a_long_list_says_how_much_it_leaves_out(place):
    _, folder = place
    for i in range(LISTED + 5):
        put(folder, f"workspace/many/{i}", "")
    found, more = listing(folder)
    assert len(found) == LISTED and more == 5


def test_nothing_leads_out_of_the_session(site: Site, place, http: httpx.Client, tmp_path: Path):
    name, folder = place
    secret = put(tmp_path, "secret.txt", "SECRET")
    put(site.settings.vault, "chains.jsonl", "SECRET")
    put(folder.parent / "20260101-000099-other", "workspace/x.txt", "SECRET")
    (folder / "workspace" / "link.txt").symlink_to(secret)
    (folder / "workspace" / "folder").symlink_to(tmp_path)
    (folder / "workspace" / "log.txt").symlink_to(folder / "events.jsonl")
    os.mkfifo(folder / "workspace" / "pipe")
    paths = (
        "events.jsonl", "workspace/../events.jsonl", "workspace%2f..%2fevents.jsonl", "workspace/log.txt", "workspace/link.txt",
        "workspace/folder/secret.txt", "../../vault/chains.jsonl", "..%2f..%2fvault%2fchains.jsonl", "%2e%2e/%2e%2e/vault/chains.jsonl",
        "../20260101-000099-other/workspace/x.txt", "..%2f20260101-000099-other%2fworkspace%2fx.txt", quote(str(secret), safe=""),
        "%2fetc%2fpasswd", "workspace", "workspace/", "workspace/pipe", "workspace/%00", "", ".", "jobs", "workspace/" + "a" * 5000,
    )  # fmt: skip
    for verb in ("preview", "download", "image"):
        for path in paths:
            answer = http.get(f"/api/sessions/{name}/{verb}/{path}")
            assert answer.status_code in (404, 405, 414), (verb, path)
            assert "SECRET" not in answer.text and '"kind":"opened"' not in answer.text, (verb, path)


def test_a_link_put_in_place_of_a_folder_is_not_followed(place, tmp_path: Path):
    """What is opened is opened part by part: between the judgement and the opening there is no room for a link."""
    _, folder = place
    put(folder, "workspace/data/x.txt", "ours")
    put(tmp_path, "x.txt", "SECRET")
    resolve = Path.resolve

    class Swapped(type(folder)):
        def resolve(self, strict: bool = False):
            seen = resolve(self, strict=strict)
            if strict:  # at this very moment somebody swaps the folder for a link
                (folder / "workspace" / "data").rename(folder / "workspace" / "was")
                (folder / "workspace" / "data").symlink_to(tmp_path)
            return seen

    assert open_one(Swapped(folder), "workspace/data/x.txt") is None
    assert (folder / "workspace" / "data" / "x.txt").read_text() == "SECRET", "it was swapped in time"


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_are_quoted_rightly(place, http: httpx.Client, odd: str):
    name, folder = place
    put(folder, f"workspace/{odd}", "hello")
    assert look(http, name, f"workspace/{odd}")["head"] == "hello"
    answer = http.get(f"/api/sessions/{name}/download/workspace/{quote(odd, safe='')}")
    said = answer.headers["content-disposition"]
    assert answer.content == b"hello" and said.startswith('attachment; filename="')
    assert said.endswith(f"filename*=UTF-8''{quote(odd, safe='')}")
    assert said.count('"') == 2


def test_html_is_never_a_page(place, http: httpx.Client):
    name, folder = place
    for path in ("workspace/x.html", "workspace/x.svg", "workspace/x.xhtml"):
        put(folder, path, f"<svg xmlns='http://www.w3.org/2000/svg'>{story.MARKUP}</svg>")
        answer = http.get(f"/api/sessions/{name}/download/{path}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert http.get(f"/api/sessions/{name}/image/{path}").status_code == 404
        assert look(http, name, path)["kind"] == "text"


def test_a_picture_is_what_its_first_bytes_say(place, http: httpx.Client):
    name, folder = place
    put(folder, "workspace/a.png", png(3, 2))
    put(folder, "workspace/b.jpg", png(3, 2))
    put(folder, "workspace/c.png", story.MARKUP)
    put(folder, "workspace/big.png", png(1, 1) + bytes(9 * 2**20))
    for path in ("a.png", "b.jpg"):
        answer = http.get(f"/api/sessions/{name}/image/workspace/{path}")
        assert answer.headers["content-type"] == "image/png" and "sandbox" in answer.headers["content-security-policy"]
    assert look(http, name, "workspace/a.png")["kind"] == "image"
    wrong = look(http, name, "workspace/c.png")
    assert wrong["kind"] == "text" and "named as a picture" in wrong["note"]
    assert look(http, name, "workspace/big.png")["kind"] == "none"
    assert http.get(f"/api/sessions/{name}/image/workspace/big.png").status_code == 404


def test_a_growing_file_is_downloaded_as_it_was(site: Site, place):
    name, folder = place
    file = put(folder, "workspace/grows.txt", b"a" * 20_000_000)
    with socket.create_connection(("127.0.0.1", site.settings.port)) as wire:
        path = f"/api/sessions/{name}/download/workspace/grows.txt"
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = wire.recv(65536)
        with file.open("ab") as more:  # while most of it is still to come
            more.write(b"b" * 1_000_000)
        while data := wire.recv(2**20):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: 20000000" in head.lower()
    assert body == b"a" * 20_000_000


def test_a_long_text_shows_its_two_ends(place, http: httpx.Client):
    name, folder = place
    lines = [f"line {i}" for i in range(400_000)]
    file = put(folder, "jobs/a/log.txt", "\n".join(lines) + "\n")
    seen = look(http, name, "jobs/a/log.txt")
    assert seen["head"].startswith("line 0\n") and seen["tail"].endswith("line 399999\n")
    assert seen["tail"].split("\n")[0] in lines[-20_000:]
    assert seen["skipped"] == file.stat().st_size - len(seen["head"]) - len(seen["tail"])
    assert len(seen["head"]) <= 65_536 and seen["size"] == file.stat().st_size


def test_keys_in_files_are_masked_in_previews(place, http: httpx.Client):
    name, folder = place
    for path, content in (
        ("jobs/a/log.txt", f"HF_TOKEN={KEY}"),
        ("jobs/a/config.json", json.dumps({"note": KEY})),
        ("workspace/x.jsonl", json.dumps({"a": KEY})),
        ("workspace/x.csv", f"a,b\n1,{KEY}\n"),
        ("workspace/x.md", f"# {KEY}"),
    ):
        put(folder, path, content)
        assert KEY not in json.dumps(look(http, name, path)), path


def test_json_and_tables_of_every_kind(place, http: httpx.Client):
    name, folder = place
    put(folder, "workspace/a.json", '{"a": [1, NaN], "b": "\\ud800"}')
    assert look(http, name, "workspace/a.json") == {
        "kind": "json",
        "text": '{\n  "a": [\n    1,\n    NaN\n  ],\n  "b": "?"\n}',
        "size": 30,
    }
    put(folder, "workspace/deep.json", "[" * 100_000)
    assert look(http, name, "workspace/deep.json")["kind"] == "text"
    put(
        folder,
        "workspace/b.jsonl",
        "".join(json.dumps({"n": i, f"only{i % 2}": {"x": 2**70}}) + "\n" for i in range(150)),
    )
    rows = look(http, name, "workspace/b.jsonl")
    assert (rows["kind"], rows["columns"], len(rows["rows"]), rows["more"]) == (
        "table",
        ["n", "only0", "only1"],
        100,
        True,
    )
    assert rows["rows"][1] == ["1", "", '{"x": 1180591620717411303424}']
    put(folder, "workspace/c.csv", '\ufeffname,text\na,"two\nlines"\n<b>,x\n')
    table = look(http, name, "workspace/c.csv")
    assert (
        table["columns"] == ["name", "text"]
        and table["rows"] == [["a", "two\nlines"], ["<b>", "x"]]
        and not table["more"]
    )
    put(folder, "workspace/torn.jsonl", '{"a": 1}\n{"a":')
    assert look(http, name, "workspace/torn.jsonl")["kind"] == "text"
    put(folder, "workspace/binary.csv", b"\0\1\2" * 100)
    assert look(http, name, "workspace/binary.csv")["kind"] == "none"


def test_a_big_table_is_read_at_its_head_only(place, http: httpx.Client):
    name, folder = place
    file = put(folder, "workspace/big.jsonl", "")
    with file.open("wb") as rows:
        rows.write(b'{"a": 1}\n' * 600_000)
        rows.truncate(40 * 2**30)  # 40 GiB of nothing behind it, on no disk
    seen = look(http, name, "workspace/big.jsonl")
    assert len(seen["rows"]) == 100 and seen["more"] and seen["size"] == 40 * 2**30


def test_parquet_shows_its_first_rows(place, http: httpx.Client):
    import pyarrow as pa
    from pyarrow import parquet

    name, folder = place
    table = pa.table({"q": [f"{i} + 1" for i in range(1000)], "n": list(range(1000)), "l": [[1.5, None]] * 1000})
    path = folder / "workspace" / "d.parquet"
    parquet.write_table(table, path)
    seen = look(http, name, "workspace/d.parquet")
    assert seen["columns"] == ["q", "n", "l"] and seen["types"] == ["string", "int64", "list<element: double>"]
    assert seen["rows"][7] == ["7 + 1", "7", "[1.5, null]"] and len(seen["rows"]) == 100
    assert seen["note"] == "1,000 rows, 3 columns" and seen["more"]
    put(folder, "workspace/e.parquet", path.read_bytes()[:-300] + b"PAR1")
    assert look(http, name, "workspace/e.parquet")["kind"] in ("none", "text")


@pytest.mark.parametrize(("kind", "value"), [("timestamp[ms]", 10**15), ("date32", 2**30)])
def test_parquet_with_a_date_that_is_none_is_said_to_be_unreadable(place, http: httpx.Client, kind: str, value: int):
    import pyarrow as pa
    from pyarrow import parquet

    name, folder = place
    days = pa.array([value], pa.int32() if kind == "date32" else pa.int64())
    parquet.write_table(pa.table({"t": days.cast(pa.type_for_alias(kind))}), folder / "workspace" / "t.parquet")
    seen = look(http, name, "workspace/t.parquet")
    assert seen["kind"] in ("none", "text") and seen["note"] == "It does not read as Parquet."


@pytest.mark.parametrize(
    "header",
    [
        '{"__metadata__": "abc"}',
        '{"__metadata__": [["a", "b"]]}',
        '{"a": {"dtype": "F32", "shape": [' + ", ".join(["7" * 4000] * 2) + "]}}",
        '{"a": {"dtype": "F32", "shape": [' + ", ".join([str(2**62)] * 9) + "]}}",
        '{"a": {"dtype": "F32", "shape": [Infinity]}}',
        '{"a": {"dtype": "F32", "shape": [-1]}}',
        '{"a": {"dtype": "F32", "shape": 3}}',
    ],
)
def test_a_safetensors_header_that_cannot_be_is_a_sentence(place, http: httpx.Client, header: str):
    name, folder = place
    put(folder, "workspace/odd.safetensors", struct.pack("<Q", len(header)) + header.encode())
    seen = look(http, name, "workspace/odd.safetensors")
    assert seen["kind"] in ("none", "text") and seen["note"] == "It does not read as safetensors."


def test_safetensors_shows_its_header(place, http: httpx.Client):
    name, folder = place
    header = {
        "__metadata__": {"format": "pt"},
        "embed": {"dtype": "BF16", "shape": [4, 3], "data_offsets": [0, 24]},
        "bias": {"dtype": "F32", "shape": [], "data_offsets": [0, 0]},
    }
    put(folder, "jobs/a/model/model.safetensors", safetensors(header))
    seen = look(http, name, "jobs/a/model/model.safetensors")
    assert seen["rows"] == [["embed", "BF16", "4 × 3", "12"], ["bias", "F32", "scalar", "1"]]
    assert seen["note"] == "2 tensors, 13 parameters (12 BF16, 1 F32) · format: pt"
    for wrong in (
        b"",
        b"abc",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"{{{{",
    ):
        put(folder, "workspace/wrong.safetensors", wrong)
        assert look(http, name, "workspace/wrong.safetensors")["kind"] in ("none", "text"), wrong
    with (folder / "workspace" / "huge.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000))
        file.truncate(100_000_000)
    assert "86 MiB" in look(http, name, "workspace/huge.safetensors")["note"]  # 90,000,000 / 2**20 = 85.8


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)])
def test_a_person_finds_and_reads_files(place, site: Site, visit, theme: str, width: int):
    name, folder = place
    put(
        folder,
        "workspace/data/train.jsonl",
        "".join(json.dumps({"q": f"{i} + 1 =", "a": story.MARKUP}) + "\n" for i in range(120)),
    )
    put(folder, "workspace/notes.md", f"# Notes\n\n{story.MARKUP}\n\n[x](javascript:alert(1))\n")
    put(folder, f"workspace/{ODD[4]}", f"{story.MARKUP}\n")
    put(folder, "workspace/plot.png", png(320, 200))
    put(
        folder,
        "jobs/sft-2/model/model.safetensors",
        safetensors({f"layers.{i}.w": {"dtype": "BF16", "shape": [64, 64], "data_offsets": [0, 8]} for i in range(30)}),
    )
    put(folder, "jobs/sft-2/config.json", json.dumps(story.CONFIG))
    page = visit(f"{site.url}/?session={name}&__theme={theme}", width, 900)
    if width < 500:
        page.get_by_role("button", name="Work").click()
    page.get_by_role("tab", name="Files").click()
    page.get_by_text("6 files").wait_for()
    page.screenshot(path=SHOTS / f"files_{theme}_{width}.png")
    page.get_by_label("filter files").fill("model safe")
    assert page.locator(".file").count() == 1
    page.keyboard.press("Escape")
    assert page.get_by_text("Stopped by local").count() == 0
    page.get_by_label("filter files").fill("")
    for path, sign in (
        ("train.jsonl", ".file-table"), ("notes.md", ".file-page .report h2"), (ODD[4], ".file-text"), ("plot.png", ".file-image img"),
        ("model.safetensors", ".file-table"), ("config.json", ".file-text"),
    ):  # fmt: skip
        row = page.locator(".file", has_text=path)
        row.focus()
        page.keyboard.press("Enter")
        page.locator(sign).first.wait_for()
        page.wait_for_timeout(150)
        page.screenshot(path=SHOTS / f"file_{path.split('.')[-1]}_{theme}_{width}.png")
        assert page.locator(".pane:not([hidden])").evaluate("p => p.scrollWidth <= p.clientWidth"), path
        page.keyboard.press("Enter")  # the way back has the focus
        page.locator(".files-list").wait_for()
        assert path in (page.evaluate("document.activeElement.dataset.path") or ""), path
    assert page.evaluate("window.hacked") is None
    assert page.locator("a[href^=javascript]").count() == 0


def test_a_file_is_downloaded_under_its_name(place, site: Site, visit):
    name, folder = place
    put(folder, f"workspace/{ODD[1]}", "hello")
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Files").click()
    page.locator(".file").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == ODD[1]
    assert Path(saved.value.path()).read_text() == "hello"


def test_the_answers_behind_a_score_open_as_a_file(place, site: Site, visit):
    name, folder = place
    put(folder, "jobs/base-dev/items.jsonl", json.dumps({"question": "1 + 1", "given": "3", "right": False}) + "\n")
    page = visit(f"{site.url}/?session={name}")
    page.locator(".scores").get_by_role("button", name="items").first.click()
    page.locator(".file-table").wait_for()
    assert "1 + 1" in page.locator(".file-table").inner_text()
