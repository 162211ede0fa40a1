"""Replays: the public version of a log, its routes, and the player in a real Chromium, alone and in another site's frame."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from record import events as e
from record.log import Log
from tests.ui import story
from tests.ui.conftest import SHOTS, Site
from ui.public import public
from ui.replays import SHIPPED

EVIL = {"origin": "https://evil.example"}
KEY = "hf_" + "Ab3" * 10


def shared(name: str) -> list[e.Event]:
    return [*story.beginning(name), *story.ending(), e.Shared(public=True)]


def local(name: str) -> list[e.Event]:
    """A whole session of one person, on whose facts the public version changes nothing that a page shows."""
    facts = [f for f in [*story.beginning(name), *story.ending()] if f.kind != "found" or f.rule != "not_finite"]
    mine = [f.model_copy(update={"by": "local"}) if hasattr(f, "by") else f for f in facts]
    return [
        f.model_copy(update={"goal": f.goal.model_copy(update={"model": "starter"})}) if f.kind == "opened" else f
        for f in mine
    ]


def watch(visit, site: Site, name: str, **asked):
    width, height = asked.pop("width", 1440), asked.pop("height", 900)
    query = "".join(f"&{key.strip('_') if key != 'theme' else '__theme'}={value}" for key, value in asked.items())
    return visit(f"{site.url}/?replay={name}{query}", width, height)


def to_the_end(page) -> None:
    page.locator(".player-slider").focus()
    page.keyboard.press("End")
    shows(page, int(page.locator(".player-slider").get_attribute("aria-valuetext").split()[-1]))


def shows(page, count: int) -> None:
    page.wait_for_function("n => document.body.dataset.shown == n", arg=count, timeout=10_000)
    page.wait_for_timeout(100)


def pause(page) -> None:
    button = page.get_by_role("button", name="pause", exact=True)
    if button.count():
        button.click()


# --- the public version of a log


def clean(*facts: e.Event, **places: str) -> list[e.Event]:
    return public([f.model_copy(update={"seq": i}) for i, f in enumerate(facts, start=1)], places.get("places", {}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wrote /srv/ml/sessions/s1/workspace/data/rows.jsonl", "wrote workspace/data/rows.jsonl"),
        ("cd /srv/ml/sessions/s1 && ls", "cd . && ls"),
        ("/srv/ml/vault/x.jsonl", "vault/x.jsonl"),
        ("/srv/ml2/x", "…/x"),
        ("see /home/ada/.cache/hub and /Users/bob/x, ~/y", "see ~/.cache/hub and ~/x, ~/y"),
        ("PATH=/usr/bin:/home/ada/bin:/opt/cuda/bin", "PATH=…/bin:~/bin:…/bin"),
        ('File "/usr/lib/python3.11/json/decoder.py", line 3', 'File "…/decoder.py", line 3'),
        ('{"model": "/models/starter"}', '{"model": "…/starter"}'),
        ("file:///root/secret.txt -I/root/inc", "~/secret.txt -I~/inc"),
        (r"C:\Users\ada\rows.csv", "…"),
        ("https://huggingface.co/docs/trl/sft http://127.0.0.1:8000/v1/models", None),
        ("accuracy 3/4/5, and/or, ./a/b, ../a/b, 12 / 5, data/rows-1.jsonl, </b>", None),
    ],
)
def test_paths_of_the_machine_are_cut(text: str, shown: str | None):
    places = {"/srv/ml/sessions/s1": "", "/srv/ml": ""}
    (said,) = clean(e.Said(text=text), places=places)
    assert said.text == (text if shown is None else shown)
    assert clean(said, places=places)[0].text == said.text


def test_people_are_the_owner_and_this_machine_stays_local():
    facts = clean(story.opened("s", person="ada"), e.Said(text="x", by="ada"), e.Halted(by="local"))
    assert [facts[0].person, facts[1].by, facts[2].by] == ["the owner", "the owner", "local"]


def test_what_is_nobodys_business_is_left_out():
    facts = clean(
        story.opened("s", data="/home/ada/questions.jsonl"),
        e.Said(text="my first word"),
        e.Said(text="a slip"),
        e.Replied(text="about the slip", thought="hm", model="m", dollars=0.5),
        e.Undone(upto=2),
        e.Shared(public=True),
        e.Compacted(upto=2, summary="all of it"),
        e.Found(
            rule="leak", level="stop", what="2 rows leak.", advice="Drop them.", evidence={"rows": ["6 + 8"], "step": 4}
        ),
        e.Noted(topic="data", text="Audited.", details={"examples": ["7 - 3"], "rows": 512}),
        story.score("base", "heldout", 0.5),
    )
    text = "".join(fact.model_dump_json() for fact in facts)
    for gone in ("questions.jsonl", "slip", "all of it", "6 + 8", "7 - 3", "items.jsonl", '"shared"'):
        assert gone not in text, gone
    assert "my first word" in text and [f.dollars for f in facts if f.kind == "replied"] == [0.5]
    assert [f.evidence for f in facts if f.kind == "found"] == [{"step": 4}]
    assert [f.details for f in facts if f.kind == "noted"] == [{"rows": 512}]


def test_words_that_were_taken_back_are_nowhere_and_what_jobs_did_stays():
    call = {"call": "c1", "name": "shell"}
    taken = [
        e.Said(text="a slip"),
        e.Replied(text="slip", thought="slip", calls=(e.Call(id="c1", name="shell", arguments={"command": "slip"}),), model="m", dollars=0.5),
        e.Started(**call, arguments={"command": "slip"}),
        e.Asked(**call, arguments={"command": "slip"}, reason="slip"),
        e.Decided(call="c1", allow=True, arguments={"command": "slip"}),
        e.Finished(**call, ok=True, output="slip", seconds=2.0),
        e.Noted(topic="slip", text="slip", details={"slip": 1}),
        e.Planned(steps=(e.Step(text="slip"),)),
        story.launched("sft-1"),
        e.Ended(job="sft-1", state="done", seconds=64.0, dollars=0.1),
        story.score("sft-1", "dev", 0.6),
        e.Halted(reason="slip"),
        e.Closed(outcome="done", reason="slip"),
    ]  # fmt: skip
    facts = clean(story.opened("s"), *taken, e.Undone(upto=1), e.Noted(topic="later", text="kept"))
    assert "slip" not in "".join(fact.model_dump_json() for fact in facts)
    kinds = [fact.kind for fact in facts]
    gone = ("said", "noted", "planned")
    assert kinds == ["opened", *[f.kind for f in taken if f.kind not in gone], "undone", "noted"]
    before, after = ([f for f in some if f.kind in ("launched", "ended")] for some in (taken, facts))
    assert [f.model_dump(exclude={"seq"}) for f in before] == [f.model_dump(exclude={"seq"}) for f in after]
    kept = next(f for f in facts if f.kind == "finished")
    assert (kept.ok, kept.seconds, kept.output) == (True, 2.0, "")


# --- the routes


def test_a_shared_session_is_a_replay_without_paths_and_keys(site: Site, http: httpx.Client):
    name, log = site.session(shared)
    inside = log.path.parent / "workspace" / "rows.jsonl"
    log.append(e.Noted(topic="x", text=f"{inside} {site.settings.home} {Path.home()}/x {KEY}"))
    answer = http.get(f"/api/replays/{name}", headers=EVIL)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    facts = [json.loads(line) for line in answer.text.splitlines()]
    assert facts[-1]["text"].startswith("workspace/rows.jsonl . ~/x [redacted]")
    for secret in (str(site.settings.home), str(Path.home()) + "/", KEY, "/models/", "ada"):
        assert secret not in answer.text, secret
    listed = {one["id"]: one for one in http.get("/api/replays").json()}[name]
    assert listed["outcome"] == "stopped" and listed["best"] == 0.64 and listed["shipped"] is False


def test_a_private_session_cannot_be_told_from_none(site: Site, http: httpx.Client):
    private, _ = site.session(story.beginning)
    answers = [http.get(f"/api/replays/{name}") for name in (private, private[:-2], "no-such-session", "..%2f..", "x")]
    assert {(answer.status_code, answer.json()["error"]) for answer in answers[:3]} == {
        (404, "There is no such replay: its address is wrong, or its owner does not share it.")
    }
    assert {answer.status_code for answer in answers} == {404}
    assert private not in [one["id"] for one in http.get("/api/replays").json()]


def test_taking_a_share_back_takes_the_replay_away(site: Site, http: httpx.Client):
    name, log = site.session(shared)
    assert http.get(f"/api/replays/{name}").is_success
    log.append(e.Shared(public=False))
    assert http.get(f"/api/replays/{name}").status_code == 404
    assert name not in [one["id"] for one in http.get("/api/replays").json()]
    log.append(e.Shared(public=True))
    assert '"shared"' not in http.get(f"/api/replays/{name}").text


def test_a_deleted_session_is_shown_to_nobody(site: Site, http: httpx.Client):
    name, log = site.session(lambda name: [*shared(name), e.Ended(job="sft-3", state="cancelled", seconds=1.0)])
    assert http.get(f"/api/replays/{name}").is_success
    assert name in [one["id"] for one in http.get("/api/replays").json()]
    log.append(e.Closed(outcome="done", reason="ok"))
    deleted = http.request("DELETE", f"/api/sessions/{name}", json={})
    assert deleted.is_success, deleted.text
    assert http.get(f"/api/replays/{name}").status_code == 404
    assert name not in [one["id"] for one in http.get("/api/replays").json()]


def test_another_origin_may_read_replays_and_nothing_else(site: Site, http: httpx.Client):
    name, _ = site.session(shared)
    for path in ("/api/replays", f"/api/replays/{name}"):
        answer = http.get(path, headers=EVIL)
        assert answer.headers["access-control-allow-origin"] == "*", path
        assert "access-control-allow-credentials" not in answer.headers
    for path in ("/api/sessions", f"/api/sessions/{name}", f"/api/sessions/{name}/log", "/api/health", "/config"):
        assert "access-control-allow-origin" not in http.get(path, headers=EVIL).headers, path


def test_only_the_embedded_player_may_stand_in_any_frame(site: Site, http: httpx.Client):
    def ancestors(path: str) -> str:
        return http.get(path).headers["content-security-policy"].split("frame-ancestors ")[1]

    assert ancestors("/?replay=demo-chains&embed=1") == "*"
    strict = ancestors("/")
    assert "*" not in strict
    for path in ("/?replay=demo-chains", "/?embed=1", "/?replay=&embed=1", "/?replay=x&embed=1&embed=0", "/?session=x&embed=1",
                 "/api/replays?replay=x&embed=1", "/config?replay=x&embed=1"):  # fmt: skip
        assert ancestors(path) == strict, path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_shipped_replays_are_whole_small_and_clean(path: Path, http: httpx.Client):
    log = Log(path)
    assert log.refresh() > 50 and path.stat().st_size < 500_000
    assert log[0].kind == "opened" and log[-1].kind == "closed"
    assert [f.model_dump(exclude={"data"}) for f in public(list(log), {})] == [
        f.model_dump(exclude={"data"}) for f in log
    ]
    text = http.get(f"/api/replays/{path.stem}").text
    assert [json.loads(line)["seq"] for line in text.splitlines()] == [f.seq for f in log]
    assert any(one["id"] == path.stem and one["shipped"] for one in http.get("/api/replays").json())


# --- the player


def test_the_player_ends_with_what_the_live_page_shows(site: Site, visit):
    name, log = site.session(local)
    live = visit(f"{site.url}/?session={name}")
    live.get_by_text("stopped by the person").wait_for()
    live.wait_for_timeout(300)
    expected = live.locator(".feed").inner_text()
    log.append(e.Shared(public=True))
    page = watch(visit, site, name, speed="max")
    shows(page, len(log) - 1)
    assert page.locator(".feed").inner_text() == expected
    assert page.get_by_role("button", name="play", exact=True).is_visible()
    assert page.locator(".top .num").inner_text() == live.locator(".top .num").inner_text()


def test_seeking_both_ways_shows_what_playing_shows(site: Site, visit):
    page = watch(visit, site, "demo-chains", speed="max")
    total = len((SHIPPED / "demo-chains.jsonl").read_text().splitlines())
    shows(page, total)
    whole = page.locator(".feed").inner_text()
    slider = page.locator(".player-slider")
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_function("() => document.body.dataset.shown < 3")
    assert page.locator(".feed").count() == 1 and len(page.locator(".feed").inner_text()) < len(whole) / 5
    texts = []
    for _ in range(4):
        page.get_by_role("button", name="Next event").click()
        page.wait_for_timeout(150)
        texts.append((page.locator("body").get_attribute("data-shown"), page.locator(".feed").inner_text()))
    assert len({shown for shown, _ in texts}) == 4
    to_the_end(page)
    assert page.locator(".feed").inner_text() == whole
    page.keyboard.press("Home")
    page.wait_for_function("() => document.body.dataset.shown < 3")
    page.get_by_role("button", name="Next event").click()
    page.wait_for_timeout(150)
    assert page.locator(".feed").inner_text() == texts[0][1]


def test_the_player_plays_pauses_and_changes_speed(site: Site, visit):
    page = watch(visit, site, "spell-backward", speed="4")
    page.wait_for_function("() => document.body.dataset.shown > 5")
    pause(page)
    stood = page.locator("body").get_attribute("data-shown")
    page.wait_for_timeout(500)
    assert page.locator("body").get_attribute("data-shown") == stood
    page.get_by_label("speed").select_option("max")
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("Space")
    page.locator(".ending").wait_for()
    page.get_by_role("button", name="play", exact=True).click()
    page.locator(".ending").wait_for()
    assert "cut to 2 s" in page.locator(".player-note").inner_text()


def test_nothing_in_a_replay_acts(site: Site, visit):
    name, log = site.session(lambda name: [*story.beginning(name), e.Shared(public=True)])
    before = len(log)
    page = visit(f"{site.url}/?replay={name}&speed=max")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator(".ask.open").wait_for()
    shows(page, before - 1)
    assert page.locator(".ask button").count() == 2
    assert page.locator(".ask :is(button, textarea):not(:disabled)").count() == 0
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Report").click()
    page.get_by_text("a replay has none").wait_for()
    page.get_by_role("tab", name="Live").click()
    assert page.locator('a[href^="/api/"]').count() == 0
    assert page.locator(".box, .send, .drawer").count() == 0
    log.refresh()
    assert len(log) == before
    assert [url for url in asked if "/api/" in url] == []


def test_a_replay_that_is_not_there_is_said_in_one_sentence(site: Site, browser):
    page = browser.new_page()  # not `visit`: Chromium writes the 404 to the console as an error
    page.goto(f"{site.url}/?replay=no-such-replay&embed=1")
    page.get_by_text("There is no such replay").wait_for()
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("width", "height", "embed"), [(1440, 900, ""), (390, 844, ""), (900, 560, "1"), (390, 600, "1")]
)
def test_a_replay_is_drawn(site: Site, visit, theme: str, width: int, height: int, embed: str):
    page = watch(visit, site, "demo-chains", speed="max", theme=theme, embed=embed, width=width, height=height)
    page.locator(".ending").wait_for()
    for _ in range(2):
        page.locator(".player-slider").focus()
        page.keyboard.press("PageDown")
    page.wait_for_timeout(300)
    SHOTS.mkdir(exist_ok=True)
    kind = "embed" if embed else "replay"
    page.screenshot(path=SHOTS / f"{kind}_{theme}_{width}.png")
    assert page.locator("body").evaluate("b => b.classList.contains('dark')") is (theme == "dark")
    assert page.locator("body").evaluate("b => b.scrollWidth <= innerWidth && b.scrollHeight <= innerHeight")
    slider = page.locator(".player-slider").bounding_box()
    assert slider["width"] > 60 and slider["x"] + slider["width"] <= width and slider["y"] + slider["height"] <= height
    assert page.locator(".tick").count() >= 4
    if width < 500:
        page.get_by_role("button", name="Work", exact=True).click()
        page.wait_for_timeout(200)
        page.screenshot(path=SHOTS / f"{kind}_work_{theme}_{width}.png")
        assert page.locator(".player-slider").is_visible() and page.locator(".pane").first.is_visible()


@pytest.fixture
def blog(tmp_path: Path) -> Iterator[str]:
    """A site of somebody else: another origin, because of another port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


