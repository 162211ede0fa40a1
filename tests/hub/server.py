"""The loopback Hub's process: its state, the errors that it answers with, and the server around its parts."""

import importlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.hub.faults import Faults
from tests.hub.people import People, Person
from tests.hub.store import Conflict, Missing, Store

PARTS = (
    "identity", "repos", "files", "commits", "lfs", "xet", "buckets", "jobs", "oauth", "spaces",
)  # fmt: skip


class Refusal(Exception):
    """What the Hub says no with. `code` is X-Error-Code: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None, **body):
        super().__init__(message)
        self.answer = JSONResponse({"error": message} | body, status, headers)
        self.answer.headers["x-error-message"] = message.replace("\n", " ")
        if code:
            self.answer.headers["x-error-code"] = code


class Hub:
    """The state that the parts share. What must outlive a restart lies in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.people = People(folder / "people.json")
        self.faults = Faults()
        self.repos = Store(folder / "store")
        seal = folder / "seal"
        if not seal.exists():
            seal.write_text(secrets.token_hex(16))
        self.seal = seal.read_bytes()  # what it signs addresses and tokens with
        self.url = ""  # known once it serves
        self.closers: list[Callable[[], None]] = [self.repos.close]  # called when the server stops

    def asker(self, request: Request) -> Person | None:
        """Who asks; None without a token. Raises Refusal for a token that is none, or is over."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        person = self.people.of(token)
        if person is None or (person.until is not None and person.until < time.time()):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return person

    def known(self, request: Request, *scopes: str) -> Person:
        """Who asks, with at least one of these scopes. Raises Refusal."""
        person = self.asker(request)
        if person is None:
            raise Refusal(401, "Invalid username or password.")
        if scopes and not set(scopes) & set(person.scopes):
            raise Refusal(403, f"This token lacks one of the scopes {', '.join(scopes)}.")
        return person


def param(request: Request, name: str) -> str:
    """A part of the address. Routes see it as it was sent: `refs%2Fpr%2F1` is one part of it."""
    return unquote(request.path_params[name])


def _missing(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Missing)
    known = {"x-repo-commit": error.commit} if error.commit else None
    return Refusal(404, str(error), error.what, known).answer


def build(hub: Hub) -> ASGIApp:
    """The whole Hub as one app."""
    parts = [importlib.import_module(f"tests.hub.{name}") for name in PARTS]
    inner = Starlette(
        routes=[route for part in parts for route in part.routes(hub)],
        exception_handlers={
            Refusal: lambda _, error: error.answer,  # type: ignore[attr-defined]
            Missing: _missing,
            Conflict: lambda _, error: Refusal(409, str(error)).answer,
        },
    )

    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode()}
        await inner(scope, receive, send)

    return hub.faults.around(raw)


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[Hub]:
    """A Hub that answers on 127.0.0.1 until the end of the block."""
    hub = Hub(folder)
    server = uvicorn.Server(uvicorn.Config(build(hub), port=port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), f"port {port} cannot be used"
        time.sleep(0.01)
    hub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        for close in hub.closers:
            close()
