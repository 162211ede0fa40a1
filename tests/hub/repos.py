"""Repositories: made, changed, described, and their history."""

import json

import yaml
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
    taking,
    writable,
)
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Conflict, File, Repo, pointer

OK = {"ok": True}


def front_matter(text: str) -> dict:
    """The YAML at the beginning of a README. Raises yaml.YAMLError."""
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        return {}
    found = yaml.safe_load(text[4:].split("\n---")[0])
    return found if isinstance(found, dict) else {}


def _content(hub: Hub, file: File | None) -> bytes:
    return hub.repos.blob(file.sha).read_bytes() if file else b""


def _card(hub: Hub, tree: dict[str, File]) -> dict:
    try:
        return front_matter(_content(hub, tree.get("README.md")).decode(errors="replace"))
    except yaml.YAMLError:
        return {}


def _sibling(path: str, file: File) -> dict:
    about: dict = {"rfilename": path, "size": file.size, "blobId": file.oid}
    if file.lfs:
        about["lfs"] = {"sha256": file.sha, "size": file.size, "pointerSize": len(pointer(file.sha, file.size))}
    return about


def described(hub: Hub, repo: Repo, revision: str = "main", blobs: bool = False) -> dict:
    """What the Hub says of a repository at a revision. Raises Missing."""
    sha = hub.repos.resolve(repo, revision)
    tree, card = hub.repos.tree(repo, sha), _card(hub, hub.repos.tree(repo, sha))
    about: dict = {"_id": f"{repo.key:024x}", "id": repo.id, "author": repo.namespace, "sha": sha}
    about |= {"createdAt": iso(repo.created), "lastModified": iso(hub.repos.history(repo, sha)[0].at)}
    about |= {"private": repo.visibility != "public", "gated": repo.gated or False, "disabled": False}
    about |= {"downloads": 0, "likes": 0, "trendingScore": 0, "tags": card.get("tags") or [], "cardData": card or None}
    about["siblings"] = [_sibling(path, file) if blobs else {"rfilename": path} for path, file in tree.items()]
    about["usedStorage"] = sum({file.sha: file.size for file in tree.values()}.values())
    if repo.kind == "model":
        config = json.loads(_content(hub, tree.get("config.json")) or b"{}")
        about |= {
            "modelId": repo.id,
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
        }
        about["config"] = {name: config[name] for name in ("architectures", "model_type") if name in config}
    if repo.kind == "space":
        about |= {"sdk": card.get("sdk") or repo.more.get("sdk"), "subdomain": repo.id.replace("/", "-").lower()}
    return {name: value for name, value in about.items() if value is not None}


def _named(hub: Hub, request: Request, body: dict) -> tuple[Repo, object]:
    namespace = body.get("organization") or hub.known(request).name
    return manageable(hub, request, body.get("type") or "model", f"{namespace}/{body['name']}")


def _made(hub: Hub) -> list[Route]:
    def create(request: Request, body: bytes) -> Response:
        asks = parsed(body)
        namespace, person = maker(hub, request, asks.pop("organization", None))
        id, kind = f"{namespace}/{asks.pop('name')}", asks.pop("type", None) or "model"
        private = "private" if asks.pop("private", False) else "public"
        visibility = asks.pop("visibility", None) or private
        try:
            repo = hub.repos.add(kind, id, visibility, person.maker, person.name, **asks)
        except Conflict as error:
            raise Refusal(409, str(error), url=page_of(hub, hub.repos.repo(kind, id))) from error
        return JSONResponse({"url": page_of(hub, repo), "name": repo.id, "id": f"{repo.key:024x}"})

    def delete(request: Request, body: bytes) -> Response:
        hub.repos.drop(_named(hub, request, parsed(body))[0])
        return JSONResponse(OK)

    def settings(request: Request, body: bytes) -> Response:
        asks, (repo, _) = parsed(body), asked(hub, request)
        manageable(hub, request, repo.kind, repo.id)
        if "private" in asks:
            asks["visibility"] = "private" if asks.pop("private") else "public"
        if "gated" in asks:
            asks["gated"] = asks["gated"] or ""
        hub.repos.change(repo, **{name: asks[name] for name in ("visibility", "gated") if name in asks})
        return JSONResponse(asks)

    return [
        Route("/api/repos/create", taking(create), methods=["POST"]),
        Route("/api/repos/delete", taking(delete), methods=["DELETE"]),
        Route("/api/{t:kind}/{ns}/{name}/settings", taking(settings), methods=["PUT"]),
    ]


def _history(hub: Hub) -> list[Route]:
    def commits(request: Request) -> Response:
        repo, _ = asked(hub, request)
        rows = hub.repos.history(repo, hub.repos.resolve(repo, param(request, "rev")))

        def shown(commit) -> dict:
            about = {"id": commit.oid, "title": commit.title, "message": commit.message, "date": iso(commit.at)}
            return about | {"authors": [{"user": commit.author}]}

        return paged(hub, request, rows, 50, shown)

    def squash(request: Request, body: bytes) -> Response:
        repo, person = writable(hub, request)
        title = parsed(body).get("message") or f"Super-squash branch '{param(request, 'branch')}' using huggingface_hub"
        with hub.repos.at_once():
            ref = hub.repos.ref(repo, f"refs/heads/{param(request, 'branch')}")
            tree = hub.repos.tree(repo, hub.repos.resolve(repo, ref))
            hub.repos.commit(repo, ref, lambda _: tree, title, author=person.name, born=True)
        return JSONResponse(OK)

    return [
        Route("/api/{t:kind}/{ns}/{name}/commits/{rev}", commits),
        Route("/api/{t:kind}/{ns}/{name}/super-squash/{branch}", taking(squash), methods=["POST"]),
    ]


def routes(hub: Hub) -> list[Route]:
    def info(request: Request) -> Response:
        repo, _ = asked(hub, request)
        query = request.query_params
        revision = param(request, "rev") if "rev" in request.path_params else "main"
        about = described(hub, repo, revision, query.get("blobs", "").lower() in ("true", "1"))
        expand = query.getlist("expand")
        return JSONResponse({name: about.get(name) for name in ("_id", "id", *expand)} if expand else about)

    def check(request: Request) -> Response:
        readable(hub, request)
        return JSONResponse(OK)

    return [
        *_made(hub),
        *_history(hub),
        Route("/api/{t:kind}/{ns}/{name}/auth-check", check),
        Route("/api/{t:kind}/{ns}/{name}", info),
        Route("/api/{t:kind}/{ns}/{name}/revision/{rev}", info),
    ]
