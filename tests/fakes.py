"""Small honest programs that stand in for what cannot be reached: a chat-completions server that reads from a script."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Turn = dict[str, Any] | tuple[int, dict[str, Any]]


@dataclass
class ChatServer:
    """What the server was asked, in order, and where it is."""

    base: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def says(text: str = "", *calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A turn of the script: an assistant message with calls."""
    made = [
        {"id": f"t{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for i, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text} | ({"tool_calls": made} if made else {})
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if made else "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


def fails(status: int, text: str) -> tuple[int, dict[str, Any]]:
    """A turn of the script: an HTTP error in the protocol's shape."""
    return status, {"error": {"message": text, "type": "error", "code": status}}


@contextmanager
def chat_server(script: Sequence[Turn | Callable[[], Turn]]) -> Iterator[ChatServer]:
    """Serve the turns of `script`, one a request, then its last one again and again. A function is called for its turn."""
    server = ChatServer("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            turn = script[min(len(server.requests), len(script) - 1)]
            server.requests.append(body)
            server.headers.append(dict(self.headers))
            turn = turn() if callable(turn) else turn
            status, answer = turn if isinstance(turn, tuple) else (200, turn)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print what they need."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.base = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
