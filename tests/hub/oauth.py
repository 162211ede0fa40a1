"""Signing in with the Hub in a browser (authorization code, OpenID Connect).

Who signs in is chosen on the page, where the real Hub knows it from a cookie. A token has the scopes that were agreed to,
reaches organisations only if the box was ticked, ends after `hub.oauth.expires_s`, and cannot be renewed.
"""

import base64
import hashlib
import html
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from lab.backend import read_json, write_json
from tests.hub.people import EVERYTHING, Person
from tests.hub.server import Hub

SCOPES = ("openid", "profile", "email", "read-billing", "webhooks", "write-discussions", *EVERYTHING)
CODE_S = 60


@dataclass(frozen=True)
class Client:
    """An application. Without a secret it must prove by PKCE that it began what it ends."""

    id: str
    secret: str | None
    redirect_uris: tuple[str, ...]


class Mistake(Exception):
    """What the token endpoint answers, and the page says."""

    def __init__(self, error: str, description: str, status: int = 400):
        super().__init__(f"{error}: {description}")
        self.answer = JSONResponse({"error": error, "error_description": description}, status)


@dataclass
class OAuth:
    """Clients, and what is underway."""

    hub: Hub
    expires_s: float = 8 * 3600  # of a token
    _codes: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._file, self._pem = self.hub.folder / "oauth.json", self.hub.folder / "oauth.pem"
        known = read_json(self._file)
        self._clients = {
            id: Client(id, one["secret"], tuple(one["uris"])) for id, one in known.get("clients", {}).items()
        }

    def client(self, id: str, secret: str | None, redirect_uris: Sequence[str]) -> Client:
        """Register an application; of its addresses, what follows `?` does not matter."""
        self._clients[id] = Client(id, secret, tuple(redirect_uris))
        self._keep()
        return self._clients[id]

    def _keep(self) -> None:
        clients = {one.id: {"secret": one.secret, "uris": list(one.redirect_uris)} for one in self._clients.values()}
        write_json(self._file, {"clients": clients})

    def names(self) -> list[str]:
        """Who could sign in."""
        return sorted({person.name for person in self.hub.people._by_token.values()})

    def _about(self, name: str) -> Person:
        known = [person for person in self.hub.people._by_token.values() if person.name == name]
        if not known:
            raise Mistake("access_denied", f"nobody here is called {name!r}")
        return max(known, key=lambda person: len(person.orgs))

    def key(self) -> rsa.RSAPrivateKey:
        if not self._pem.exists():
            made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            plain = serialization.NoEncryption()
            pem = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
            self._pem.write_bytes(pem)
        key = serialization.load_pem_private_key(self._pem.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key

    def asked(self, form) -> tuple[Client, tuple[str, ...]]:
        """The client and the scopes of a request for the page. Raises Mistake."""
        client, uri = self._clients.get(form.get("client_id", "")), form.get("redirect_uri", "")
        if client is None:
            raise Mistake("invalid_client", f"unknown client_id {form.get('client_id')!r}")
        if _place(uri) not in map(_place, client.redirect_uris):
            raise Mistake("invalid_request", f"redirect_uri {uri!r} is not registered for {client.id}")
        scopes = tuple((form.get("scope") or "openid profile").split())
        if unknown := set(scopes) - set(SCOPES):
            raise Mistake("invalid_scope", f"no such scope: {', '.join(sorted(unknown))}")
        if form.get("response_type", "code") != "code":
            raise Mistake("unsupported_response_type", "only `code`")
        if client.secret is None and form.get("code_challenge_method") != "S256":
            raise Mistake("invalid_request", "a client without a secret needs a code_challenge of S256")
        return client, scopes

    def agree(self, form) -> str:
        """The person pressed the button: a code for the client, once, for a minute. Raises Mistake."""
        client, scopes = self.asked(form)
        code = secrets.token_urlsafe(24)
        kept = {name: form.get(name) for name in ("redirect_uri", "nonce", "code_challenge", "person", "orgs")}
        self._about(kept["person"])
        self._codes[code] = kept | {"client": client.id, "scopes": scopes, "until": time.time() + CODE_S}
        return code

    def exchange(self, form, client: Client) -> dict:
        """A code for a token. Raises Mistake."""
        kept = self._codes.pop(form.get("code", ""), None)
        if kept is None or kept["until"] < time.time() or kept["client"] != client.id:
            raise Mistake("invalid_grant", "this code is not valid, or is used up")
        if form.get("redirect_uri") != kept["redirect_uri"]:
            raise Mistake("invalid_grant", "redirect_uri is another one than before")
        if kept["code_challenge"]:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != kept["code_challenge"]:
                raise Mistake("invalid_grant", "code_verifier does not fit the code_challenge")
        about = self._about(kept["person"])
        orgs = about.orgs if kept["orgs"] else ()
        token, until = f"hf_oauth_{secrets.token_urlsafe(24)}", time.time() + self.expires_s
        known = {"scopes": kept["scopes"], "orgs": orgs, "until": until, "pro": about.pro, "app": client.id}
        person = self.hub.people.add(about.name, token, **known)
        answer = {"access_token": token, "token_type": "bearer", "scope": " ".join(person.scopes)}
        answer |= {"expires_in": int(self.expires_s)}
        if "openid" in kept["scopes"]:
            now = int(time.time())
            claims = self.claims(person) | {"iss": self.hub.url, "aud": client.id, "iat": now, "auth_time": now}
            claims |= {"exp": now + int(self.expires_s)} | ({"nonce": kept["nonce"]} if kept["nonce"] else {})
            answer["id_token"] = jwt.encode(claims, self.key(), "RS256", {"kid": "loopback"})
        return answer

    def claims(self, person: Person) -> dict:
        """What userinfo and id_token say of somebody, as far as the scopes allow."""
        about: dict = {"sub": f"id-{person.name}"}
        if "profile" in person.scopes:
            page = f"{self.hub.url}/{person.name}"
            about |= {"name": person.name.title(), "preferred_username": person.name, "profile": page, "website": ""}
            about |= {"picture": f"{page}/avatar.svg", "isPro": person.pro, "canPay": True}
            about["orgs"] = [{"sub": f"id-{org}", "name": org, "preferred_username": org} for org in person.orgs]
        if "email" in person.scopes:
            about |= {"email": f"{person.name}@example.org", "email_verified": True}
        return about

    def caller(self, request: Request, form) -> Client:
        """Which application asks for a token. Raises Mistake."""
        kind, _, packed = request.headers.get("authorization", "").partition(" ")
        id, secret = form.get("client_id", ""), form.get("client_secret")
        if kind.lower() == "basic":
            id, _, secret = base64.b64decode(packed).decode().partition(":")
        client = self._clients.get(id)
        if client is None or (client.secret is not None and client.secret != secret):
            raise Mistake("invalid_client", "client_id and client_secret do not fit", 401)
        return client


def _place(uri: str) -> tuple[str, str, str]:
    return urlsplit(uri)[:3]


def _page(title: str, body: str, status: int = 200) -> Response:
    style = "<style>body{font:16px sans-serif;max-width:30em;margin:4em auto}label,button{display:block;margin:1em 0}</style>"
    return HTMLResponse(f"<!doctype html><title>{title}</title>{style}<h1>{title}</h1>{body}", status)


def _form(oauth: OAuth, action: str, hidden: dict[str, str], body: str) -> str:
    kept = "".join(f'<input type="hidden" name="{k}" value="{html.escape(v)}">' for k, v in hidden.items())
    people = "".join(f"<option>{html.escape(name)}</option>" for name in oauth.names())
    who = f'<label>Who signs in <select name="person">{people}</select></label>'
    return f'<form method="post" action="{action}">{kept}{body}{who}<button>Authorize</button></form>'


def routes(hub: Hub) -> list[Route]:
    if not hasattr(hub, "oauth"):  # routes() may be called again
        hub.oauth = OAuth(hub)  # type: ignore[attr-defined]
    oauth: OAuth = hub.oauth  # type: ignore[attr-defined]

    def configuration(_: Request) -> Response:
        at = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
        at |= {"jwks_uri": "jwks"}
        told = {"issuer": hub.url} | {name: f"{hub.url}/oauth/{path}" for name, path in at.items()}
        told |= {
            "scopes_supported": SCOPES,
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
        }
        told |= {"token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"]}
        told |= {"subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]}
        return JSONResponse(told | {"code_challenge_methods_supported": ["S256"]})

    def jwks(_: Request) -> Response:
        key = RSAAlgorithm.to_jwk(oauth.key().public_key(), as_dict=True)
        return JSONResponse({"keys": [key | {"kid": "loopback", "use": "sig", "alg": "RS256"}]})

    async def authorize(request: Request) -> Response:
        form = await request.form() if request.method == "POST" else request.query_params
        try:
            client, scopes = oauth.asked(form)
            uri, state = str(form["redirect_uri"]), {"state": form["state"]} if "state" in form else {}
            back = uri + ("&" if "?" in uri else "?")
            if request.method == "POST":
                return RedirectResponse(back + urlencode({"code": oauth.agree(form)} | state), 302)
        except Mistake as mistake:
            return _page("This cannot be authorized", f"<p>{html.escape(str(mistake))}</p>", 400)
        wants = "".join(f"<li>{html.escape(scope)}</li>" for scope in scopes)
        body = f"<p>{html.escape(client.id)} asks for:</p><ul>{wants}</ul>"
        body += '<label><input type="checkbox" name="orgs" value="1"> also for my organisations</label>'
        hidden = {name: str(value) for name, value in form.items()}
        no = html.escape(back + urlencode({"error": "access_denied"} | state))
        return _page("Authorize", _form(oauth, "/oauth/authorize", hidden, body) + f'<a href="{no}">Cancel</a>')

    async def token(request: Request) -> Response:
        form = await request.form()
        try:
            return JSONResponse(oauth.exchange(form, oauth.caller(request, form)))
        except Mistake as mistake:
            return mistake.answer

    def userinfo(request: Request) -> Response:
        return JSONResponse(oauth.claims(hub.known(request)))

    return [
        Route("/.well-known/openid-configuration", configuration),
        Route("/oauth/jwks", jwks),
        Route("/oauth/authorize", authorize, methods=["GET", "POST"]),
        Route("/oauth/token", token, methods=["POST"]),
        Route("/oauth/userinfo", userinfo, methods=["GET", "POST"]),
    ]
