"""The MCP servers that a person named in a file: what it says, checked. Starts nothing.

{"mcpServers": {"notes": {"command": "python", "args": ["notes.py"], "env": {"TOKEN": "…"},
                          "effects": {"search": "read", "*": "write"}},
                "far": {"url": "https://…", "headers": {"Authorization": "Bearer …"}}}}
"""

import json
import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.providers import SettingsError

EFFECTS = ("read", "write", "spend", "publish")
OURS = ("name", "folder")  # fields that the entry itself does not have
SCHEME = re.compile(r"(?i)(?:bearer|basic|token)\s+\S+")


class ServerConfig(BaseModel):
    """One server: a command that talks over its standard input, or an address. Values of env and headers are secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,29}$")
    folder: Path  # where a command runs: the file's own folder
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field({}, repr=False)
    url: str | None = None
    headers: dict[str, str] = Field({}, repr=False)
    effects: dict[str, str] = {}  # a tool's own name or "*" -> its effect
    type: str | None = None  # which other programs' files say; whether there is an address tells it
    disabled: bool = False

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if bad := next((effect for effect in self.effects.values() if effect not in EFFECTS), None):
            raise ValueError(f"a tool has the effect {bad!r}; there are {', '.join(EFFECTS)}")
        if not self.disabled and bool(self.command) == bool(self.url):
            raise ValueError('it needs either a "command" or a "url"')
        if self.url and not is_http(self.url):
            raise ValueError("its address is neither http:// nor https://")
        return self

    def effect(self, tool: str) -> str | None:
        """What the person says that a tool does; None when they say nothing."""
        return self.effects.get(tool, self.effects.get("*"))

    def secrets(self) -> dict[str, str]:
        """Every value that must not be shown, by a name. A header's token counts without its "Bearer", too.

        Of an address that is what stands behind its question mark; a secret in its path or in `args` is not known as one.
        """
        given = {f"mcp {self.name} {name}": value for name, value in {**self.env, **self.headers}.items()}
        bare = {f"{name} bare": value.split()[1] for name, value in given.items() if SCHEME.fullmatch(value)}
        query = {f"mcp {self.name} ?{name}": value for name, value in parse_qsl(urlsplit(self.url or "").query)}
        return {name: value for name, value in (given | bare | query).items() if value}


def read_servers(file: str) -> tuple[ServerConfig, ...]:
    """The servers of a file, without those that are switched off. Raises SettingsError."""
    path = Path(file).expanduser().resolve()
    try:
        whole = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"no JSON: {str(error)[:100]}"
        raise SettingsError(f"ML_INTERN_MCP_SERVERS names {file}, which cannot be read ({why}).") from None
    servers = whole.get("mcpServers") if isinstance(whole, dict) else None
    if not isinstance(servers, dict):
        raise SettingsError(f'{path} has no object "mcpServers"; write {{"mcpServers": {{"name": {{…}}}}}}.')
    found = [_server(path, name, given) for name, given in servers.items()]
    return tuple(server for server in found if not server.disabled)


def is_http(url: str) -> bool:
    """Whether it is an address that can be asked over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _server(path: Path, name: str, given: Any) -> ServerConfig:
    """One entry. What is said of a wrong one never shows a value, which may be a secret, but an effect's."""
    fields = sorted(set(ServerConfig.model_fields) - set(OURS))
    where = f"The MCP server {name!r} in {path} cannot be used"
    if not isinstance(given, dict) or set(given) & set(OURS):
        raise SettingsError(f"{where}; give it an object of {', '.join(fields)}.")
    try:
        return ServerConfig.model_validate({**given, "name": name, "folder": path.parent})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        what = ": ".join([*(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")])
        raise SettingsError(f"{where} ({what}); its fields are {', '.join(fields)}.") from None
