"""Discussions and pull requests: a pull request is a discussion with a ref of its own."""

import secrets
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import asked, iso, parsed, taking, writable, writes
from tests.hub.people import Person
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import File, Missing, Repo


def _event(thread: dict, person: Person, kind: str, data: dict) -> dict:
    event = {"id": secrets.token_hex(12), "type": kind, "createdAt": iso(time.time()), "author": {"name": person.name}}
    thread["events"].append(event | {"data": data})
    return thread["events"][-1]


def _comment(thread: dict, person: Person, text: str) -> dict:
    return _event(thread, person, "comment", {"edited": False, "hidden": False, "latest": {"raw": text, "html": text}})


def opened(
    hub: Hub, repo: Repo, person: Person, title: str, text: str, base: str | None = None, start: str = ""
) -> dict:
    """A new discussion; with `base`, the ref to merge into, a pull request that begins at the commit `start`."""
    about = {"title": title, "author": {"name": person.name}, "createdAt": iso(time.time()), "status": "open"}
    about |= {"isPullRequest": base is not None, "repo": {"name": repo.id, "type": repo.kind}, "events": []}
    about |= {"changes": {"base": base}, "start": start} if base else {}
    _comment(about, person, text)
    thread = hub.repos.set_thread(repo, about)
    if base:
        hub.repos.set_ref(repo, f"refs/pr/{thread['num']}", start, new=True)
    return thread


def _merged(
    start: dict[str, File], ours: dict[str, File], theirs: dict[str, File]
) -> tuple[dict[str, File], list[str]]:
    """Three trees made one, and the paths that both sides changed differently."""
    changed = [path for path in start | theirs if start.get(path) != theirs.get(path)]
    clashes = [path for path in changed if ours.get(path) not in (start.get(path), theirs.get(path))]
    kept = {path: file for path, file in ours.items() if path not in changed}
    return kept | {path: theirs[path] for path in changed if path in theirs}, clashes


def _trees(hub: Hub, repo: Repo, thread: dict) -> list[dict[str, File]]:
    refs = hub.repos.refs(repo)
    return [hub.repos.tree(repo, oid) for oid in (thread["start"], refs[thread["changes"]["base"]], refs[_ref(thread)])]


def _ref(thread: dict) -> str:
    return f"refs/pr/{thread['num']}"


def routes(hub: Hub) -> list[Route]:
    def listing(request: Request) -> Response:
        repo, _ = asked(hub, request)
        query, rows = request.query_params, hub.repos.threads(repo)
        kind, state, size = query.get("type", "all"), query.get("status", "all"), 50
        rows = [row for row in rows if kind == "all" or row["isPullRequest"] == (kind == "pull_request")]
        rows = [row for row in rows if state == "all" or (row["status"] in ("open", "draft")) == (state == "open")]
        rows = [row for row in rows if query.get("author", row["author"]["name"]) == row["author"]["name"]]
        start = int(query.get("p", 0)) * size
        return JSONResponse({"discussions": rows[start : start + size], "count": len(rows), "start": start})

    def create(request: Request, body: bytes) -> Response:
        (repo, _), asks = asked(hub, request), parsed(body)
        person, base = hub.known(request), "refs/heads/main" if asks.get("pullRequest") else None
        with hub.repos.at_once():
            start = hub.repos.resolve(repo, "main")
            thread = opened(hub, repo, person, asks["title"], asks.get("description", ""), base, start)
            thread["status"] = "draft" if base else "open"
            return JSONResponse(hub.repos.set_thread(repo, thread))

    def details(request: Request) -> Response:
        repo, _ = asked(hub, request)
        thread = hub.repos.thread(repo, param(request, "num"))
        if thread["isPullRequest"]:
            start, ours, theirs = _trees(hub, repo, thread)
            changed = [path for path in start | theirs if start.get(path) != theirs.get(path)]
            clashes = [] if thread["status"] == "merged" else _merged(start, ours, theirs)[1]
            diff = "".join(f"diff --git a/{path} b/{path}\n" for path in changed)
            events = [*thread["events"], *_commit_events(hub, repo, thread)]
            thread |= {"filesWithConflicts": clashes, "diff": diff, "events": events}
        return JSONResponse(thread)

    def change(request: Request, body: bytes) -> Response:
        (repo, _), asks, verb = asked(hub, request), parsed(body), param(request, "verb")
        person = hub.known(request)
        with hub.repos.at_once():
            thread = hub.repos.thread(repo, param(request, "num"))
            if verb != "comment" and not writes(person, repo) and thread["author"]["name"] != person.name:
                raise Refusal(403, f"You don't have the rights to change discussion {thread['num']} of {repo.id}")
            if verb == "merge":
                writable(hub, request)
                _merge(hub, repo, person, thread)
            answer = {"newMessage": _comment(thread, person, asks["comment"])} if asks.get("comment") else {}
            if verb == "status":
                thread["status"] = asks["status"]
            elif verb == "title":
                renamed = {"from": thread["title"], "to": asks["title"]}
                thread["title"] = asks["title"]
                answer["newTitle"] = _event(thread, person, "title-change", renamed)
            elif verb not in ("comment", "merge"):
                raise Missing("EntryNotFound", f"{verb!r} is nothing that can be done to a discussion here.")
            if verb in ("status", "merge"):
                answer["newStatus"] = _event(thread, person, "status-change", {"status": thread["status"]})
            hub.repos.set_thread(repo, thread)
        return JSONResponse(answer)

    where = "/api/{t:kind}/{ns}/{name}/discussions"
    return [
        Route(where, listing),
        Route(where, taking(create), methods=["POST"]),
        Route(f"{where}/{{num}}", details),
        Route(f"{where}/{{num}}/{{verb}}", taking(change), methods=["POST"]),
    ]


def _commit_events(hub: Hub, repo: Repo, thread: dict) -> list[dict]:
    events = []
    for commit in hub.repos.history(repo, hub.repos.refs(repo)[_ref(thread)]):
        if commit.oid == thread["start"]:
            break
        about = {
            "id": commit.oid[:24],
            "type": "commit",
            "createdAt": iso(commit.at),
            "author": {"name": commit.author},
        }
        events.insert(0, about | {"data": {"subject": commit.title, "oid": commit.oid}})
    return events


def _merge(hub: Hub, repo: Repo, person: Person, thread: dict) -> None:
    if not thread["isPullRequest"] or thread["status"] in ("merged", "closed"):
        raise Refusal(
            400, f"Discussion {thread['num']} is no pull request that can be merged: it is {thread['status']}."
        )
    tree, clashes = _merged(*_trees(hub, repo, thread))
    if clashes:
        raise Refusal(409, f"These files are in conflict: {', '.join(clashes)}")
    title = f"{thread['title']} (#{thread['num']})"
    oid = hub.repos.commit(repo, thread["changes"]["base"], lambda _: tree, title, author=person.name)
    thread["status"], thread["changes"]["mergeCommitId"] = "merged", oid
