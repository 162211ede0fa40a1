"""Two people on one Space: neither reads anything of the other's, and nobody reads anything at all."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import inf
from threading import Thread

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from huggingface_hub import HfApi

from agent.sessions import Request, open_session
from agent.settings import Provider, Settings, SettingsError
from agent.wallet import Grant, Wallet
from lab.errors import LabError
from lab.hub import Hub as Models
from lab.workspace import Workspace
from record.events import Ended, Noted, Opened, Published, Said
from record.log import Log
from tests.hub import Hub, serve
from tests.ui import story
from tests.ui.conftest import Site, served
from tests.ui.test_axe import clean
from tests.ui.visitors import SECRET, Space, space_settings
from ui.auth import BEGUN, COOKIE, PAUSE, Auth
from ui.oauth import SCOPES, Attempt, Entry, OAuth, SignInError

MARK = "violet-heron-77"  # stands in everything that is Ada's
FILES = ("report.md", "workspace/notes.txt", "jobs/sft-1/log.txt", "jobs/sft-1/model/config.json", "../../account")


@dataclass
class Two:
    """A Space with Ada and Ben signed in, and a session of Ada's."""

    space: Space
    site: Site
    wallet: Wallet
    ada: str  # the Cookie header
    ben: str
    session: str
    log: Log


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serve(tmp_path_factory.mktemp("hub")) as running:
        for name in ("ada", "ben", "eve"):
            running.people.add(name)
        yield running


@pytest.fixture(scope="module")
def two(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    for site in served(space_settings(tmp_path_factory.mktemp("space"), hub)):
        space, wallet = Space(site.url, hub), site.app.state.auth.wallet
        ada, ben = space.sign_in("ada"), space.sign_in("ben")
        session, log = _session(wallet.settings_of("ada"))
        yield Two(space, site, wallet, ada, ben, session, log)


def _session(settings: Settings, name: str = "20260101-000001-story", person: str = "ada") -> tuple[str, Log]:
    """Everything that a session can hold, and the mark in all of it."""
    folder = settings.sessions / name
    for path in FILES[:-1]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f'{{"what": "{MARK}"}}')
    log = Log(folder / "events.jsonl")
    goal = story.opened(name).goal.model_copy(update={"text": f"Teach it {MARK}."})
    log.append(Opened(session=name, goal=goal, budget=story.opened(name).budget, driver="autopilot", person=person))
    log.append(
        Said(text=MARK), Noted(topic="t", text=MARK), story.launched("sft-1"), Published(what="report", where=MARK)
    )
    return name, log


