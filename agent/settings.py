"""The one reader of the environment. Everything else gets what it needs as values."""

import os
import re
import sys
import warnings
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from agent import shroud
from agent.providers import KEYS, SettingsError, default_driver
from agent.serverlist import ServerConfig, is_http, read_servers
from lab.backends.repository import JOB_TOKEN
from lab.confine import guard, landlock
from lab.reach import CLOSED, NETWORK
from recipes.secret import hide_memory

ROOT = Path(__file__).resolve().parent.parent

# Keys of model providers and hubs. They are read once, taken out of our own environment, and given to no subprocess.
KEY_NAMES = (
    *dict.fromkeys(KEYS.values()),
    "HUGGING_FACE_HUB_TOKEN",
    "OAUTH_CLIENT_SECRET",
    "ML_INTERN_API_KEY",
    JOB_TOKEN,
    "ML_INTERN_WEBHOOK",  # whoever knows the address can write there
)
# For us and for trainers: no telemetry, and a Trackio that several processes may write to.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRACKIO_SQLITE_JOURNAL_MODE": "WAL",
    "TRACKIO_SQLITE_LOCKING_MODE": "NORMAL",
}
# Beginnings of the names of file systems without file locks: a mounted bucket's, or another machine's.
NO_LOCKS = ("fuse", "nfs", "cifs", "smb", "9p")
VOLUME, MOUNTS = "/data", "/proc/mounts"  # where a Space has its storage
AT_VOLUME = f"{VOLUME}/ml-intern"
REPOSITORY = "{user}/ml-intern-sessions"  # where each person's sessions are kept
# What a command or a trainer may see of our environment.
JOB_NAMES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_XET", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip


@dataclass(frozen=True)
class Provider:
    """Who signs people in on a Space; its secret is the key OAUTH_CLIENT_SECRET."""

    client: str
    scopes: tuple[str, ...]  # that the Space may ask for
    url: str  # of the OpenID provider, without a slash at its end
    site: str  # where we answer, and where it sends people back to; without a slash at its end


