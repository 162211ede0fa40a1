"""Who may do what: people, their organisations, and the tokens that act for them."""

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.backend import read_json, write_json

# What a token of the settings page may do; one of a sign-in has the scopes that the person agreed to.
EVERYTHING = ("read-repos", "write-repos", "manage-repos", "contribute-repos", "inference-api", "jobs", "gated-repos")


@dataclass(frozen=True)
class Person:
    """Who stands behind a request."""

    name: str
    token: str
    scopes: tuple[str, ...] = EVERYTHING
    orgs: tuple[str, ...] = ()
    until: float | None = None  # unix time at which the token ends
    pro: bool = True
    only: tuple[
        str, ...
    ] = ()  # of a fine-grained token: the repositories that it is for, as "dataset ada/rows"; () is all
    app: str = ""  # the application that a sign-in gave the token to; "" for one of the settings page

    @property
    def maker(self) -> str:
        """Whose repositories a token with no more than contribute-repos may read and write: those of its application."""
        return self.app or self.token

    @property
    def role(self) -> str:
        """Of a token of the settings page: for all that is theirs, or fine-grained."""
        whole = {EVERYTHING: "write", ("read-repos",): "read"}
        return "fineGrained" if self.only or self.app else whole.get(self.scopes, "fineGrained")

    def reaches(self, kind: str, id: str) -> bool:
        return not self.only or f"{kind} {id}" in self.only

    def writes(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.orgs


@dataclass
class People:
    """Every token and its person, kept in a file."""

    file: Path
    _by_token: dict[str, Person] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for token, known in read_json(self.file).items():
            self._by_token[token] = Person(**known | {name: tuple(known[name]) for name in ("scopes", "orgs", "only")})

    def add(self, name: str, token: str | None = None, **more) -> Person:
        """A token for a person, new or known; `more` are fields of Person."""
        person = Person(name, token or f"hf_{secrets.token_hex(17)}", **more)
        self._by_token[person.token] = person
        self._keep()
        return person

    def revoke(self, token: str) -> None:
        self._by_token.pop(token, None)
        self._keep()

    def of(self, token: str) -> Person | None:
        return self._by_token.get(token)

    def _keep(self) -> None:
        write_json(self.file, {token: asdict(person) for token, person in self._by_token.items()})
