"""The page's verbs as tools of the Model Context Protocol, for other agents. Off unless ML_INTERN_MCP=1, and on a Space.

Served at /mcp by the protocol's own library. Gradio 6.31 has a server of its own, but for mcp below 2, and litellm wants
2.2 or newer: both cannot be. The docstrings are what the other agent reads.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from fastapi import FastAPI

from agent.sessions import Request, find, open_session
from agent.settings import Settings, SettingsError
from agent.steering import halt
from record.journal import Journal
from record.log import LogError
from record.report import report
from ui.shelf import state

PATH = "/mcp"


def serve(app: FastAPI, settings: Settings) -> None:
    """Add the protocol's endpoint to the app; its sessions live as long as the app's lifespan."""
    from mcp.server import MCPServer  # 0.4 s that a page without it need not wait for
    from mcp.server.transport_security import TransportSecuritySettings

    server = MCPServer("ML Intern", instructions="Starts research sessions that make small language models better.")
    for tool in tools(settings):
        server.add_tool(_told(tool))
    # hosts and origins are the Guard's; stateless, so that a restart of ours breaks no client
    inner = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        json_response=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.router.routes.extend(inner.routes)
    outer = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(whole: FastAPI) -> AsyncIterator[Any]:
        async with outer(whole) as state, server.session_manager.run():
            yield state

    app.router.lifespan_context = lifespan


def _told(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The same tool; what it refuses reaches the other agent as our sentence."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return tool(*args, **kwargs)
        except (SettingsError, LogError) as error:
            raise ToolError(str(error)) from error

    return answer


def tools(settings: Settings) -> list[Callable[..., Any]]:
    """What another agent may do here. A refusal reaches it as one sentence."""

    def start_session(
        text: str, task: str = "chains", model: str = "starter", target: float = 0.9, hours: float = 1.0
    ) -> dict[str, Any]:
        """Start a session that makes a small model better at a task, and return its id at once.

        Args:
            text: What is wanted, in words.
            task: What to measure: chains, lists, gym:<family>, or table:<file>.
            model: A model's folder, a Hub id, or starter.
            target: The accuracy to reach on held-out items, above 0 and up to 1.
            hours: The wall clock that it may take.
        """
        asked = Request(text=text, task=task, model=model, target=target, hours=hours)
        return {"session": open_session(settings, asked)}

    def session_status(session: str) -> dict[str, Any]:
        """Where a session stands: its state, plan, jobs, scores with intervals, and what waits for a person.

        Args:
            session: The id that start_session returned.
        """
        return state(Journal(find(settings, session)))

    def session_results(session: str) -> str:
        """The report of a session as Markdown, made from its log now: every number comes from a sealed evaluation.

        Args:
            session: The id that start_session returned.
        """
        return report(find(settings, session))

    def stop_session(session: str) -> dict[str, Any]:
        """Stop a session; its jobs save and end.

        Args:
            session: The id that start_session returned.
        """
        log = find(settings, session)
        if log.path.parent.name != session:
            raise SettingsError(f"{session!r} is the beginning of an id; give the whole id to stop a session.")
        halt(log, by="mcp")
        return {"ok": True}

    return [start_session, session_status, session_results, stop_session]
