"""Who sits in front of the page. On a Space people prove who they are, once, and a cookie says so from then on.

There are four ways in:
- local: this is no Space, and whoever reaches the port is its one person.
- oauth: the Hub signs people in (ui.oauth), and each acts with the token that they allowed.
- token: a duplicate without OAuth acts with its owner's HF_TOKEN, and only for its owner. A token proves that they are
  it; it is shown to the Hub once, and forgotten.
- none: nobody can come in; the page shows what is shared.

The cookie is a random number and nothing else. What it stands for is in this process, and for OAuth, so that a restart
loses nobody's session, in the file `signed-in` of the server's home, encrypted with a key made from OAUTH_CLIENT_SECRET.
"""

import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import cookie_parser

from agent.settings import Settings
from agent.wallet import NAME, Grant, Wallet
from lab.backend import write_json
from lab.confine import landlock
from lab.errors import LabError, Refused
from lab.hub import client, in_words
from lab.reach import PEOPLE
from ui.oauth import Attempt, Entry, OAuth, SignInError

COOKIE = "__Host-ml-intern"
BEGUN = "__Host-ml-intern-begun"  # the cookie of a sign-in that is under way
CALLBACK = "/oauth/callback"
STAYS = 30 * 86400  # seconds that a browser is known; a token ends earlier
BEGINS = 600  # seconds that a sign-in may take
PAUSE = 0.5  # seconds after a token that proved nothing
FILE, ACCOUNT = "signed-in", "account"
APART = 3  # the oldest Landlock that keeps people's files from each other; before it any file can be emptied
Way = Literal["local", "oauth", "token", "none"]


@dataclass(frozen=True)
class Visit:
    person: str
    until: float  # unix seconds


