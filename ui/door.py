"""The port that the page answers on: take it, or say who has it."""

import socket

import httpx

from agent.settings import Settings, SettingsError

PATIENCE = 5.0  # seconds; another ML Intern that is just starting needs about 3


class AlreadyOpen(Exception):
    """Another ML Intern answers on the port."""


def listen(settings: Settings) -> socket.socket:
    """A listening socket on the settings' host and port.

    Raises:
        AlreadyOpen: One of us is there already.
        SettingsError: Somebody else is there, or the address cannot be used.
    """
    if not 1 <= settings.port <= 65535:
        raise SettingsError(f"The port is {settings.port}; give a whole number from 1 to 65535.")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        if _is_ours(address(settings)):
            raise AlreadyOpen(f"ML Intern is already at {address(settings)}.") from error
        raise SettingsError(
            f"Port {settings.port} of {settings.host} cannot be used ({error.strerror}); choose another with --port."
        ) from error


def address(settings: Settings) -> str:
    """Where a person finds the page on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and host[0] != '[' else host}:{settings.port}"


def _is_ours(at: str) -> bool:
    try:
        return httpx.get(f"{at}/api/health", timeout=PATIENCE).json()["app"] == "ml-intern"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return False
