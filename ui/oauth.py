"""Signing in with the Hub: OpenID Connect's code flow with PKCE, for a server that has a secret (RFC 7636, OIDC Core 3.1).

The person's browser goes to the Hub and comes back with a code; we change the code for a token. The code and our secret
go to the provider alone: every address that it names must be its own.
"""

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import jwt

from agent.settings import Provider
from agent.wallet import Grant

# What a session needs: jobs, models through the Hub's router, and repositories of its own making; no other repository.
SCOPES = ("jobs", "inference-api", "contribute-repos")
PATIENCE = 10.0  # seconds that the provider has to answer
SLACK = 30  # seconds that its clock may differ from ours


class SignInError(Exception):
    """Nobody is signed in: one sentence for the person who tried."""


def _random() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Attempt:
    """What must come back as it went out. It stays with the browser that began."""

    session: str = ""  # that the person looked at, and will look at again
    state: str = field(default_factory=_random)
    nonce: str = field(default_factory=_random)
    verifier: str = field(default_factory=_random)


@dataclass(frozen=True)
class Entry:
    """A person whom the provider knows. `account` stays when their name changes."""

    account: str
    grant: Grant


class OAuth:
    """One provider, for one Space."""

    def __init__(self, provider: Provider, secret: str, back: str):
        """`back` is the address to which the provider sends people."""
        self._provider, self._secret, self._back = provider, secret, back
        self._known: dict[str, Any] = {}

    def address(self, attempt: Attempt) -> str:
        """Where a person signs in. Raises SignInError."""
        challenge = urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._provider.client,
            "redirect_uri": self._back,
            "scope": " ".join(("openid", "profile", *(one for one in SCOPES if one in self._provider.scopes))),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._about()['authorization_endpoint']}?{urlencode(asked)}"

    def enter(self, code: str, attempt: Attempt) -> Entry:
        """The person behind a code. Raises SignInError."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "client_id": self._provider.client,
            "code_verifier": attempt.verifier,
        }
        given = self._ask(
            "POST", self._about()["token_endpoint"], data=form, auth=(self._provider.client, self._secret)
        )
        claims = self._claims(str(given.get("id_token")))
        if not secrets.compare_digest(str(claims.get("nonce")).encode(), attempt.nonce.encode()):
            raise SignInError("The Hub's answer belongs to another sign-in; try again.")
        try:
            until = time.time() + float(given["expires_in"])
            scopes = tuple(str(given.get("scope", "")).split())
            person = str(claims["preferred_username"])
            return Entry(str(claims["sub"]), Grant(person, str(given["access_token"]), until, scopes))
        except (KeyError, ValueError, TypeError) as error:
            raise SignInError("The Hub's answer lacks a name or a token; try again.") from error

    def _claims(self, token: str) -> dict[str, Any]:
        """What the identity token says, once its signature, issuer, audience and times hold."""
        try:
            keys = jwt.PyJWKSet.from_dict(self._ask("GET", self._about()["jwks_uri"]))
            key = keys[str(jwt.get_unverified_header(token).get("kid"))]
            return jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self._provider.client,
                issuer=self._about()["issuer"],
                leeway=SLACK,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, KeyError) as error:
            raise SignInError(f"The Hub's word on who you are does not hold ({type(error).__name__}).") from error

    def _about(self) -> dict[str, Any]:
        """The provider's own description, asked for once."""
        if not self._known:
            about = self._ask("GET", f"{self._provider.url}/.well-known/openid-configuration")
            named = [str(about.get(f"{name}_endpoint")) for name in ("authorization", "token")]
            ours = urlsplit(self._provider.url)[:2]
            if any(urlsplit(at)[:2] != ours for at in (*named, str(about.get("jwks_uri")))):
                raise SignInError("The Hub names addresses that are not its own; nobody can sign in.")
            if str(about.get("issuer")).rstrip("/") != self._provider.url:
                raise SignInError("The Hub calls itself by another name; nobody can sign in.")
            self._known = about
        return self._known

    def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            answer = httpx.request(method, url, timeout=PATIENCE, follow_redirects=False, **more)
            found = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise SignInError("The Hub does not answer, or refuses this sign-in; try again.") from error
        if not isinstance(found, dict):
            raise SignInError("The Hub's answer cannot be read; try again.")
        return found