class Auth:
    """The people who are here. Thread-safe."""

    def __init__(self, wallet: Wallet, abi: int | None = None):
        """`abi` is the newest Landlock there is; None asks the kernel."""
        settings = wallet.settings
        self.wallet = wallet
        self.way = _way(settings)
        self._apart = (landlock() if abi is None else abi) >= APART
        self._visits: dict[str, Visit] = {}  # by the hash of the cookie
        self._writing = threading.Lock()
        self._proving = threading.Lock()
        secret = settings.keys.get("OAUTH_CLIENT_SECRET", "")
        made = hmac.digest((secret or secrets.token_hex()).encode(), b"ml-intern: who is signed in", "sha256")
        self._box = Fernet(urlsafe_b64encode(made))
        self._file = settings.home / FILE
        if settings.oauth:
            self.oauth = OAuth(settings.oauth, secret, f"{settings.oauth.site}{CALLBACK}")
            self._remember()

    def person(self, cookies: str | None) -> str:
        """Who sends this Cookie header; "" is nobody."""
        if self.way == "local":
            return "local"
        visit = self._visits.get(_hash(cookie_parser(cookies or "").get(COOKIE, "")))
        return visit.person if visit and visit.until > time.time() else ""

    def settings(self, cookies: str | None) -> Settings:
        """What whoever sends this Cookie header works with."""
        return self.wallet.settings_of(self.person(cookies))

    def begin(self, session: str) -> tuple[str, str]:
        """An address of the Hub to sign in at, and the cookie that must come back with its answer. Raises SignInError."""
        attempt = Attempt(session)
        return self.oauth.address(attempt), self._box.encrypt(json.dumps(asdict(attempt)).encode()).decode()

    def finish(self, code: str, state: str, begun: str) -> tuple[str, str]:
        """The cookie of a person who comes back from the Hub, and the session that they came from. Raises SignInError."""
        try:
            attempt = Attempt(**json.loads(self._box.decrypt(begun.encode(), ttl=BEGINS)))
        except (InvalidToken, ValueError) as error:
            raise SignInError("This sign-in was begun elsewhere, or too long ago; try again.") from error
        if not secrets.compare_digest(state.encode(), attempt.state.encode()):
            raise SignInError("The Hub's answer belongs to another sign-in; try again.")
        entry = self.oauth.enter(code, attempt)
        self._check(entry)
        self.wallet.give(entry.grant)
        return self._enter(entry.grant.person), attempt.session

    def prove(self, token: str) -> str:
        """The cookie of the Space's owner, for a token of theirs, which is forgotten. Raises SignInError."""
        if self.way != "token":
            raise SignInError("Nobody signs in here with a token.")
        settings = self.wallet.settings
        if not self._proving.acquire(timeout=2 * PAUSE):
            raise SignInError("Too many sign in at once; try again.")
        try:
            if _whose(token, settings) != settings.owner:
                time.sleep(PAUSE)
                raise SignInError(f"The Hub does not know this as a token of {settings.owner}, whose Space this is.")
        finally:
            self._proving.release()
        return self._enter(settings.owner)

    def leave(self, cookies: str | None) -> None:
        """This browser is nobody's from now on. Sessions go on for as long as the person allowed. Raises SignInError."""
        with self._writing:
            self._visits.pop(_hash(cookie_parser(cookies or "").get(COOKIE, "")), None)
            self._keep()

    def _check(self, entry: Entry) -> None:
        """Raise SignInError for whom we cannot let in."""
        person, settings = entry.grant.person, self.wallet.settings
        if not NAME.fullmatch(person):
            raise SignInError(f"The name {person[:40]!r} cannot be used here.")
        if not self._apart and person != settings.owner:
            why = "its kernel cannot keep people's files apart (it has no Landlock)"
            raise SignInError(f"On this Space only {settings.owner} can sign in: {why}. Duplicate the Space.")
        account = settings.home / PEOPLE / person / ACCOUNT
        with self._writing, _kept():
            known = account.read_text() if account.exists() else ""  # "": a full disk left it so
            if not known:
                account.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                draft = account.with_name(f".{ACCOUNT}.tmp")
                draft.write_text(entry.account)
                draft.replace(account)
        if known not in ("", entry.account):  # they were renamed, and somebody took the name
            raise SignInError(f"What lies here under the name {person} belongs to another account.")

    def _enter(self, person: str) -> str:
        cookie, now = secrets.token_urlsafe(32), time.time()
        with self._writing:
            self._visits = {name: visit for name, visit in self._visits.items() if visit.until > now}
            self._visits[_hash(cookie)] = Visit(person, now + STAYS)
            self._keep()
        return cookie

    def _keep(self) -> None:
        if self.way != "oauth":
            return
        grants = [asdict(grant) for grant in self.wallet.grants.values()]
        known = {"visits": {name: asdict(visit) for name, visit in self._visits.items()}, "grants": grants}
        with _kept():
            write_json(self._file, {"box": self._box.encrypt(json.dumps(known).encode()).decode()})

    def _remember(self) -> None:
        try:
            known = json.loads(self._box.decrypt(json.loads(self._file.read_bytes())["box"].encode()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, InvalidToken):
            logging.getLogger(__name__).error("%s cannot be read; people have to sign in again.", self._file)
            return
        self._visits = {name: Visit(**visit) for name, visit in known["visits"].items()}
        for grant in known["grants"]:
            self.wallet.give(Grant(**grant | {"scopes": tuple(grant["scopes"])}))


@contextmanager
def _kept() -> Iterator[None]:
    """Raises SignInError where the disk takes nothing."""
    try:
        yield
    except OSError as error:
        what = f"This Space cannot keep who is signed in ({error.strerror})"
        raise SignInError(f"{what}; free some of its disk and try again.") from error


def _way(settings: Settings) -> Way:
    if settings.space is None:
        return "local"
    if settings.oauth:
        return "oauth"
    return "token" if settings.keys.get("HF_TOKEN") else "none"


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()


def _whose(token: str, settings: Settings) -> str:
    """The name of the person with this token; "" where it is nobody's. Raises SignInError when the Hub does not say."""
    try:
        with in_words("the name of who has this token"):
            return str(client(token, settings.job_env).whoami().get("name")) if token else ""
    except Refused:
        return ""
    except LabError as error:
        raise SignInError("The Hub does not answer; try again.") from error
