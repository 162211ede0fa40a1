"""Repositories: made, changed, described, listed, and their branches, tags and history."""

import json
import struct

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
    sees,
    taking,
    writable,
)
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Conflict, File, Repo, pointer

OK = {"ok": True}
CARD_TAGS = ("license", "language", "datasets", "base_model", "task_categories", "size_categories")


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


def _tags(kind: str, card: dict) -> list[str]:
    """What the Hub makes of a card: its own tags, and `license:mit`, `base_model:X`, `base_model:finetune:X` ..."""
    many = {name: card[name] if isinstance(card.get(name), list) else [card.get(name)] for name in ("tags", *CARD_TAGS)}
    tags = [tag for tag in (card.get("library_name"), card.get("pipeline_tag"), *many["tags"]) if tag]
    for name in CARD_TAGS:
        plain = "dataset" if name == "datasets" else name
        tags += [
            value if (kind, name) == ("model", "language") else f"{plain}:{value}" for value in many[name] if value
        ]
    relation = card.get("base_model_relation", "finetune")
    return [*tags, *(f"base_model:{relation}:{model}" for model in many["base_model"] if model), "region:us"]


def _parameters(hub: Hub, file: File | None) -> dict | None:
    """How many parameters of each type a safetensors file has."""
    if file is None:
        return None
    with hub.repos.blob(file.sha).open("rb") as content:
        (size,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(size))
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            width = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}.get(tensor["dtype"], 1)
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + (end - begin) // width
    return {"parameters": counts, "total": sum(counts.values())}


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
    about |= {"downloads": 0, "likes": 0, "trendingScore": 0, "tags": _tags(repo.kind, card), "cardData": card or None}
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
        about["safetensors"] = _parameters(hub, tree.get("model.safetensors"))
    if repo.kind == "space":
        about |= {"sdk": card.get("sdk") or repo.more.get("sdk"), "subdomain": repo.id.replace("/", "-").lower()}
    return {name: value for name, value in about.items() if value is not None}


def _listed(hub: Hub, request: Request) -> list[dict]:
    """Every repository that the asker sees and asks for."""
    query, person = request.query_params, hub.asker(request)
    wanted = [tag for given in query.getlist("filter") for tag in given.split(",")]
    wanted += [query["pipeline_tag"]] if "pipeline_tag" in query else []
    rows = []
    for repo in hub.repos.all(param(request, "t").removesuffix("s")):
        if not sees(person, repo) or query.get("author", repo.namespace) != repo.namespace:
            continue
        if query.get("search", "").lower() not in repo.id.lower():
            continue
        if "gated" in query and (query["gated"].lower() == "true") != bool(repo.gated):
            continue
        about = described(hub, repo)
        if set(wanted) <= {*about["tags"], about.get("library_name"), about.get("pipeline_tag")}:
            rows.append(about)
    by = {"last_modified": "lastModified", "created_at": "createdAt"}.get(key := query.get("sort", "createdAt"), key)
    return sorted(rows, key=lambda about: about.get(by) or 0, reverse=query.get("direction", "-1") == "-1")


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

    def move(request: Request, body: bytes) -> Response:
        asks = parsed(body)
        repo, _ = manageable(hub, request, asks.get("type") or "model", asks["fromRepo"])
        maker(hub, request, asks["toRepo"].split("/")[0])
        hub.repos.change(repo, id=asks["toRepo"])
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

    def duplicate(request: Request, body: bytes) -> Response:
        asks, repo = parsed(body), readable(hub, request)
        id, visibility = asks.pop("repository"), asks.pop("visibility", None) or repo.visibility
        _, person = maker(hub, request, id.split("/")[0])
        if taken := hub.repos.get(repo.kind, id):
            raise Refusal(409, f"{taken.id} exists already.", url=page_of(hub, taken))
        twin = hub.repos.copy(repo, id, visibility, person.maker, sdk=repo.more.get("sdk"), **asks)
        return JSONResponse({"url": page_of(hub, twin)})

    return [
        Route("/api/repos/create", taking(create), methods=["POST"]),
        Route("/api/repos/delete", taking(delete), methods=["DELETE"]),
        Route("/api/repos/move", taking(move), methods=["POST"]),
        Route("/api/{t:kind}/{ns}/{name}/settings", taking(settings), methods=["PUT"]),
        Route("/api/{t:kind}/{ns}/{name}/duplicate", taking(duplicate), methods=["POST"]),
    ]


