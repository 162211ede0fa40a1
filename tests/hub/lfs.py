"""Git LFS: large files by PUT, in one piece or in parts, to addresses that speak for themselves."""

import hashlib
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import parsed, repo_of, signed, taking, unsigned, writable
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Repo

PART = 16 * 1024 * 1024  # bytes, over which a file is sent in parts


def _accepted(hub: Hub, repo: Repo, oid: str, content: bytes) -> Response:
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refusal(400, f"The {len(content)} bytes that came are not those of {oid}.")
    hub.repos.keep(content)
    hub.repos.hold(repo, oid, len(content))
    return JSONResponse({"ok": True})


def routes(hub: Hub) -> list[Route]:
    def batch(kind: str):
        def answer(request: Request, body: bytes) -> Response:
            request.path_params["name"] = param(request, "name").removesuffix(".git")
            repo, _ = writable(hub, request, kind)
            asks = parsed(body)
            multipart = "multipart" in asks.get("transfers", [])
            objects = [_told(hub, repo, each["oid"], each["size"], multipart) for each in asks["objects"]]
            return JSONResponse({"transfer": "multipart" if multipart else "basic", "objects": objects})

        return taking(answer)

    def put(request: Request, body: bytes) -> Response:
        key, oid, part = unsigned(hub, request.query_params["key"])
        repo = repo_of(hub, key)
        if not part:
            return _accepted(hub, repo, oid, body)
        draft = hub.repos.folder / "parts" / f"{repo.key}-{oid}-{part}"
        draft.write_bytes(body)
        return Response(headers={"etag": f'"{hashlib.md5(body).hexdigest()}"'})

    def complete(request: Request, body: bytes) -> Response:
        key, oid, _ = unsigned(hub, request.query_params["key"])
        repo = repo_of(hub, key)
        numbers = sorted(part["partNumber"] for part in parsed(body)["parts"])
        drafts = [hub.repos.folder / "parts" / f"{repo.key}-{oid}-{number}" for number in numbers]
        if not all(draft.exists() for draft in drafts):
            raise Refusal(400, f"Not all of the {len(drafts)} parts of {oid} have come.")
        done = _accepted(hub, repo, oid, b"".join(draft.read_bytes() for draft in drafts))
        for draft in drafts:
            draft.unlink()
        return done

    def verify(request: Request, body: bytes) -> Response:
        key, oid, _ = unsigned(hub, request.query_params["key"])
        held = hub.repos.held(repo_of(hub, key), sha=oid)
        if held is None or held.size != parsed(body)["size"]:
            raise Refusal(404, f"{oid} has not come.")
        return JSONResponse({"ok": True})

    return [
        *(
            Route(f"{prefix}/{{ns}}/{{name}}/info/lfs/objects/batch", batch(kind), methods=["POST"])
            for kind, prefix in (("model", ""), ("dataset", "/datasets"), ("space", "/spaces"))
        ),
        Route("/lfs/content", taking(put), methods=["PUT"]),
        Route("/lfs/complete", taking(complete), methods=["POST"]),
        Route("/lfs/verify", taking(verify), methods=["POST"]),
    ]


def _told(hub: Hub, repo: Repo, oid: str, size: int, multipart: bool) -> dict:
    """What the client shall do with an object: nothing, where the repository holds it."""
    if not re.fullmatch("[0-9a-f]{64}", oid):
        return {"oid": oid, "size": size, "error": {"code": 422, "message": "This is no sha256."}}
    if hub.repos.held(repo, sha=oid):
        return {"oid": oid, "size": size}

    def there(verb: str, part: int | str = "") -> str:
        return f"{hub.url}/lfs/{verb}?key={signed(hub, repo.key, oid, part)}"

    upload: dict = {"href": there("content")}
    if multipart and size > PART:
        parts = {str(n): there("content", n) for n in range(1, -(-size // PART) + 1)}
        upload = {"href": there("complete"), "header": {"chunk_size": str(PART), **parts}}
    return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": there("verify")}}}
