"""A real MCP server for tests: `python tests/mcp_servers.py` over standard input, or with a port over HTTP."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("helper")


class Place(BaseModel):
    """Where something is."""

    city: str
    floors: list[int] = []


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def visit(place: Place, why: str | None = None) -> str:
    """Go to a place."""
    return f"went to {place.city}, {len(place.floors)} floors"


@server.tool()
def environment() -> str:
    """What this process was given."""
    return "\n".join(sorted(f"{name}={value}" for name, value in os.environ.items()))


@server.tool()
def talk(characters: int) -> str:
    """Say much."""
    return "head" + "x" * (characters - 8) + "tail"


@server.tool()
def leak() -> str:
    """Break with a secret in the message."""
    raise ToolError(f"cannot log in with {os.environ.get('SECRET', 'none')}")


@server.tool()
def hang(file: str) -> str:
    """Answer late: in five minutes."""
    Path(file).write_text(str(os.getpid()))
    time.sleep(300)
    return "late"


@server.tool()
def die(file: str) -> str:
    """Be killed at the first call; live at the second."""
    if Path(file).exists():
        return "alive again"
    Path(file).write_text(str(os.getpid()))
    print("I was killed with my secret " + os.environ.get("SECRET", ""), file=sys.stderr, flush=True)
    os._exit(9)


if __name__ == "__main__":
    how: dict[str, Any] = {"transport": "streamable-http", "port": int(sys.argv[1])} if sys.argv[1:] else {}
    server.run(**how)
