"""Signing in with the loopback Hub: in a real browser."""

import base64
import hashlib
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from playwright.sync_api import Browser

from tests.hub import Hub, serve


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serve(tmp_path_factory.mktemp("hub")) as served:
        yield served


def code_of(hub: Hub, browser: Browser, who: str, orgs: bool = False, **query) -> dict[str, list[str]]:
    """What a person's browser brings back to the application's address."""
    page = browser.new_page()
    page.goto(f"{hub.url}/oauth/authorize?{urlencode({'response_type': 'code', 'state': 'st'} | query)}")
    page.get_by_label("Who signs in").select_option(who)
    page.get_by_label("organisations").set_checked(orgs)
    assert page.get_by_role("listitem").all_inner_texts() == query["scope"].split()
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(lambda url: "/oauth/authorize" not in url)
    came = urlsplit(page.url)
    page.close()
    assert came.path == "/login/callback"
    return parse_qs(came.query)


def test_signing_in_gives_a_token_with_the_agreed_scopes_and_a_signed_word_of_who_it_is(hub: Hub, browser: Browser):
    hub.people.add("eve", orgs=("lab",))
    told = httpx.get(f"{hub.url}/.well-known/openid-configuration").json()
    assert told["issuer"] == hub.url
    hub.oauth.client("app", "s3cret", [f"{hub.url}/login/callback"])
    back = f"{hub.url}/login/callback?_target_url=/x"
    asks = {"client_id": "app", "redirect_uri": back, "scope": "openid profile jobs", "nonce": "n0"}
    came = code_of(hub, browser, "eve", **asks)
    assert (came["state"], came["_target_url"]) == (["st"], ["/x"])
    form = {"grant_type": "authorization_code", "code": came["code"][0], "redirect_uri": back}
    wrong = httpx.post(told["token_endpoint"], data=form, auth=("app", "guess"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    got = httpx.post(told["token_endpoint"], data=form, auth=("app", "s3cret")).json()
    assert (got["token_type"], got["scope"], got["expires_in"]) == ("bearer", "openid profile jobs", 8 * 3600)
    key = jwt.PyJWKClient(told["jwks_uri"]).get_signing_key_from_jwt(got["id_token"])
    said = jwt.decode(got["id_token"], key, ["RS256"], audience="app", issuer=told["issuer"])
    assert (said["preferred_username"], said["nonce"], said["sub"]) == ("eve", "n0", "id-eve")
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(got["id_token"], key, ["RS256"], audience="other")
    headers = {"authorization": f"Bearer {got['access_token']}"}
    assert httpx.get(told["userinfo_endpoint"], headers=headers).json()["preferred_username"] == "eve"
    api = HfApi(endpoint=hub.url, token=got["access_token"])
    assert (api.whoami()["name"], api.whoami()["orgs"]) == ("eve", []), "the box was not ticked"
    job = api.run_job(image="x", command=["true"], namespace="eve")
    assert api.wait_for_job(job.id, namespace="eve", poll_interval=0.05).status.stage == "COMPLETED"
    assert httpx.post(told["token_endpoint"], data=form, auth=("app", "s3cret")).json()["error"] == "invalid_grant"


def test_an_application_without_a_secret_proves_itself_and_a_token_ends(hub: Hub, browser: Browser):
    hub.people.add("eve", orgs=("lab",))
    back = f"{hub.url}/login/callback"
    hub.oauth.client("public", None, [back])
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asks = {"client_id": "public", "redirect_uri": back, "scope": "openid profile"}
    assert httpx.get(f"{hub.url}/oauth/authorize", params=asks).status_code == 400
    asks |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    bad = httpx.get(f"{hub.url}/oauth/authorize", params=asks | {"redirect_uri": "http://evil.example/"})
    assert bad.status_code == 400 and "evil.example" in bad.text
    hub.oauth.expires_s = 0.5
    form = {"grant_type": "authorization_code", "client_id": "public", "redirect_uri": back}
    answers = []
    for word in ("x" * 43, verifier):
        code = code_of(hub, browser, "eve", orgs=True, **asks)["code"][0]
        answers.append(httpx.post(f"{hub.url}/oauth/token", data=form | {"code": code, "code_verifier": word}).json())
    hub.oauth.expires_s = 8 * 3600
    assert answers[0]["error"] == "invalid_grant"
    api = HfApi(endpoint=hub.url, token=answers[1]["access_token"])
    assert [org["name"] for org in api.whoami()["orgs"]] == ["lab"]
    time.sleep(0.6)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami()
