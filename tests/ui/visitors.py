"""People who come to a Space: they sign in with the loopback Hub as a browser would, and keep their cookies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx

from agent import settings as env
from agent.settings import Settings
from tests.conftest import free_port, settings_at
from tests.hub import Hub
from ui.auth import BEGUN, COOKIE

SECRET = "a-secret-of-the-space"


@dataclass
class Space:
    """Where a Space answers, and the Hub that it belongs to."""

    url: str
    hub: Hub

    def begin(self) -> tuple[dict[str, str], str]:
        """What the Hub is asked for, and the cookie that stays with the browser."""
        away = httpx.get(f"{self.url}/oauth/login")
        assert away.status_code == 303, away.text
        return dict(parse_qsl(urlsplit(away.headers["location"]).query)), away.cookies[BEGUN]

    def agree(self, asked: dict[str, str], person: str) -> httpx.URL:
        """Press the button on the Hub's page: where it sends the browser."""
        agreed = httpx.post(f"{self.hub.url}/oauth/authorize", data=asked | {"person": person})
        assert agreed.status_code == 302, agreed.text
        return httpx.URL(agreed.headers["location"])

    def back(self, at: httpx.URL, begun: str) -> httpx.Response:
        return httpx.get(at, headers={"cookie": f"{BEGUN}={begun}"})

    def sign_in(self, person: str) -> str:
        """The Cookie header of a person who has signed in."""
        asked, begun = self.begin()
        here = self.back(self.agree(asked, person), begun)
        assert here.status_code == 303, here.text
        return f"{COOKIE}={here.cookies[COOKIE]}"

    @contextmanager
    def visitor(self, cookie: str = "") -> Iterator[httpx.Client]:
        headers = {"cookie": cookie} if cookie else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=20) as client:
            yield client

    def token_of(self, person: str) -> str:
        """The newest token that the Hub gave us for a person."""
        known = self.hub.people._by_token.values()
        return [one.token for one in known if one.name == person and one.token.startswith("hf_oauth_")][-1]


def environment(hub: Hub, port: int, **more: str) -> dict[str, str]:
    """What the Hub would set for a Space of ada's; its sign-ins are registered."""
    url = f"http://127.0.0.1:{port}"
    hub.oauth.client(f"space-{port}", SECRET, [f"{url}/oauth/callback"])  # type: ignore[attr-defined]
    scopes = "openid profile jobs inference-api contribute-repos"
    oauth = {"OAUTH_CLIENT_ID": f"space-{port}", "OAUTH_CLIENT_SECRET": SECRET, "OAUTH_SCOPES": scopes}
    here = {"SPACE_ID": "ada/ml-intern", "HF_ENDPOINT": hub.url, "OPENID_PROVIDER_URL": hub.url}
    return oauth | here | {"ML_INTERN_PORT": str(port), "ML_INTERN_URL": url, "ML_INTERN_HOST": "127.0.0.1"} | more


def space_settings(home: Path, hub: Hub, **more: str) -> Settings:
    """Settings of such a Space; `more` are variables, "" takes one away."""
    plain = settings_at(home)
    told = environment(hub, free_port(), **more) | {"ML_INTERN_HOME": str(plain.home)}
    return env.read(plain.job_env | told)