def _refs(hub: Hub) -> list[Route]:
    def refs(request: Request) -> Response:
        repo, _ = asked(hub, request)

        def under(start: str) -> list[dict]:
            known = hub.repos.refs(repo, start).items()
            return [{"name": ref.removeprefix(start), "ref": ref, "targetCommit": oid} for ref, oid in known]

        found = {"branches": under("refs/heads/"), "tags": under("refs/tags/"), "converts": []}
        return JSONResponse(
            found | {"pullRequests": under("refs/pr/")} if "include_prs" in request.query_params else found
        )

    def commits(request: Request) -> Response:
        repo, _ = asked(hub, request)
        rows = hub.repos.history(repo, hub.repos.resolve(repo, param(request, "rev")))

        def shown(commit) -> dict:
            about = {"id": commit.oid, "title": commit.title, "message": commit.message, "date": iso(commit.at)}
            return about | {"authors": [{"user": commit.author}]}

        return paged(hub, request, rows, 50, shown)

    def branch(request: Request, body: bytes) -> Response:
        repo, _ = writable(hub, request)
        ref = f"refs/heads/{param(request, 'branch')}"
        if request.method == "DELETE":
            if ref == "refs/heads/main":
                raise Refusal(403, "The main branch cannot be deleted.")
            hub.repos.set_ref(repo, hub.repos.ref(repo, ref), None)
        else:
            asks = parsed(body)
            start = hub.repos.resolve(repo, asks.get("startingPoint") or "main")
            hub.repos.set_ref(repo, ref, start, new=not asks.get("overwrite"))
        return JSONResponse(OK)

    def tag(request: Request, body: bytes) -> Response:
        repo, _ = writable(hub, request)
        if request.method == "DELETE":
            hub.repos.set_ref(repo, hub.repos.ref(repo, f"refs/tags/{param(request, 'rev')}"), None)
        else:
            start = hub.repos.resolve(repo, param(request, "rev"))
            hub.repos.set_ref(repo, f"refs/tags/{parsed(body)['tag']}", start, new=True)
        return JSONResponse(OK)

    def squash(request: Request, body: bytes) -> Response:
        repo, person = writable(hub, request)
        title = parsed(body).get("message") or f"Super-squash branch '{param(request, 'branch')}' using huggingface_hub"
        with hub.repos.at_once():
            ref = hub.repos.ref(repo, f"refs/heads/{param(request, 'branch')}")
            tree = hub.repos.tree(repo, hub.repos.resolve(repo, ref))
            hub.repos.commit(repo, ref, lambda _: tree, title, author=person.name, born=True)
        return JSONResponse(OK)

    return [
        Route("/api/{t:kind}/{ns}/{name}/refs", refs),
        Route("/api/{t:kind}/{ns}/{name}/commits/{rev}", commits),
        Route("/api/{t:kind}/{ns}/{name}/branch/{branch}", taking(branch), methods=["POST", "DELETE"]),
        Route("/api/{t:kind}/{ns}/{name}/tag/{rev}", taking(tag), methods=["POST", "DELETE"]),
        Route("/api/{t:kind}/{ns}/{name}/super-squash/{branch}", taking(squash), methods=["POST"]),
    ]


def routes(hub: Hub) -> list[Route]:
    def info(request: Request) -> Response:
        repo, _ = asked(hub, request)
        query = request.query_params
        revision = param(request, "rev") if "rev" in request.path_params else "main"
        about = described(hub, repo, revision, query.get("blobs", "").lower() in ("true", "1"))
        return JSONResponse(_expanded(about, query.getlist("expand")))

    def listing(request: Request) -> Response:
        query = request.query_params
        hidden = set() if query.get("full") else {"siblings", "config", "safetensors", "usedStorage"}
        hidden |= set() if query.get("full") or query.get("cardData") else {"cardData"}

        def shown(about: dict) -> dict:
            if expand := query.getlist("expand"):
                return _expanded(about, expand)
            return {name: value for name, value in about.items() if name not in hidden}

        rows = _listed(hub, request)
        return paged(hub, request, rows, min(int(query.get("limit", 1000)), 1000), shown)

    def check(request: Request) -> Response:
        readable(hub, request)
        if request.url.path.endswith("/write"):
            writable(hub, request)
        return JSONResponse(OK)

    return [
        *_made(hub),
        *_refs(hub),
        Route("/api/{t:kind}/{ns}/{name}/auth-check", check),
        Route("/api/{t:kind}/{ns}/{name}/auth-check/write", check),
        Route("/api/{t:kind}", listing),
        Route("/api/{t:kind}/{ns}/{name}", info),
        Route("/api/{t:kind}/{ns}/{name}/revision/{rev}", info),
    ]


def _expanded(about: dict, wanted: list[str]) -> dict:
    return {name: about.get(name) for name in ("_id", "id", *wanted)} if wanted else about