@dataclass(frozen=True)
class Settings:
    """Where things are and which services are there, for one person. Made by `read`; tests make their own.

    On a Space `read` gives those of the whole server, and agent.wallet those of each person.
    """

    home: Path
    person: str = "local"  # whose; "" is nobody
    until: float = inf  # unix seconds at which the person's keys end
    scopes: tuple[str, ...] | None = None  # of their sign-in; None where a token of their own acts
    shared: Path | None = None  # the home of the whole server, where `home` is one person's part of it
    others: tuple[str, ...] = field(default=(), repr=False)  # secrets of others: never used, and never shown
    host: str = "127.0.0.1"
    port: int = 7860
    driver: str = "autopilot"  # the brain of new sessions
    fallback: str | None = None  # the brain that takes over when the driver cannot be asked
    scout_driver: str | None = None  # the brain of scouts; None is the session's own
    api_base: str | None = None  # an OpenAI-compatible server for every model
    window: int | None = None  # tokens of a request; None asks the server and litellm
    prices: tuple[float, float] | None = None  # dollars for a million tokens, in and out; None asks litellm
    machine_price: float = 0.0  # dollars an hour of this machine, for jobs on it
    disk: int | None = None  # bytes of a session's folder; None: half of what it has and could have (lab.disk)
    patience: float = 300.0  # seconds without a word after which an answer counts as cut
    # the person's secrets by name: none is ever shown
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    job_env: dict[str, str] = field(default_factory=dict, repr=False)
    mcp: bool = False  # whether other agents may start sessions here
    space: str | None = None  # owner/name when we run as a Space
    oauth: Provider | None = None
    servers: tuple[ServerConfig, ...] = ()  # MCP servers whose tools a session gets
    url: str | None = None  # where people find the page, for links in messages
    # what keeps sessions: a dataset repository, with "{user}" for its owner, or the whole path of a folder; "" is nothing
    mirror: str = ""

    @property
    def guard(self) -> str:
        """What keeps commands and trainers in, in one sentence for a person."""
        return guard(landlock(), NETWORK in self.job_env)

    @property
    def sessions(self) -> Path:
        return self.home / "sessions"

    @property
    def queue(self) -> Path:
        """Who has the machine: one queue for all people."""
        return (self.shared or self.home) / "queue"

    @property
    def shelf(self) -> Path | None:
        """The folder that keeps sessions; None where the Hub does, or nothing."""
        return Path(self.mirror) if self.mirror.startswith("/") else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret that we know."""
        return (*self.keys.values(), *self.others)

    @property
    def owner(self) -> str:
        """Whose Space it is; "" where it is none."""
        return (self.space or "").partition("/")[0]

    @property
    def vault(self) -> Path:
        """Held-out items: outside every workspace."""
        return self.home / "vault"


def read(environ: dict[str, str] | None = None) -> Settings:
    """Settings from the environment (of this process, unless given).

    Raises:
        SettingsError: A value cannot be used.
    """
    env = dict(os.environ) if environ is None else dict(environ)
    home = Path(env.get("ML_INTERN_HOME") or _default_home(env)).expanduser().resolve()
    job_env = {name: env[name] for name in JOB_NAMES if name in env}
    job_env |= QUIET | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TRACKIO_DIR": str(home / "trackio"),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin cost seven times the speed when anything else runs
        "PATH": f"{Path(sys.executable).parent}:{env.get('PATH', '/usr/bin:/bin')}",
    }
    if _closed(env):
        job_env[NETWORK] = CLOSED
    keys = {name: key for name in KEY_NAMES if (key := env.get(name, "").strip())}  # a line's end is pasted along
    api_base = env.get("ML_INTERN_API_BASE") or None
    _check_webhook(keys.get("ML_INTERN_WEBHOOK"))
    if JOB_TOKEN in keys and keys[JOB_TOKEN] == keys.get("HF_TOKEN"):
        raise SettingsError(f"{JOB_TOKEN} is your HF_TOKEN, which no machine gets; make one for jobs alone.")
    servers = read_servers(file) if (file := env.get("ML_INTERN_MCP_SERVERS")) else ()
    for server in servers:
        keys |= server.secrets()
    site = _site(env)
    oauth = _provider(env, site)
    return Settings(
        home=home,
        host=env.get("ML_INTERN_HOST") or ("0.0.0.0" if env.get("SPACE_ID") else "127.0.0.1"),
        port=_number(env, "ML_INTERN_PORT", 7860, 1, 65535),
        driver=env.get("ML_INTERN_MODEL") or ("autopilot" if api_base else default_driver(keys)),
        fallback=env.get("ML_INTERN_FALLBACK_MODEL") or None,
        scout_driver=env.get("ML_INTERN_SCOUT_MODEL") or None,
        api_base=api_base,
        window=_number(env, "ML_INTERN_WINDOW", 0, 2_000, 10_000_000) or None,
        prices=_prices(env),
        machine_price=_dollars(env, "ML_INTERN_MACHINE_PRICE"),
        disk=_number(env, "ML_INTERN_DISK", 0, 1, 1_000_000) * 10**9 or None,
        patience=float(_number(env, "ML_INTERN_PATIENCE", 300, 5, 3600)),
        keys=keys,
        job_env=job_env,
        mcp=env.get("ML_INTERN_MCP") == "1",
        space=env.get("SPACE_ID"),
        oauth=oauth,
        servers=servers,
        url=env.get("ML_INTERN_URL") or site or None,
        mirror=_mirror(env, home, alone=oauth is None, mounts=Path(MOUNTS).read_text() if env.get("SPACE_ID") else ""),
    )


def read_settings(environ: dict[str, str] | None = None) -> Settings:
    """The same for a program that imports us. Its keys stay in its environment; what a session starts gets none of them.

    Raises:
        SettingsError: A value cannot be used.
    """
    quiet_libraries()
    return read(environ)


def take_keys_out() -> None:
    """Remove every key from this process's environment, so that no child inherits one and no /proc reader finds one."""
    for name in KEY_NAMES:
        os.environ.pop(name, None)
    shroud.wipe(KEY_NAMES)
    hide_memory()


def quiet_libraries() -> None:
    """Set what gradio, litellm, trackio and the Hub client read at import: no telemetry, no price download, WAL."""
    if os.environ.get("SPACE_ID"):
        os.environ.setdefault("SYSTEM", "spaces")  # gradio asks for it where Docker Spaces do not set it
    ours = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # they would stand between the lines of what is said
    }
    for name, value in (QUIET | ours).items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", "Cannot enable progress bars")  # the Hub's client wants them back after each sync
    warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")  # curves, into their Space


def _default_home(env: dict[str, str]) -> str:
    """A Space keeps its sessions on a disk at /data where there is one; a person in their home."""
    if env.get("SPACE_ID") and os.access(VOLUME, os.W_OK) and is_disk(VOLUME, Path(MOUNTS).read_text()):
        return AT_VOLUME
    return str(Path(env.get("HOME") or Path.home()) / ".ml-intern")


def _site(env: dict[str, str]) -> str:
    """A Space's own address; "" where it is none. A custom domain comes second: the Hub knows the first."""
    host = env.get("SPACE_HOST", "").split(",")[0].strip()
    return f"https://{host}" if host else ""