def _addresses(app, session: str, files: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every method and address that the app has, about this session where it is about one; signing out comes last."""
    found = {(method, path) for method, path in _routes(app.router.routes) if method != "HEAD"}
    filled = set()
    for method, path in found:
        for file in files if ":path}" in path else ("",):
            told = re.sub(r"\{\w+:path\}", file, path.replace("{session}", session).replace("{name}", session))
            filled.add((method, re.sub(r"\{\w+\}", "x", told.replace("{job}", "sft-1"))))
    return sorted(filled, key=lambda one: (one[1].startswith("/api/sign-out"), one))


def _routes(routes: list, prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        path = prefix + getattr(route, "path", "")
        yield from ((method, path) for method in getattr(route, "methods", None) or ())
        if inner:
            yield from _routes(inner, path.rstrip("/") if not getattr(route, "original_router", None) else prefix)


def _read(client: httpx.Client, method: str, address: str) -> tuple[int, str]:
    """Status and what comes of the body within a moment: some answers never end."""
    status, text = 0, ""
    with (
        suppress(httpx.ReadTimeout, httpx.RemoteProtocolError),
        client.stream(method, address, timeout=1.0, **({} if method == "GET" else {"json": {}})) as answer,
    ):
        status = answer.status_code
        for part in answer.iter_text():
            text += part
            if MARK in text or len(text) > 2**20:
                break
    return status, text


def test_on_every_route_there_is_nothing_of_anothers_to_read(two: Two):
    addresses = _addresses(two.site.app, two.session, (*FILES, str(two.log.path)))
    own = [one for one in addresses if one[1].startswith(f"/api/sessions/{two.session}")]
    assert len(addresses) > 60 and len(own) > 25
    with two.space.visitor(two.ada) as ada:
        seen = [address for method, address in own if method == "GET" and MARK in _read(ada, method, address)[1]]
        assert MARK in ada.get("/api/sessions").text
    assert len(seen) >= 8, seen  # the test would see it
    before = len(two.log)
    bens = two.space.sign_in("ben")
    for cookie in (bens, "", f"{COOKIE}={two.session}"):
        with two.space.visitor(cookie) as client:
            for method, address in addresses:
                status, text = _read(client, method, address)
                assert MARK not in text, (method, address)
                if (method, address) in own:
                    assert status == (404 if method == "GET" or cookie == two.ben else status), (
                        method,
                        address,
                        status,
                    )
                    assert status == (404 if method == "GET" or cookie == bens else 401), (method, address)
            assert two.session not in client.get("/api/sessions").text
    two.log.refresh()
    assert len(two.log) == before and two.log.path.is_file()


def test_what_somebody_shares_everybody_sees_and_no_name_with_it(two: Two):
    session, log = _session(two.wallet.settings_of("ada"), "20260101-000002-shared")
    with two.space.visitor(two.ada) as ada, two.space.visitor() as nobody:
        assert nobody.get(f"/api/replays/{session}").status_code == 404
        assert ada.post(f"/api/sessions/{session}/share", json={"public": True}).is_success
        told = nobody.get(f"/api/replays/{session}")
        assert MARK in told.text and '"ada"' not in told.text
        assert session in nobody.get("/api/replays").text
        assert ada.post(f"/api/sessions/{session}/share", json={"public": False}).is_success
        assert nobody.get(f"/api/replays/{session}").status_code == 404
    log.refresh()
    assert {fact.by for fact in log if fact.kind == "shared"} == {"ada"}


def test_what_came_from_a_laptop_is_its_persons_and_an_odd_log_holds_up_nobody(two: Two):
    ada = two.wallet.settings_of("ada")
    session, _ = _session(ada, "20260101-000004-laptop", person="local")
    odd = _session(ada, "20260101-000005-odd")[1]
    odd.append(Ended(job="nope", state="done", seconds=1))
    with (
        two.space.visitor(two.ada) as one,
        two.space.visitor(two.space.sign_in("ben")) as other,
        two.space.visitor() as nobody,
    ):
        assert [found["id"] for found in one.get("/api/sessions").json() if found["id"] == session]
        assert one.get(f"/api/sessions/{session}").json()["id"] == session
        assert "does not follow" in one.get("/api/sessions/20260101-000005-odd").json()["error"]
        for client in (other, nobody):
            assert session not in client.get("/api/sessions").text and client.get("/api/replays").is_success
            assert client.get(f"/api/sessions/{session}").status_code == 404


def test_the_hub_sends_people_back_to_the_spaces_own_address(hub: Hub, tmp_path):
    here, page = {"SPACE_HOST": "ada-x.hf.space,mine.example"}, {"ML_INTERN_URL": "https://mine.example/"}
    for told, site in ((here | page, "https://ada-x.hf.space"), (page, "https://mine.example")):
        settings = space_settings(tmp_path, hub, **told)
        asked = dict(httpx.URL(Auth(Wallet(settings)).oauth.address(Attempt())).params)
        assert asked["redirect_uri"] == f"{site}/oauth/callback" and settings.url == "https://mine.example/"
    with pytest.raises(SettingsError, match="SPACE_HOST is not set; set ML_INTERN_URL"):
        space_settings(tmp_path, hub, ML_INTERN_URL="")


def test_a_private_model_that_one_has_fetched_is_not_there_for_the_other(two: Two, hub: Hub):
    api = HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    api.create_repo("ada/private", private=True)
    empty = (2).to_bytes(8, "little") + b"{}"
    for file, content in (("config.json", f'{{"m": "{MARK}"}}'.encode()), ("model.safetensors", empty)):
        api.upload_file(path_or_fileobj=content, path_in_repo=file, repo_id="ada/private")
    ada, ben = (two.wallet.settings_of(name) for name in ("ada", "ben"))
    ada = replace(ada, keys={"HF_TOKEN": api.token})  # of her own: a sign-in reads no repository that it did not make
    models = Models(ada.home / "models", api.token, ada.job_env)
    assert models.look("ada/private") == [] and MARK in (models.fetch("ada/private") / "config.json").read_text()
    api.hf_hub_download("ada/private", "config.json", cache_dir=f"{ada.job_env['HF_HOME']}/hub")  # as a trainer may
    assert open_session(ada, Request(task="chains", model="ada/private", person="ada"))
    for other in (ben, two.wallet.settings_of(""), two.wallet.settings_of("eve")):
        with pytest.raises(SettingsError, match="no model 'ada/private'"):
            open_session(other, Request(task="chains", model="ada/private", person=other.person))
        theirs = Models(other.home / "models", other.keys.get("HF_TOKEN"), other.job_env)
        assert theirs.cached("ada/private", "config.json") is None
        with pytest.raises((OSError, ValueError, LabError)):
            theirs.file("ada/private", "config.json")


def test_a_command_of_one_reads_nothing_of_the_other(two: Two):
    ben = two.wallet.settings_of("ben")
    name, _ = _session(ben, "20260101-000003-bens")
    workspace = Workspace(ben.sessions / name / "workspace", ben.job_env)
    home = two.site.settings.home
    reads = [two.log.path.parent / "workspace", two.wallet.settings_of("ada").home / "models"]
    look = (
        f"cat {home}/signed-in; grep -rs {MARK} {home}/people/ada; ls {home} {home}/people; find / -name '*heron*' 2>&-"
    )
    said = workspace.run(f"{look}; cat {reads[0]}/*; ls {reads[1]}; cat notes.txt", 60, reads=reads)
    assert said.text.count(MARK) == 1 and '"box"' not in said.text, said.text  # notes.txt, his own
    for config in (Request(data=str(two.log.path)), Request(model=str(home)), Request(task=f"table:{two.log.path}")):
        with pytest.raises(SettingsError, match="a file of this Space's machine"):
            open_session(ben, replace(config, task=config.task or "chains", person="ben"))


def test_a_person_has_their_own_keys_and_the_owner_the_spaces(hub: Hub, tmp_path):
    secret = hub.people.add("ada").token
    spaces = {"ANTHROPIC_API_KEY": "sk-of-the-owner", "HF_TOKEN": secret}
    settings = space_settings(tmp_path, hub, ML_INTERN_API_BASE="http://127.0.0.1:9", **spaces)
    for site in served(settings):
        wallet = site.app.state.auth.wallet
        (before,) = wallet.everyone()  # her sessions go on after a restart, before anybody has signed in
        assert (before.person, before.until) == ("ada", inf) and before.keys["HF_TOKEN"] == secret
        assert httpx.post(f"{site.url}/api/demo", json={}).status_code == 401  # and whoever comes is still nobody
        space = Space(site.url, hub)
        cookies = {name: space.sign_in(name) for name in ("ada", "ben")}
        for name, cookie in cookies.items():
            theirs = site.app.state.auth.settings(cookie)
            assert (theirs.person, theirs.home) == (name, settings.home / "people" / name)
            assert {*spaces.values(), *map(space.token_of, cookies)} <= set(theirs.secrets)
        ada, ben = (site.app.state.auth.settings(cookie) for cookie in cookies.values())
        assert ben.keys == {"HF_TOKEN": space.token_of("ben")} and ben.until < inf and ben.scopes
        assert ben.api_base is None and ben.driver.startswith("huggingface/")
        assert ada.api_base and ada.keys.items() >= spaces.items() and (ada.until, ada.scopes) == (inf, None)
        for other in ("ben", "eve", "", "Ada", "ada/", "ml-intern"):  # the canaries: hers are in no place of theirs
            theirs = replace(wallet.settings_of(other), others=())
            assert not [one for one in spaces.values() if one in repr((theirs, theirs.keys, theirs.job_env))], other
        with space.visitor(cookies["ben"]) as http:
            seen = "".join(http.get(f"/api/{path}").text for path in ("health", "check", "sessions"))
            assert not [one for one in spaces.values() if one in seen]
        assert ada.queue == ben.queue == settings.home / "queue"
        stored = settings.home / "signed-in"
        assert space.token_of("ada") not in stored.read_text() and stored.stat().st_size > 100
        again = Auth(Wallet(settings))  # after a restart
        assert again.person(cookies["ben"]) == "ben" and again.settings(cookies["ben"]).keys == ben.keys
        other = Auth(Wallet(replace(settings, keys=settings.keys | {"OAUTH_CLIENT_SECRET": "another"})))
        assert other.person(cookies["ben"]) == ""
        for name, until, what, state in (
            ("ben", 60, "Hub sign-in", "ok"), ("ben", -1, "Hub sign-in", "bad"), ("ada", -1, "Hub token", "ok"),
        ):  # fmt: skip
            wallet.give(Grant(name, "t" * 9, time.time() + until, SCOPES))
            with space.visitor(cookies[name]) as http:
                (line,) = [one for one in http.get("/api/check").json() if one["name"].startswith("Hub ")]
                assert (line["name"], line["state"]) == (what, state), line


def test_cookies_that_nobody_gave_are_nobodys(two: Two):
    good = two.ada.partition("=")[2]
    for cookie in ("", "ada", good[:-1], good + "x", good.swapcase(), f'"{good}', "ada\\", "é"):
        with two.space.visitor(f"{COOKIE}={cookie}".encode("latin-1")) as client:  # type: ignore[arg-type]
            assert client.get("/api/health").json()["person"] == "", cookie
            assert client.post("/api/demo", json={}).status_code == 401
    with two.space.visitor(two.space.sign_in("ben")) as ben:
        assert ben.get("/api/health").json()["person"] == "ben"
        ben.post("/api/sign-out", json={}).raise_for_status()
        assert ben.get("/api/health").json()["person"] == ""


def test_the_cookie_is_for_this_site_alone_and_for_no_script(two: Two):
    asked, begun = two.space.begin()
    assert set(asked["scope"].split()) == {"openid", "profile", "jobs", "inference-api", "contribute-repos"}
    here = two.space.back(two.space.agree(asked, "ben"), begun)
    (given,) = [line for line in here.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}=")]
    assert {"HttpOnly", "Secure", "SameSite=none", "Path=/"} <= {part.strip() for part in given.split(";")}
    assert two.space.token_of("ben") not in str(here.headers) + here.text


def test_an_answer_of_another_sign_in_lets_nobody_in(two: Two, hub: Hub):
    space = two.space
    asked, begun = space.begin()
    other, others_begun = space.begin()

    def good() -> httpx.URL:
        return space.agree(asked, "ben")

    refused = [
        space.back(good(), others_begun),  # somebody else's answer: it would sign me in as them
        space.back(good(), ""),
        space.back(good(), begun[:-2]),
        space.back(good().copy_set_param("state", other["state"]), begun),
        space.back(good().copy_set_param("code", "made-up"), begun),
        space.back(good().copy_remove_param("code"), begun),
        space.back(space.agree(asked | {"nonce": "another"}, "ben"), begun),
        space.back(space.agree(asked | {"code_challenge": "another"}, "ben"), begun),
    ]
    for answer in refused:
        assert answer.status_code == 403 and COOKIE not in answer.cookies, answer.text
        assert "You are not signed in" in answer.text
    used = space.agree(asked, "ben")
    assert space.back(used, begun).status_code == 303
    assert space.back(used, begun).status_code == 403  # a code is good once
    hub.faults.add("POST /oauth/token", status=500)
    assert "The Hub does not answer" in space.back(space.agree(asked, "ben"), begun).text


def test_a_word_of_the_hub_for_another_application_lets_nobody_in(two: Two, hub: Hub):
    """Its signature and its issuer hold, and it is not for us, or too old."""
    provider = two.site.settings.oauth
    assert provider
    ours = OAuth(provider, SECRET, "http://127.0.0.1/back")
    key, now = hub.oauth.key(), int(time.time())  # type: ignore[attr-defined]
    good = {"iss": hub.url, "aud": provider.client, "sub": "id-ben", "iat": now, "exp": now + 60}
    assert ours._claims(jwt.encode(good, key, "RS256", {"kid": "loopback"})) == good
    for wrong in ({"aud": "another-space"}, {"iss": "http://evil.example"}, {"exp": now - 3600}, {"exp": None}):
        claims = {name: value for name, value in (good | wrong).items() if value is not None}
        with pytest.raises(SignInError, match="does not hold"):
            ours._claims(jwt.encode(claims, key, "RS256", {"kid": "loopback"}))
    forged = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (
        jwt.encode(good, forged, "RS256", {"kid": "loopback"}),
        jwt.encode(good, key, "RS256", {"kid": "another"}),
        jwt.encode(good, SECRET, "HS256", {"kid": "loopback"}),
        jwt.encode(good, "", "none", {"kid": "loopback"}),
    ):
        with pytest.raises(SignInError, match="does not hold"):
            ours._claims(token)


@pytest.mark.parametrize("where", ["https://evil.example", "//evil.example", "/\\evil.example", "..%2f..", "x\r\ny: z"])
def test_signing_in_leads_back_to_this_page_only(two: Two, where: str):
    away = httpx.get(f"{two.space.url}/oauth/login", params={"session": where, "_target_url": where, "next": where})
    asked = dict(httpx.URL(away.headers["location"]).params)
    here = two.space.back(two.space.agree(asked, "ben"), away.cookies[BEGUN])
    assert here.headers["location"] == "/"
    away = httpx.get(f"{two.space.url}/oauth/login", params={"session": two.session})
    asked = dict(httpx.URL(away.headers["location"]).params)
    here = two.space.back(two.space.agree(asked, "ben"), away.cookies[BEGUN])
    assert here.headers["location"] == f"/?session={two.session}"


def test_another_site_acts_for_nobody(two: Two):
    with two.space.visitor(two.ada) as ada:
        for origin in ("https://evil.example", "null", "https://huggingface.co"):
            for path in ("/api/demo", f"/api/sessions/{two.session}/say", "/api/sign-out", "/api/sign-in"):
                assert ada.post(path, json={"text": "x"}, headers={"origin": origin}).status_code == 403
            read = ada.get("/api/sessions", headers={"origin": origin})
            assert "access-control-allow-origin" not in read.headers
        said = ada.post(f"/api/sessions/{two.session}/say", content="{}", headers={"content-type": "text/plain"})
        assert said.status_code == 415
        assert ada.get("/api/health").json()["person"] == "ada"


def test_a_name_that_was_somebody_elses_finds_nothing_of_theirs(two: Two, hub: Hub):
    account = two.wallet.settings_of("ben").home / "account"
    known = account.read_text()
    account.write_text("id-of-the-ben-before")
    asked, begun = two.space.begin()
    assert "belongs to another account" in two.space.back(two.space.agree(asked, "ben"), begun).text
    account.write_text(known)


def test_a_disk_that_was_full_locks_nobody_out(hub: Hub, tmp_path):
    auth = Auth(Wallet(space_settings(tmp_path, hub)))
    entry = Entry("id-ada", Grant("ada", "t" * 9, time.time() + 60))
    account = auth.wallet.settings_of("ada").home / "account"
    account.parent.parent.mkdir(parents=True)
    account.parent.touch()  # no folder can be made
    with pytest.raises(SignInError, match=r"cannot keep who is signed in .*; free some of its disk"):
        auth._check(entry)
    account.parent.unlink()
    account.parent.mkdir()
    account.touch()  # as a full disk left it
    auth._check(entry)
    first = account.stat()
    auth._check(entry)
    assert account.read_text() == "id-ada" and account.stat() == first  # written once
    (auth.wallet.settings.home / "signed-in").mkdir()
    for refused in (lambda: auth._enter("ada"), lambda: auth.leave("")):
        with pytest.raises(SignInError, match="cannot keep"):
            refused()


def test_who_signs_out_sees_no_more_of_a_session_that_is_open(two: Two):
    cookie = two.space.sign_in("ada")
    with (
        two.space.visitor(cookie) as ada,
        ada.stream("GET", f"/api/sessions/{two.session}/events", params={"after": len(two.log)}) as events,
    ):
        lines = events.iter_lines()
        assert next(lines) == "retry: 1000"
        with two.space.visitor(cookie) as same:
            same.post("/api/sign-out", json={}).raise_for_status()
        two.log.append(Said(text=f"{MARK} again"))
        assert not any(MARK in line for line in lines)  # it ends


def test_a_hub_that_is_busy_says_nothing_of_a_token(hub: Hub, tmp_path):
    token = hub.people.add("ada").token
    auth = Auth(Wallet(space_settings(tmp_path, hub, OAUTH_CLIENT_ID="", HF_TOKEN=token)))
    for status in (429, 503):
        hub.faults.add("whoami", times=50, status=status)
        with pytest.raises(SignInError, match="The Hub does not answer; try again"):
            auth.prove(token)
        hub.faults.clear()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(SignInError, match="does not know this as a token of ada"):
            auth.prove("hf_made_up")
    assert time.monotonic() - began > 2 * PAUSE
    assert auth.prove(token)


def test_without_a_kernel_that_keeps_people_apart_the_owner_is_alone(hub: Hub, tmp_path):
    auth = Auth(Wallet(space_settings(tmp_path, hub)), abi=0)
    auth._check(Entry("id-ada", Grant("ada", "t" * 9, time.time() + 60)))
    with pytest.raises(SignInError, match="only ada can sign in"):
        auth._check(Entry("id-ben", Grant("ben", "t" * 9, time.time() + 60)))


def test_on_a_duplicate_its_owners_token_proves_who_they_are_and_is_forgotten(hub: Hub, tmp_path):
    own, acting, strange = (hub.people.add(name).token for name in ("ada", "ada", "ben"))
    settings = space_settings(tmp_path, hub, OAUTH_CLIENT_ID="", HF_TOKEN=acting)
    for site in served(settings):
        space = Space(site.url, hub)
        with space.visitor() as http:
            assert http.get("/api/health").json() | {"driver": ""} == {
                "app": "ml-intern", "read_only": True, "driver": "", "person": "", "way": "token",
                "space": "ada/ml-intern", "until": None, "sign_in": None,
            }  # fmt: skip
            assert http.get("/oauth/login").status_code == http.get("/oauth/callback").status_code == 404
            for token in (strange, "hf_made_up", "", "\n", "é"):
                refused = http.post("/api/sign-in", json={"token": token})
                assert refused.status_code == 403 and not refused.cookies, token
            entered = http.post("/api/sign-in", json={"token": own}).raise_for_status()
        with space.visitor(f"{COOKIE}={entered.cookies[COOKIE]}") as ada:
            assert ada.get("/api/health").json()["person"] == "ada"
            session = ada.post("/api/demo", json={}).raise_for_status().json()["session"]
            assert ada.get(f"/api/sessions/{session}").is_success
        theirs = site.app.state.auth.wallet.settings_of("ada")
        assert theirs.keys["HF_TOKEN"] == acting and theirs.until > time.time() + 1e9
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files and not [path for path in files if own in path.read_text(errors="replace")]


def test_a_provider_that_names_other_addresses_is_not_asked(tmp_path):
    class Liar(BaseHTTPRequestHandler):
        def do_GET(self):
            here = f"http://127.0.0.1:{self.server.server_port}"
            told = {"issuer": here, "authorization_endpoint": f"{here}/a", "jwks_uri": f"{here}/j"}
            body = json.dumps(told | {"token_endpoint": "http://evil.example/token"}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Liar)
    Thread(target=server.serve_forever, daemon=True).start()
    oauth = OAuth(Provider("c", (), f"http://127.0.0.1:{server.server_port}", ""), "s", "http://127.0.0.1/back")
    with pytest.raises(SignInError, match="not its own"):
        oauth.address(Attempt())
    server.shutdown()


@pytest.mark.slow
def test_a_person_signs_in_and_again_and_out(two: Two, visit):
    page = visit(two.space.url)

    def enter(label: str) -> None:
        page.get_by_role("link", name=label).click()
        page.get_by_label("Who signs in").select_option("ben")
        page.get_by_role("button", name="Authorize").click()
        page.wait_for_selector("body[data-ready]")

    clean(page, "nobody")
    enter("Sign in with Hugging Face")
    page.get_by_role("button", name="signed in as ben").wait_for()
    page.get_by_role("button", name="Run the demo").click()
    page.wait_for_url("**/?session=*")
    page.get_by_role("log").get_by_text("arithmetic chains").first.wait_for()
    assert page.get_by_role("link", name="Open in Trackio").count() == 0
    two.wallet.give(replace(two.wallet.grants["ben"], until=time.time() - 1))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_text("Your sign-in has ended").wait_for()
    clean(page, "ended")
    session = page.url
    enter("Sign in again")
    page.get_by_role("log").get_by_text("arithmetic chains").first.wait_for()
    assert page.url == session and page.get_by_text("Your sign-in has ended").count() == 0
    page.get_by_role("button", name="signed in as ben").click()
    clean(page, "signed in")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in with Hugging Face").wait_for()
    page.goto(session)
    page.get_by_text("There is no such session, or it is not yours.").wait_for()
    page.get_by_text("Sign in to see your sessions.").wait_for()
    for theme, width in (("dark", 1440), ("dark", 390), ("light", 390)):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(f"{session}&__theme={theme}")
        page.get_by_text("Sign in to see your sessions.").wait_for()
        clean(page, f"nobody, {theme}, {width}")
