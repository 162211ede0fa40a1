"""The agent. `from agent import Session` is the Python API; importing this alone costs nothing."""

from typing import Any

__all__ = ["Request", "Session", "Settings", "read_settings"]


def __getattr__(name: str) -> Any:
    """The API by name, imported when it is first asked for: `python -m agent --help` must not pay for smolagents."""
    if name == "Session":
        from agent.session import Session

        return Session
    if name == "Request":
        from agent.sessions import Request

        return Request
    if name in ("Settings", "read_settings"):
        from agent import settings

        return settings.Settings if name == "Settings" else settings.read
    raise AttributeError(f"module 'agent' has no attribute {name!r}")