def _provider(env: dict[str, str], site: str) -> Provider | None:
    """What the Hub tells a Space whose README says `hf_oauth: true`."""
    if not (env.get("SPACE_ID") and env.get("OAUTH_CLIENT_ID") and env.get("OAUTH_CLIENT_SECRET")):
        return None
    url = env.get("OPENID_PROVIDER_URL") or "https://huggingface.co"
    if not (site := site or env.get("ML_INTERN_URL", "")):
        raise SettingsError("People sign in here, and SPACE_HOST is not set; set ML_INTERN_URL to the page's address.")
    scopes = tuple(env.get("OAUTH_SCOPES", "").split())
    return Provider(env["OAUTH_CLIENT_ID"], scopes, url.rstrip("/"), site.rstrip("/"))


def is_disk(folder: str, mounts: str) -> bool:
    """Whether a folder lies on a disk of this machine, by the text of /proc/mounts.

    A mounted bucket (FUSE or NFS) knows no file locks: our logs could not be appended, and sqlite would break on it.
    """
    _, kind, _ = _mount(folder, mounts)
    return bool(kind) and not kind.startswith(NO_LOCKS)


def is_bucket(folder: str, mounts: str) -> bool:
    """Whether something without file locks is mounted there, to write in, by the text of /proc/mounts."""
    point, kind, options = _mount(folder, mounts)
    return point == folder and kind.startswith(NO_LOCKS) and "rw" in options.split(",")


def _mount(folder: str, mounts: str) -> tuple[str, str, str]:
    """Where a folder is mounted, as which file system, and its options; of several at one place the last is seen."""
    found = ("", "", "")
    for _, point, kind, options, *_ in map(str.split, mounts.splitlines()):
        if f"{folder}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(found[0]):
            found = point, kind, options
    return found


def _prices(env: dict[str, str]) -> tuple[float, float] | None:
    """Dollars for a million tokens in and out, written like 0.5,2."""
    text = env.get("ML_INTERN_PRICES")
    if not text:
        return None
    try:
        dollars_in, dollars_out = (float(part) for part in text.split(","))
    except ValueError:
        dollars_in = dollars_out = inf
    if not (0 <= dollars_in < 1e6 and 0 <= dollars_out < 1e6):
        hint = "write dollars for a million tokens in and out, e.g. 0.5,2"
        raise SettingsError(f"ML_INTERN_PRICES is {text!r}; {hint}.")
    return dollars_in, dollars_out


def _dollars(env: dict[str, str], name: str) -> float:
    try:
        dollars = float(env.get(name) or 0)
    except ValueError:
        dollars = inf
    if not 0 <= dollars < 1e6:
        raise SettingsError(f"{name} is {env[name]!r}; set it to dollars an hour, e.g. 0.4.")
    return dollars


def _closed(env: dict[str, str]) -> bool:
    """Whether commands and trainers are kept off the network."""
    said = env.get(NETWORK) or "web"
    if said not in ("web", CLOSED):
        raise SettingsError(
            f"{NETWORK} is {said!r}; set it to web or {CLOSED}: what commands and trainers may connect to."
        )
    return said == CLOSED


def _mirror(env: dict[str, str], home: Path, alone: bool, mounts: str) -> str:
    """On in a Space, whose disk may be wiped: in its owner's bucket, where there is one. A folder is never for anybody else.

    Elsewhere nobody expects an upload who has not asked for it.
    """
    said, space = env.get("ML_INTERN_MIRROR"), bool(env.get("SPACE_ID"))
    if not said and space and is_bucket(VOLUME, mounts):
        said = AT_VOLUME
    said = said or ("on" if space else "off")
    name = {"on": REPOSITORY, "off": ""}.get(said.lower(), said)
    if said.startswith("/"):
        name = os.path.normpath(said)  # whether it is there, a mount may say tomorrow: see record.shelf
        if any(Path(name).is_relative_to(ours) for ours in (home, ROOT)):
            raise SettingsError(f"ML_INTERN_MIRROR is {said!r}; name a folder outside ML_INTERN_HOME ({home}).")
    elif not re.fullmatch(r"(([\w.-]+|\{user\})/)?[\w.-]+|", name):
        hint = "set it to off, on, the name of a dataset repository, or the whole path of a folder"
        raise SettingsError(f"ML_INTERN_MIRROR is {said!r}; {hint}.")
    if not alone and "/" in name and "{user}" not in name and not name.startswith("/"):
        raise SettingsError(
            f"ML_INTERN_MIRROR is {said!r}, one for everybody who signs in; write {{user}} for its owner."
        )
    return name


def _check_webhook(url: str | None) -> None:
    """Raise SettingsError for an address that cannot be posted to. It is a secret: the sentence does not show it."""
    if url and not is_http(url):
        raise SettingsError("ML_INTERN_WEBHOOK is no address; set it to one that begins with https:// or http://.")


def _number(env: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    if not env.get(name):
        return default
    text = env[name]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SettingsError(f"{name} is {text!r}; set it to a whole number from {low} to {high}.")
    return int(text)
