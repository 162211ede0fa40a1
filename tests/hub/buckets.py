"""Buckets: files without history, kept by Xet."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import (
    asked,
    iso,
    maker,
    manageable,
    page_of,
    paged,
    parsed,
    readable,
    sees,
    taking,
    writable,
)  # fmt: skip
from tests.hub.files import folders, sent
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Conflict, File, Missing, Repo
from tests.hub.xet import token_answer


def _described(hub: Hub, repo: Repo) -> dict:
    files = [file for file, _, _ in hub.repos.stored(repo).values()]
    about = {"id": repo.id, "private": repo.visibility != "public", "createdAt": iso(repo.created)}
    return about | {"size": sum(file.size for file in files), "totalFiles": len(files)}


def _entry(path: str, kept: tuple[File, int, float]) -> dict:
    file, mtime, at = kept
    about = {"type": "file", "path": path, "size": file.size, "xetHash": file.xet}
    return about | {"mtime": iso(mtime / 1000), "uploadedAt": iso(at)}


def _step(hub: Hub, request: Request, repo: Repo, step: dict) -> None:
    """One line of a batch. Raises Refusal or Missing."""
    path, what = step["path"], step["type"]
    if what == "deleteFile":
        if path not in hub.repos.stored(repo):
            raise Missing("EntryNotFound", "File not found")
        return hub.repos.put(repo, path, None)
    source = repo
    if what == "copyFile":
        source = readable_of(hub, request, step["sourceRepoType"], step["sourceRepoId"])
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise Refusal(400, f"{path!r} is no path that a bucket may have.")
    if (file := hub.repos.held(source, xet=step["xetHash"])) is None:
        raise Refusal(400, f"The content {step['xetHash']} is not known to {source.id}.")
    hub.repos.hold(repo, file.sha, file.size, file.xet)
    hub.repos.put(repo, path, file, step.get("mtime") or 0)


def readable_of(hub: Hub, request: Request, kind: str, id: str) -> Repo:
    request.path_params["ns"], _, request.path_params["name"] = id.partition("/")
    return readable(hub, request, kind)


def _own(hub: Hub) -> list[Route]:
    def one(request: Request, body: bytes) -> Response:
        namespace, name = param(request, "ns"), param(request, "name")
        if namespace == "me":
            namespace = request.path_params["ns"] = hub.known(request).name
        id = f"{namespace}/{name}"
        if request.method == "POST":
            return create(request, id, parsed(body))
        if request.method == "DELETE":
            hub.repos.drop(manageable(hub, request, "bucket", id)[0])
            return Response(status_code=204)
        return JSONResponse(_described(hub, asked(hub, request, "bucket")[0]))

    def create(request: Request, id: str, asks: dict) -> Response:
        _, person = maker(hub, request, id.split("/")[0])
        try:
            repo = hub.repos.add(
                "bucket", id, "private" if asks.get("private") else "public", person.maker, person.name
            )
        except Conflict as error:
            raise Refusal(409, str(error), url=page_of(hub, hub.repos.repo("bucket", id))) from error
        return JSONResponse({"url": page_of(hub, repo), "name": repo.id})

    def listing(request: Request) -> Response:
        namespace, person = param(request, "ns"), hub.asker(request)
        namespace = hub.known(request).name if namespace == "me" else namespace
        rows = [repo for repo in hub.repos.all("bucket") if repo.namespace == namespace and sees(person, repo)]
        rows = [repo for repo in rows if request.query_params.get("search", "") in repo.id]
        return paged(hub, request, rows, 1000, lambda repo: _described(hub, repo))

    def settings(request: Request, body: bytes) -> Response:
        repo, _ = asked(hub, request, "bucket")
        manageable(hub, request, "bucket", repo.id)
        hub.repos.change(repo, visibility="private" if parsed(body)["private"] else "public")
        return JSONResponse({"ok": True})

    return [
        Route("/api/buckets/{ns}", listing),
        Route("/api/buckets/{ns}/{name}", taking(one), methods=["GET", "POST", "DELETE"]),
        Route("/api/buckets/{ns}/{name}/settings", taking(settings), methods=["PUT"]),
    ]


def routes(hub: Hub) -> list[Route]:
    def tree(request: Request) -> Response:
        known = hub.repos.stored(readable(hub, request, "bucket"))
        under = f"{param(request, 'prefix').strip('/')}/" if request.path_params.get("prefix") else ""
        rows = [_entry(path, kept) for path, kept in known.items()]
        rows += [{"type": "directory", "path": path} for path in folders(list(known))]
        deep = request.query_params.get("recursive", "").lower() in ("true", "1")
        rows = [
            row
            for row in rows
            if row["path"].startswith(under) or (row["type"] == "file" and row["path"] == under[:-1])
        ]
        rows = [row for row in rows if deep or "/" not in row["path"][len(under) :]]
        return paged(hub, request, sorted(rows, key=lambda row: row["path"]), 1000)

    def paths_info(request: Request, body: bytes) -> Response:
        known = hub.repos.stored(readable(hub, request, "bucket"))
        return JSONResponse([_entry(path, known[path]) for path in parsed(body)["paths"] if path in known])

    def batch(request: Request, body: bytes) -> Response:
        """Each line for itself, as on the Hub: some may fail."""
        repo, _ = writable(hub, request, "bucket")
        steps, failed = [json.loads(line) for line in body.splitlines() if line.strip()], []
        for step in steps:
            try:
                _step(hub, request, repo, step)
            except (Refusal, Missing) as error:
                failed.append({"path": step["path"], "error": str(error)})
        done = {"success": not failed, "processed": len(steps), "succeeded": len(steps) - len(failed), "failed": failed}
        return JSONResponse(done, 422 if failed and len(failed) == len(steps) else 200)

    def read_token(request: Request) -> Response:
        return token_answer(hub, readable(hub, request, "bucket"), "read", hub.asker(request))

    def write_token(request: Request) -> Response:
        repo, person = writable(hub, request, "bucket")
        return token_answer(hub, repo, "read+write", person)

    def resolve(request: Request) -> Response:
        repo, path = readable(hub, request, "bucket"), param(request, "path")
        kept = hub.repos.stored(repo).get(path)
        if kept is None:
            raise Missing("EntryNotFound", f"There is no {path} in {repo.id}.")
        return sent(hub, path, kept[0], {"link": f'<{hub.url}/api/buckets/{repo.id}/xet-read-token>; rel="xet-auth"'})

    return [
        *_own(hub),
        Route("/api/buckets/{ns}/{name}/tree", tree),
        Route("/api/buckets/{ns}/{name}/tree/{prefix:path}", tree),
        Route("/api/buckets/{ns}/{name}/paths-info", taking(paths_info), methods=["POST"]),
        Route("/api/buckets/{ns}/{name}/batch", taking(batch), methods=["POST"]),
        Route("/api/buckets/{ns}/{name}/xet-read-token", read_token),
        Route("/api/buckets/{ns}/{name}/xet-write-token", write_token),
        Route("/buckets/{ns}/{name}/resolve/{path:path}", resolve),
    ]
