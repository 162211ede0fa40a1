"""Who has signed in, and with which token: the settings of one person, out of those of the whole server.

On a machine of one's own there is one person, "local", with the settings as they are. On a Space everybody has a part of
its home, so that their sessions, models, caches and held-out items are nobody else's, and no key but their own: the
Space's own keys are its owner's, and an HF_TOKEN among them, which does not run out, acts for them before and over what
they allow when they sign in. Tokens are in the memory of the page and of the worker; ui.auth says what is on the disk.
"""

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from math import inf

from agent import shroud
from agent.providers import default_driver
from agent.settings import REPOSITORY, Settings
from lab.reach import PEOPLE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")  # of an account, which becomes the name of a folder


@dataclass(frozen=True)
class Grant:
    """A person's sign-in: what they allow, and until when (unix seconds)."""

    person: str
    token: str = field(repr=False)
    until: float
    scopes: tuple[str, ...] = ()


class Wallet:
    """The sign-ins that this process knows. Thread-safe: each change replaces the whole."""

    def __init__(self, settings: Settings):
        """`settings` are the server's."""
        self.settings = settings
        self._giving = threading.Lock()
        self.grants: dict[str, Grant] = {}  # the latest of each person, the ended ones, too: they are secrets still

    def give(self, grant: Grant) -> None:
        """From now on the person acts with this token."""
        with self._giving:
            self.grants = self.grants | {grant.person: grant}
        shroud.redact_errors(self._secrets())

    def listen(self, lines: Iterable[bytes]) -> None:
        """Take sign-ins as JSON, a line each, until there are no more."""
        for line in lines:
            about = json.loads(line)
            self.give(Grant(**about | {"scopes": tuple(about["scopes"])}))

    def settings_of(self, person: str) -> Settings:
        """What a person works with; "" is nobody, who has nothing."""
        whole = self.settings
        if whole.space is None:
            return whole
        grant, owner = self.grants.get(person), bool(person) and person == whole.owner
        lasts = owner and self._lasts
        token = {"HF_TOKEN": grant.token} if grant else {}
        keys = token | whole.keys if owner else token
        home = whole.home / PEOPLE / person if person else whole.home / "nobody"
        caches = {"HF_HOME": str(home / "huggingface"), "TRACKIO_DIR": str(home / "trackio")}
        theirs = replace(
            whole,
            person=person,
            home=home,
            shared=whole.home,
            keys=keys,
            others=self._secrets(),
            job_env=whole.job_env | caches,
            until=inf if lasts else grant.until if grant else 0.0,
            scopes=grant.scopes if grant and not lasts else None,
        )
        if owner:
            return theirs
        return replace(
            theirs,
            driver=default_driver(keys),
            fallback=None,
            scout_driver=None,
            api_base=None,
            prices=None,
            servers=(),
            mirror=REPOSITORY if whole.shelf else whole.mirror,  # the folder is the owner's
        )

    def everyone(self) -> list[Settings]:
        """The settings of everybody who has anything here, or may have on the Hub: who has signed in, and the owner."""
        if self.settings.space is None:
            return [self.settings]
        here = {path.name for path in (self.settings.home / PEOPLE).glob("*/") if NAME.fullmatch(path.name)}
        owner = {self.settings.owner} if self.settings.owner and self._lasts else set()
        return [self.settings_of(name) for name in sorted(here | set(self.grants) | owner)]

    @property
    def _lasts(self) -> bool:
        """Whether the owner's sessions go on without a sign-in: by their own token, or where nobody signs in."""
        return self.settings.oauth is None or "HF_TOKEN" in self.settings.keys

    def _secrets(self) -> tuple[str, ...]:
        return (*self.settings.secrets, *(grant.token for grant in self.grants.values()))


def as_line(grant: Grant) -> bytes:
    """What `listen` reads."""
    return json.dumps(asdict(grant)).encode() + b"\n"
