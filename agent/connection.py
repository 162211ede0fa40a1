"""One connection to one MCP server: made when it is needed, made again after it broke. Runs on an event loop."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TextIO

from agent.serverlist import ServerConfig

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

# What a server's process may see of our environment, besides what the person wrote for it.
ENV_NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
MOST_PAGES = 20  # of a list of tools
# PR_SET_PDEATHSIG is 1 and SIGKILL 9: a server that does not read its input dies with us all the same.
LEASH = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"
HTTP_S = 30.0  # seconds to connect and to send
STREAM_S = 300.0  # seconds of silence on a stream
LAST_WORDS = 300  # characters
MOST_WORDS = 2**20  # bytes of a server's error output before it begins anew


class Connection:
    """For one event loop: everything but the constructor, `drop` and `last_words` is to be awaited there."""

    def __init__(self, config: ServerConfig, env: Mapping[str, str]):
        self.config = config
        self.name = config.name
        self._env = {name: env[name] for name in ENV_NAMES if name in env} | config.env
        self._client: asyncio.Future[Client] | None = None
        self._life: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._dropped = False
        self._words: TextIO | None = None  # the process's error output

    async def tools(self) -> list["Tool"]:
        """Every tool that the server names."""
        client, found, cursor = await self._connected(), [], None
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def call(self, tool: str, arguments: dict[str, Any], seconds: float) -> "CallToolResult":
        """One call, on a new connection where the last one is gone."""
        client = await self._connected()
        if self._words and os.fstat(self._words.fileno()).st_size > MOST_WORDS:
            self._words.truncate(0)
            os.lseek(self._words.fileno(), 0, os.SEEK_SET)  # the process writes through the same offset
        return await client.call_tool(tool, arguments, read_timeout_seconds=seconds)

    def drop(self) -> None:
        """Use this connection no more. From any thread."""
        self._dropped = True

    def last_words(self) -> str:
        """The end of what the process wrote to its error output, for a person to read. From any thread."""
        if self._words is None or self._words.closed:
            return ""
        size = os.fstat(self._words.fileno()).st_size
        said = os.pread(self._words.fileno(), LAST_WORDS, max(0, size - LAST_WORDS)).decode(errors="replace").strip()
        return f"; its last words: {said}" if said else ""

    async def close(self) -> None:
        """End it, and its process with it."""
        if self._life:
            self._leave.set()
            if not (self._client and self._client.done()):
                self._life.cancel()  # it is still at its greeting
            await asyncio.gather(self._life, return_exceptions=True)
            self._life = self._client = None
        if self._words:
            self._words.close()

    async def _connected(self) -> "Client":
        if self._dropped or (self._life and self._life.done()):
            await self.close()
        if self._life is None or self._client is None:
            self._dropped, self._leave = False, asyncio.Event()
            self._client = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._client))
        await asyncio.wait([self._life, self._client], return_when=asyncio.FIRST_COMPLETED)
        if not self._client.done():
            await self._life  # raises what went wrong
        return self._client.result()

    async def _live(self, there: "asyncio.Future[Client]") -> None:
        """Hold the connection in one task: its library wants it left where it was entered."""
        from mcp import Client  # 0.5 s that a session without servers need not wait for

        async with AsyncExitStack() as stack:
            server = await self._far(stack) if self.config.url else self._near()
            there.set_result(await stack.enter_async_context(Client(server, cache=None)))
            await self._leave.wait()

    async def _far(self, stack: AsyncExitStack) -> Any:
        """A transport to an address, with the person's headers and none of ours."""
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        patience = httpx2.Timeout(HTTP_S, read=STREAM_S)
        http = httpx2.AsyncClient(headers=self.config.headers, timeout=patience)
        return streamable_http_client(self.config.url or "", http_client=await stack.enter_async_context(http))

    def _near(self) -> Any:
        """A transport to a process of our own."""
        from mcp.client.stdio import StdioServerParameters, stdio_client

        program = self.config.command or ""
        found = shutil.which(program, path=self._env.get("PATH"))
        if found is None:
            raise FileNotFoundError(f"there is no program {program!r}")
        command = [found, *self.config.args]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LEASH, *command]
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the connection)
        process = StdioServerParameters(command=command[0], args=command[1:], env=self._env, cwd=self.config.folder)
        return stdio_client(process, errlog=self._words)
