"""A chat provider on loopback that reads its answers from a script. Knows the protocols; knows nothing of who asks.

HTTP/1.1 as providers speak it: connections stay open, a stream comes in chunks, so a cut is seen as one.
"""

import json
import math
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.chat import completions, messages
from tests.chat.rules import broken_rule
from tests.chat.turns import Failure, Reply, Turn, Verbatim, fails

Script = Sequence[Turn | Callable[[], Turn]] | Callable[[dict[str, Any]], Turn]
LOOK = 0.02  # seconds between looks at whether the client is still there
PROTOCOLS = {"/v1/chat/completions": completions, "/v1/messages": messages}


@dataclass
class ChatServer:
    """Where the server is and what it was asked, in order. The lists have one entry for each POST."""

    root: str  # what Anthropic's protocol calls its base
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)  # time.monotonic: request read, answer sent
    left: list[int] = field(default_factory=list)  # numbers of the requests whose client went before the end

    @property
    def base(self) -> str:
        """What OpenAI's protocol calls its base."""
        return f"{self.root}/v1"


class _Gone(Exception):
    """The client went away, or the server closes."""


class _Http(ThreadingHTTPServer):
    """Knows its open connections, so that it can end them, and what went wrong in it."""

    request_queue_size = 128

    def __init__(self, script: Script, model: str, max_model_len: int | None, strict: bool):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.model, self.max_model_len, self.strict = script, model, max_model_len, strict
        self.told = ChatServer(f"http://127.0.0.1:{self.server_address[1]}")
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.open: set[socket.socket] = set()
        self.trouble: list[BaseException] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go whenever it likes; anything else is a fault of the script or of ours, raised at the end."""
        if not isinstance(error := sys.exception(), OSError) and error:
            self.trouble.append(error)

    def end(self) -> None:
        self.closing.set()
        self.shutdown()
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # it ended by itself
                    pass
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or small writes wait 40 ms for each other
    server: _Http  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.open.add(self.connection)

    def finish(self) -> None:
        with self.server.lock:
            self.server.open.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        protocol = messages if "anthropic-version" in self.headers else completions
        if self.path.split("?")[0].rstrip("/") != "/v1/models":
            return self._document(404, protocol.error(fails(404, f"There is no {self.path}.")))
        self._document(200, protocol.models(self.server.model, self.server.max_model_len))

    def do_POST(self) -> None:
        begun, told = time.monotonic(), self.server.told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        protocol = PROTOCOLS.get(self.path.split("?")[0])
        if protocol is None:
            return self._document(404, completions.error(fails(404, f"There is no {self.path}.")))
        with self.server.lock:
            number = len(told.requests)
            told.requests.append(body)
            told.headers.append(dict(self.headers))
            told.paths.append(self.path)
            told.spans.append((begun, begun))
        try:
            wrong = broken_rule(self.path, body) if self.server.strict else None
            self._answer(protocol, wrong or self._turn(number, body), body)
        except (_Gone, OSError):
            self.close_connection = True
            if not self.server.closing.is_set():
                told.left.append(number)
        told.spans[number] = (begun, time.monotonic())

    def _turn(self, number: int, body: dict[str, Any]) -> Turn:
        script = self.server.script
        if callable(script):
            return script(body)
        turn = script[min(number, len(script) - 1)]
        return turn() if callable(turn) else turn

    def _answer(self, protocol: Any, turn: Turn, body: dict[str, Any]) -> None:
        match turn:
            case Verbatim():
                self._bytes(turn.status, turn.body, turn.content_type)
            case Failure(anthropic=Failure() as other) if protocol is messages:
                self._document(other.status, protocol.error(other), other.retry_after)
            case Failure():
                self._document(turn.status, protocol.error(turn), turn.retry_after)
            case Reply() if body.get("stream"):
                self._stream(protocol, turn, body)
            case Reply():
                self._whole(protocol, turn, body)

    def _stream(self, protocol: Any, reply: Reply, body: dict[str, Any]) -> None:
        """The events one by one, as far as the turn lets them go."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        stops, sent, pieces = reply.stops, 0, 0
        for part in protocol.stream(reply, body):
            if part.piece and stops and stops.pieces == pieces:
                return self._stop(protocol, reply)
            if part.piece:
                self._wait(reply.between)
            if stops and stops.bytes is not None and sent + len(part.data) > stops.bytes:
                self._chunk(part.data[: stops.bytes - sent])
                return self._stop(protocol, reply)
            self._chunk(part.data)
            sent, pieces = sent + len(part.data), pieces + part.piece
        self._end_of_chunks()

    def _stop(self, protocol: Any, reply: Reply) -> None:
        assert reply.stops
        if reply.stops.how == "stalls":
            self._wait(None)
        if reply.stops.failure:
            self._chunk(protocol.broken(reply.stops.failure).data)
        if reply.stops.how != "cut":
            return self._end_of_chunks()
        self.close_connection = True

    def _whole(self, protocol: Any, reply: Reply, body: dict[str, Any]) -> None:
        """One document. A cut one promises more than it sends; where pieces are counted, half of it comes."""
        if reply.stops and reply.stops.failure:
            return self._document(reply.stops.failure.status, protocol.error(reply.stops.failure))
        data = json.dumps(protocol.whole(reply, body)).encode()
        self._wait(reply.between * reply.pieces)
        if reply.stops is None:
            return self._bytes(200, data)
        self._head(200, len(data))
        if reply.stops.how == "stalls":
            self._wait(None)
        self.wfile.write(data[: len(data) // 2 if reply.stops.bytes is None else reply.stops.bytes])
        self.close_connection = True

    def _document(self, status: int, document: dict[str, Any], retry_after: float | None = None) -> None:
        self._bytes(status, json.dumps(document).encode(), retry_after=retry_after)

    def _bytes(self, status: int, data: bytes, kind: str = "application/json", retry_after: float | None = None):
        self._head(status, len(data), kind, retry_after)
        self.wfile.write(data)

    def _head(self, status: int, length: int, kind: str = "application/json", retry_after: float | None = None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if retry_after is not None:
            self.send_header("Retry-After", f"{retry_after:g}")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _end_of_chunks(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def _wait(self, seconds: float | None) -> None:
        """So long, or (None) until the client goes away. Raises _Gone when it does, and when the server closes."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            if self.server.closing.wait(min(LOOK, rest)) or self._has_gone():
                raise _Gone

    def _has_gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests print what they need."""


@contextmanager
def chat_server(
    script: Script, model: str = "scripted", max_model_len: int | None = None, strict: bool = False
) -> Iterator[ChatServer]:
    """Serve the turns of `script`, one a request, then its last one again and again. A function is called for its turn.

    A script that is one function is called with each request, for a model that reads before it answers.

    Args:
        model: The one that `GET /v1/models` names.
        max_model_len: Its window in tokens, told there as vLLM does.
        strict: Answer 400 to messages that the provider would not take (tests/chat/rules.py) instead of the turn.

    Raises:
        What a function of the script raised, at the end of the `with`.
    """
    http = _Http(script, model, max_model_len, strict)
    threading.Thread(target=http.serve_forever, args=(LOOK,), daemon=True).start()
    try:
        yield http.told
    finally:
        http.end()
    if http.trouble:
        raise http.trouble[0]
