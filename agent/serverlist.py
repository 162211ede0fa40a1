"""The MCP servers that a person named in a file: what it says, checked. Starts nothing.

{"mcpServers": {"notes": {"command": "python", "args": ["notes.py"], "env": {"TOKEN": "…"},
                          "effects": {"search": "read", "*": "write"}},
                "far": {"url": "https://…", "headers": {"Authorization": "Bearer …"}}}}
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

EFFECTS = ("read", "write", "spend", "publish")
FIELDS = {"command", "args", "env", "url", "headers", "effects", "type", "disabled"}
SCHEME = re.compile(r"(?i)(?:bearer|basic|token)\s+\S+")
NAMES = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,29}")


class ServerListError(ValueError):
    """The file cannot be used: one sentence."""


@dataclass(frozen=True)
class ServerConfig:
    """One server: a command that talks over its standard input, or an address. Values of env and headers are secrets."""

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    effects: Mapping[str, str] = field(default_factory=dict)  # a tool's own name or "*" -> its effect
    folder: Path = Path()  # where a command runs: the file's own folder

    def effect(self, tool: str) -> str | None:
        """What the person says that a tool does; None when they say nothing."""
        return self.effects.get(tool, self.effects.get("*"))

    def secrets(self) -> dict[str, str]:
        """Every value that must not be shown, by a name. A header's token counts without its "Bearer", too.

        Of an address that is what stands behind its question mark; a secret in its path or in `args` is not known as one.
        """
        given = {f"mcp {self.name} {name}": value for name, value in {**self.env, **self.headers}.items()}
        bare = {f"{name} bare": value.split()[1] for name, value in given.items() if SCHEME.fullmatch(value)}
        query = {f"mcp {self.name} ?{name}": value for name, value in parse_qsl(urlsplit(self.url).query)}
        return {name: value for name, value in (given | bare | query).items() if value}


def read_servers(file: str) -> tuple[ServerConfig, ...]:
    """The servers of a file. Raises ServerListError."""
    path = Path(file).expanduser().resolve()
    try:
        whole = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"no JSON: {str(error)[:100]}"
        raise ServerListError(f"ML_INTERN_MCP_SERVERS names {file}, which cannot be read ({why}).") from None
    servers = whole.get("mcpServers") if isinstance(whole, dict) else None
    if not isinstance(servers, dict):
        raise ServerListError(f'{path} has no object "mcpServers"; write {{"mcpServers": {{"name": {{…}}}}}}.')
    found = [_server(path, name, given) for name, given in servers.items()]
    return tuple(server for server in found if server)


def is_http(url: str) -> bool:
    """Whether it is an address that can be asked over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _server(path: Path, name: str, given: Any) -> ServerConfig | None:
    """One entry; None for one that is switched off."""
    where = f"The MCP server {name!r} in {path}"
    if not NAMES.fullmatch(name):
        raise ServerListError(f"{where} needs another name: up to 30 letters, digits, _ and -, a letter first.")
    if not isinstance(given, dict):
        raise ServerListError(f'{where} is no object; give it a "command" or a "url".')
    if strange := sorted(set(given) - FIELDS):
        raise ServerListError(f"{where} has the unknown field {strange[0]!r}; there are {', '.join(sorted(FIELDS))}.")
    if given.get("disabled"):
        return None
    command, url = given.get("command"), given.get("url")
    if (not command) == (not url) or not isinstance(command or url, str):
        raise ServerListError(f'{where} needs either a "command" or a "url", as text.')
    if url and not is_http(url):
        raise ServerListError(f"{where} has an address that is neither http:// nor https://.")
    args = given.get("args", [])
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise ServerListError(f'{where} has "args" that are no list of texts.')
    effects = _texts(where, given, "effects")
    if bad := next((e for e in effects.values() if e not in EFFECTS), None):
        raise ServerListError(f"{where} gives a tool the effect {bad!r}; there are {', '.join(EFFECTS)}.")
    return ServerConfig(
        name=name,
        command=(command, *args) if command else (),
        env=_texts(where, given, "env"),
        url=url or "",
        headers=_texts(where, given, "headers"),
        effects=effects,
        folder=path.parent,
    )


def _texts(where: str, given: dict[str, Any], name: str) -> dict[str, str]:
    """A field that is an object of texts."""
    found = given.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ServerListError(f'{where} has "{name}" that is no object of texts.')
    return found
