"""Who may do what to a repository or a bucket, and what routes share: addresses, bodies, pages, signatures."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.people import Person
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Missing, Repo

READ, WRITE = ("read-repos", "write-repos", "manage-repos"), ("write-repos", "manage-repos")


class Kind(StringConvertor):
    """`{t:kind}` in an address."""

    regex = "models|datasets|spaces|kernels"


register_url_convertor("kind", Kind())
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/", "kernel": "kernels/", "bucket": "buckets/"}


def _ours(person: Person | None, repo: Repo, scopes: Sequence[str]) -> bool:
    if person is None or not person.writes(repo.namespace) or not person.reaches(repo.kind, repo.id):
        return False
    made = repo.maker == person.maker and "contribute-repos" in person.scopes
    return made or bool(set(scopes) & set(person.scopes))


def sees(person: Person | None, repo: Repo) -> bool:
    return repo.visibility == "public" or _ours(person, repo, READ)


def writes(person: Person | None, repo: Repo) -> bool:
    return _ours(person, repo, WRITE)


def find(hub: Hub, request: Request, kind: str, id: str) -> tuple[Repo, Person | None]:
    """A repository that the asker sees, and the asker. Raises Refusal: what is hidden answers as what is not there."""
    person, repo = hub.asker(request), hub.repos.get(kind, id)
    if repo is None or not sees(person, repo):
        if person is None:
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return repo, person


def asked(hub: Hub, request: Request, kind: str | None = None) -> tuple[Repo, Person | None]:
    """As find(), for the repository in the address."""
    kind = kind or param(request, "t").removesuffix("s")
    return find(hub, request, kind, f"{param(request, 'ns')}/{param(request, 'name')}")


def readable(hub: Hub, request: Request, kind: str | None = None) -> Repo:
    """A repository whose files the asker may read: seen, and its gate passed."""
    repo, person = asked(hub, request, kind)
    if repo.gated and not writes(person, repo):
        if person is None:
            raise Refusal(401, f"Access to {repo.kind} {repo.id} is restricted. Please log in.", "GatedRepo")
        if person.name not in repo.accepted or not {*READ, "gated-repos"} & set(person.scopes):
            message = f"Access to {repo.kind} {repo.id} is restricted and you are not in the authorized list."
            raise Refusal(403, message, "GatedRepo")
    return repo


def writable(hub: Hub, request: Request, kind: str | None = None, propose: bool = False) -> tuple[Repo, Person]:
    """A repository that the asker may commit to; with `propose`, one to which anybody who may read it may open a pull request."""
    repo, person = asked(hub, request, kind)
    if person is None:
        raise Refusal(401, "Invalid username or password.")
    if not writes(person, repo):
        if not propose or not {*WRITE, "contribute-repos"} & set(person.scopes):
            raise Refusal(403, f"You don't have the rights to write to {repo.id}")
        readable(hub, request, kind)
    return repo, person


def manageable(hub: Hub, request: Request, kind: str, id: str) -> tuple[Repo, Person]:
    """A repository that the asker may delete, move and set."""
    repo, person = find(hub, request, kind, id)
    if person is None or not person.writes(repo.namespace) or "manage-repos" not in person.scopes:
        raise Refusal(403, f"You don't have the rights to manage {repo.id}")
    return repo, person


def maker(hub: Hub, request: Request, namespace: str | None) -> tuple[str, Person]:
    """The namespace in which the asker may make a repository, and the asker."""
    person = hub.known(request, "manage-repos", "contribute-repos")
    if not person.writes(namespace or person.name):
        raise Refusal(403, f"You don't have the rights to create a repository under the namespace {namespace}")
    return namespace or person.name, person


def page_of(hub: Hub, repo: Repo) -> str:
    return f"{hub.url}/{PREFIX[repo.kind]}{repo.id}"


def taking(handle: Callable[[Request, bytes], Response]) -> Callable:
    """A route that is given the request's body, and runs in a thread."""

    async def answer(request: Request) -> Response:
        return await run_in_threadpool(handle, request, await request.body())

    return answer


def parsed(body: bytes) -> dict[str, Any]:
    try:
        return json.loads(body or b"{}")
    except ValueError as error:
        raise Refusal(400, f"The body is no JSON: {error}") from error


def paged(hub: Hub, request: Request, rows: Sequence, size: int, shown: Callable = lambda row: row) -> JSONResponse:
    """The page of rows that `cursor` names, and a link to the next."""
    start = int(request.query_params.get("cursor", 0))
    answer = JSONResponse([shown(row) for row in rows[start : start + size]])
    if start + size < len(rows):
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
        there = f"{hub.url}{request.url.path}?{urlencode([*query, ('cursor', start + size)])}"
        answer.headers["link"] = f'<{there}>; rel="next"'
    return answer


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def signed(hub: Hub, *words: object, seconds: float = 3600) -> str:
    """Words that only this Hub could have written, for an address or a token that speaks for itself."""
    text = ":".join(map(str, (*words, int(time.time() + seconds))))
    return f"{text}:{_seal(hub, text)}"


def unsigned(hub: Hub, text: str) -> list[str]:
    """The words of signed(). Raises Refusal for those of others, and after their time."""
    words, _, seal = text.rpartition(":")
    if not hmac.compare_digest(seal, _seal(hub, words)) or float(words.rpartition(":")[2]) < time.time():
        raise Refusal(403, "This signature is not valid, or is over.")
    return words.split(":")[:-1]


def _seal(hub: Hub, text: str) -> str:
    return hmac.new(hub.seal, text.encode(), hashlib.sha256).hexdigest()


def repo_of(hub: Hub, word: str) -> Repo:
    """The repository that a signature speaks of."""
    if (repo := hub.repos.by_key(int(word))) is None:
        raise Missing("RepoNotFound", "This repository has been deleted.")
    return repo
