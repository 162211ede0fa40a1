"""Whoever wants to read what a person has on the Hub: every object of theirs, at every address that it has."""

from collections.abc import Iterator

import httpx

from tests.hub.access import PREFIX
from tests.hub.server import Hub

LISTS = ("/api/models?author={}", "/api/datasets?author={}", "/api/spaces?author={}", "/api/buckets/{}", "/api/jobs/{}")
OF_A_REPOSITORY = (
    "", "/revision/main", "/tree/main?recursive=1", "/refs", "/commits/main", "/auth-check", "/discussions", "/xet-read-token/main",
)  # fmt: skip
OF_A_BUCKET = ("", "/tree?recursive=1", "/xet-read-token")


def addresses(hub: Hub, owner: str) -> Iterator[str]:
    """What of a person's is there to be read, and where; each once."""
    yield from (address.format(owner) for address in LISTS)
    for kind, prefix in PREFIX.items():
        for repo in (repo for repo in hub.repos.all(kind) if repo.namespace == owner):
            bucket = kind == "bucket"
            yield from (f"/api/{kind}s/{repo.id}{rest}" for rest in (OF_A_BUCKET if bucket else OF_A_REPOSITORY))
            at = f"/{prefix}{repo.id}/resolve/" + ("" if bucket else "main/")
            yield from (at + file for file in hub.repos.files(kind, repo.id))
            if kind == "space":
                yield from (f"/api/spaces/{repo.id}/{rest}" for rest in ("runtime", "secrets", "variables"))
    jobs = [run for run in hub.jobs.runs.values() if run.namespace == owner]  # type: ignore[attr-defined]
    yield from (f"/api/jobs/{owner}/{run.id}{rest}" for run in jobs for rest in ("", "/logs"))


def read(hub: Hub, owner: str, token: str | None) -> set[str]:
    """The addresses that have an answer for whoever has this token: one that is no refusal, and no empty list."""
    head = {"authorization": f"Bearer {token}"} if token else {}
    found = set()
    with httpx.Client(base_url=hub.url, headers=head) as client:
        for address in addresses(hub, owner):
            with client.stream("GET", address) as answer:
                listed = address in (one.format(owner) for one in LISTS)
                if answer.status_code < 400 and not (listed and answer.read() == b"[]"):
                    found.add(address)
    return found


def pried(hub: Hub, owner: str) -> set[str]:
    """What a stranger, and nobody, can read of what the owner can; the owner has to be able to read it all."""
    own = set(addresses(hub, owner))
    lists = {one.format(owner) for one in LISTS}  # some are empty for everybody
    missing = own - lists - read(hub, owner, hub.people.add(owner).token)
    assert len(own) > len(lists) and not missing, missing
    return read(hub, owner, hub.people.add("a-stranger").token) | read(hub, owner, None)
