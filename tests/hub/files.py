"""What lies in a repository: its tree, facts of some paths, and the files themselves."""

import hashlib
import mimetypes
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import paged, readable, taking
from tests.hub.server import Hub, param
from tests.hub.store import File, Missing, pointer


def entry(path: str, file: File) -> dict:
    about: dict = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
    if file.lfs:
        about["lfs"] = {"oid": file.sha, "size": file.size, "pointerSize": len(pointer(file.sha, file.size))}
    if file.xet:
        about["xetHash"] = file.xet
    return about


def folders(paths: list[str]) -> list[str]:
    return sorted({path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"})


def _folder(path: str, tree: dict[str, File]) -> dict:
    inside = "".join(f"{name}{file.oid}" for name, file in tree.items() if name.startswith(f"{path}/"))
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(inside.encode()).hexdigest()}


def headers_of(file: File) -> dict[str, str]:
    """What the Hub says of a file's content."""
    if not file.lfs:
        return {"etag": f'"{file.oid}"'}
    found = {"etag": f'"{file.sha}"', "x-linked-etag": f'"{file.sha}"', "x-linked-size": str(file.size)}
    return found | ({"x-xet-hash": file.xet} if file.xet else {})


def sent(hub: Hub, path: str, file: File, headers: dict[str, str]) -> Response:
    """The file itself; Starlette minds HEAD and Range."""
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    exposed = {"content-disposition": f"inline; filename*=UTF-8''{quote(path.rsplit('/')[-1])}"}
    return FileResponse(hub.repos.blob(file.sha), headers=headers | headers_of(file) | exposed, media_type=kind)


def routes(hub: Hub) -> list[Route]:
    def tree(request: Request) -> Response:
        repo, query = readable(hub, request), request.query_params
        oid = hub.repos.resolve(repo, param(request, "rev"))
        known = hub.repos.tree(repo, oid)
        under = f"{param(request, 'path').strip('/')}/" if request.path_params.get("path") else ""
        if under and not any(path.startswith(under) for path in known):
            raise Missing("EntryNotFound", f"{under[:-1]} does not exist on {param(request, 'rev')}", oid)
        deep = query.get("recursive", "").lower() in ("true", "1")
        rows = [_folder(path, known) for path in folders(list(known))] + [entry(*item) for item in known.items()]
        rows = [row for row in rows if row["path"].startswith(under)]
        rows = [row for row in rows if deep or "/" not in row["path"][len(under) :]]
        return paged(hub, request, sorted(rows, key=lambda row: row["path"]), 1000)

    def paths_info(request: Request, body: bytes) -> Response:
        repo, form = readable(hub, request), parse_qs(body.decode(), keep_blank_values=True)
        oid = hub.repos.resolve(repo, param(request, "rev"))
        known = hub.repos.tree(repo, oid)
        asked = [path.strip("/") for path in form.get("paths", [])]
        rows = [entry(path, known[path]) for path in asked if path in known]
        rows += [_folder(path, known) for path in asked if path in folders(list(known))]
        return JSONResponse(rows)

    def resolve(kind: str):
        def answer(request: Request) -> Response:
            repo = readable(hub, request, kind)
            oid = hub.repos.resolve(repo, param(request, "rev"))
            path = param(request, "path")
            if (file := hub.repos.tree(repo, oid).get(path)) is None:
                raise Missing("EntryNotFound", f"{path} does not exist on {repo.id} at {param(request, 'rev')}", oid)
            headers = {"x-repo-commit": oid}
            if file.xet:
                route = f"{hub.url}/api/{kind}s/{repo.id}/xet-read-token/{oid}"
                headers["link"] = f'<{route}>; rel="xet-auth"'
            return sent(hub, path, file, headers)

        return answer

    return [
        Route("/api/{t:kind}/{ns}/{name}/tree/{rev}", tree),
        Route("/api/{t:kind}/{ns}/{name}/tree/{rev}/{path:path}", tree),
        Route("/api/{t:kind}/{ns}/{name}/paths-info/{rev}", taking(paths_info), methods=["POST"]),
        *(
            Route(f"{prefix}/{{ns}}/{{name}}/{word}/{{rev}}/{{path:path}}", resolve(kind))
            for kind, prefix in (("model", ""), ("dataset", "/datasets"), ("space", "/spaces"))
            for word in ("resolve", "raw")
        ),
    ]
