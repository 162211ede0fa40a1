"""The agent. `from agent import Session` is the Python API; importing this alone costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.client import Client
    from agent.managed import Intern
    from agent.session import Session
    from agent.sessions import Request
    from agent.settings import Settings, SettingsError, read_settings

__all__ = ["Client", "Intern", "Request", "Session", "Settings", "SettingsError", "read_settings"]
_WHERE = {
    "Client": "client",
    "Intern": "managed",
    "Request": "sessions",
    "Session": "session",
    "Settings": "settings",
    "SettingsError": "settings",
    "read_settings": "settings",
}


def __getattr__(name: str) -> Any:
    """The API by name, imported when it is first asked for: `python -m agent --help` must not pay for smolagents."""
    if name not in _WHERE:
        raise AttributeError(f"module 'agent' has no attribute {name!r}")
    return getattr(import_module(f"agent.{_WHERE[name]}"), name)
