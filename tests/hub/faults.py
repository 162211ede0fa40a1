"""What goes wrong between a client and the Hub: refused, slow, cut in the middle, or done and never answered."""

import asyncio
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Fault:
    """One kind of trouble, for the next `times` requests whose "METHOD /path" matches `where`."""

    where: str
    times: int = 1
    status: int | None = None  # the answer, instead of the Hub's own
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0  # before anything happens
    cut_after: int | None = None  # bytes of the answer's body, after which the connection is closed
    lost: bool = False  # the Hub does what it was asked, and closes the connection before it has said so


class Cut(Exception):
    """Raised through uvicorn, which closes the connection."""


class Faults:
    """ASGI middleware. `asked` lists every request as (unix time, method, path, status or None where cut)."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()
        self.asked: list[tuple[float, str, str, int | None]] = []

    def add(self, where: str, **trouble) -> Fault:
        """`where` is a regular expression; `trouble` are fields of Fault. Its `times` fall to 0 as it happens."""
        with self._lock:
            self._waiting.append(Fault(where, **trouble))
            return self._waiting[-1]

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def next(self, line: str) -> Fault | None:
        """The fault for a request, used up once."""
        with self._lock:
            for fault in self._waiting:
                if fault.times > 0 and re.search(fault.where, line):
                    fault.times -= 1
                    return fault
        return None

    def around(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            fault = self.next(f"{scope['method']} {unquote(scope['path'])}")
            return await self._through(fault or Fault(""), app, scope, receive, send)

        return answer

    async def _through(self, fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        row: list = [time.time(), scope["method"], unquote(scope["path"]), None]
        sent = 0

        async def watched(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                row[3] = None if fault.lost else message["status"]
            elif fault.lost:  # uvicorn says 500 if nothing has been sent; so a client sees an answer without its body
                raise Cut
            if fault.lost:
                message["headers"] = [(b"content-length", b"1000000")]
            body = message.get("body", b"")
            if fault.cut_after is not None and sent + len(body) > fault.cut_after:
                await send({"type": "http.response.body", "body": body[: fault.cut_after - sent], "more_body": True})
                raise Cut
            sent += len(body)
            await send(message)

        try:
            await asyncio.sleep(fault.wait_s)
            if fault.status is not None:
                refused = JSONResponse({"error": "the loopback Hub was told to fail"}, fault.status, fault.headers)
                return await refused(scope, receive, watched)
            return await app(scope, receive, watched)
        finally:
            self.asked.append(tuple(row))
