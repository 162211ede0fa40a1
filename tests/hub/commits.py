"""Commits: what a client asks before one, and the commit itself, which happens wholly or not at all."""

import base64
import binascii
import fnmatch
import json
from collections.abc import Callable

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import page_of, parsed, taking, writable
from tests.hub.repos import front_matter
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Conflict, File, Missing, Repo

REGULAR = 10 * 1024 * 1024  # bytes, over which a file goes to LFS whatever it is
BINARY = (
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".gguf", ".gz", ".h5", ".jpeg", ".jpg", ".model", ".mp4", ".msgpack", ".npy",
    ".npz", ".onnx", ".parquet", ".pickle", ".pkl", ".png", ".pt", ".pth", ".safetensors", ".tar", ".tgz", ".wav", ".zip",
)  # fmt: skip
Edit = Callable[[dict[str, File]], dict[str, File]]


def _mode(path: str, size: int, sample: bytes) -> str:
    return "lfs" if size > REGULAR or path.lower().endswith(BINARY) or b"\0" in sample else "regular"


def _placed(hub: Hub, repo: Repo, key: str, value: dict) -> tuple[str, File]:
    path = value["path"]
    if not path or path.startswith("/") or ".." in path.split("/") or ".git" in path.split("/"):
        raise Refusal(400, f"{path!r} is no path that a repository may have.")
    if key == "file":
        try:
            content = value["content"]
            plain = base64.b64decode(content, validate=True) if value.get("encoding") == "base64" else content.encode()
        except binascii.Error as error:
            raise Refusal(400, f"The content of {path} is not base64: {error}") from error
        if len(plain) > REGULAR:
            raise Refusal(413, f"{path} has {len(plain)} bytes: files over {REGULAR} go to LFS.")
        return path, hub.repos.file(plain)
    if (file := hub.repos.held(repo, sha=value["oid"])) is None:
        raise Refusal(
            400, f"Your push was rejected because an LFS pointer pointed to a file that does not exist: {path}"
        )
    return path, file


def edit_of(hub: Hub, repo: Repo, lines: list[dict]) -> Edit:
    """What a commit's lines do to a tree. Content is looked at now, what is to be deleted later. Raises Refusal."""
    steps: list[tuple[str, str, File | None]] = []
    for line in lines:
        key, value = line["key"], line["value"]
        if key in ("file", "lfsFile"):
            steps.append(("add", *_placed(hub, repo, key, value)))
        elif key in ("deletedFile", "deletedFolder"):
            steps.append((key, value["path"].strip("/"), None))
        else:
            raise Refusal(400, f"{key!r} is no operation of a commit.")

    def edit(tree: dict[str, File]) -> dict[str, File]:
        tree = dict(tree)
        for what, path, file in steps:
            if file is not None:
                tree[path] = file
                continue
            gone = [name for name in tree if name == path or (what == "deletedFolder" and name.startswith(f"{path}/"))]
            if not gone:
                raise Missing("EntryNotFound", f"A {what.removeprefix('deleted').lower()} {path} does not exist.")
            for name in gone:
                del tree[name]
        return tree

    return edit


def routes(hub: Hub) -> list[Route]:
    def validate(_: Request, body: bytes) -> Response:
        try:
            card = front_matter(parsed(body)["content"])
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return JSONResponse({"errors": [], "warnings": warnings})

    def preupload(request: Request, body: bytes) -> Response:
        repo, _ = writable(hub, request)
        asks = parsed(body)
        tree = hub.repos.tree(repo, hub.repos.resolve(repo, param(request, "rev")))
        ignored = [line for line in asks.get("gitIgnore", "").splitlines() if line and not line.startswith("#")]

        def told(file: dict) -> dict:
            path, old = file["path"], tree.get(file["path"])
            mode = _mode(path, file["size"], base64.b64decode(file["sample"]))
            drop = any(fnmatch.fnmatch(name, rule.strip("/")) for rule in ignored for name in (path, *path.split("/")))
            oid = old and (old.sha if old.lfs else old.oid)
            return {"path": path, "uploadMode": mode, "shouldIgnore": drop, "oid": oid}

        return JSONResponse({"files": [told(file) for file in asks["files"]]})

    def commit(request: Request, body: bytes) -> Response:
        repo, person = writable(hub, request)
        ref = hub.repos.ref(repo, param(request, "rev"))
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        if not lines or lines[0]["key"] != "header":
            raise Refusal(400, "A commit begins with its header.")
        head, edit = lines[0]["value"], edit_of(hub, repo, lines[1:])
        title, message, parent = head.get("summary") or "", head.get("description") or "", head.get("parentCommit")
        if not title:
            raise Refusal(400, "A commit has a summary.")
        answer: dict = {"success": True}
        try:
            with hub.repos.at_once():
                start = hub.repos.refs(repo)[ref]
                if parent is not None and not start.startswith(parent):
                    raise Conflict(f"A commit has happened since. Please refresh and try again: the last is {start}.")
                oid = hub.repos.commit(repo, ref, edit, title, message, person.name)
        except Conflict as error:
            raise Refusal(412, str(error)) from error
        answer |= {"commitOid": oid, "commitUrl": f"{page_of(hub, repo)}/commit/{oid}"}
        return JSONResponse(answer)

    where = "/api/{t:kind}/{ns}/{name}"
    return [
        Route("/api/validate-yaml", taking(validate), methods=["POST"]),
        Route(f"{where}/preupload/{{rev}}", taking(preupload), methods=["POST"]),
        Route(f"{where}/commit/{{rev}}", taking(commit), methods=["POST"]),
    ]