def test_the_copied_code_plays_in_a_page_of_another_origin(site: Site, visit, browser, blog: str, tmp_path: Path):
    page = watch(visit, site, "spell-backward", speed="64")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy embed code").click()
    page.get_by_role("button", name="Copied").wait_for()
    code = page.evaluate("navigator.clipboard.readText()")
    assert code.startswith("<iframe ") and "embed=1" in code and "speed=64" in code
    (tmp_path / "post.html").write_text(f"<!doctype html><title>Post</title><h1>My post</h1>{code}")
    (tmp_path / "bad.html").write_text(f'<!doctype html><title>Bad</title><iframe src="{site.url}/"></iframe>')
    context = browser.new_context()
    post = context.new_page()
    post.goto(f"{blog}/post.html")
    frame = post.frame_locator("iframe")
    frame.locator(".ending").wait_for(timeout=30_000)
    link = frame.get_by_role("link", name="in ML Intern")
    assert "embed" not in link.get_attribute("href") and link.get_attribute("target") == "_blank"
    assert frame.get_by_role("button", name="Copy embed code").count() == 0
    assert context.cookies() == []
    post.screenshot(path=SHOTS / "embed_in_a_post.png")
    bad = context.new_page()
    bad.goto(f"{blog}/bad.html")
    bad.wait_for_timeout(1500)
    assert bad.frames[1].evaluate("document.querySelector('.ml-view')") is None, "the page itself may not be framed"
    fetched = post.evaluate("url => fetch(url).then(r => r.ok)", f"{site.url}/api/replays/spell-backward")
    refused = post.evaluate("url => fetch(url).then(() => 'read', () => 'refused')", f"{site.url}/api/sessions")
    assert (fetched, refused) == (True, "refused")
    context.close()
