"""What a command or a trainer may reach: the rules of its launcher (lab.confine), and the environment to go with them.

It may read the system, Python, our code and what its session was given; write its own folder and the caches of models
and data; connect to the web, unless its environment closes that. The home of the person is not for it, nor what lies in ours: it gets a home of its own.
"""

import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from lab import confine

PEOPLE = "people"  # the folder of a server's home with a part for each person, where several share it
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/proc", "/sys",
    "/run/systemd/resolve", "/var/lib/dpkg", "/var/cache/fontconfig",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent
SECRET = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssh", "/etc/ssl/private", ROOT / ".env")
OF_A_PERSON = (".ssh", ".aws", ".config", ".netrc", ".git-credentials", ".docker", ".kube", ".gnupg", ".ml-intern")
CACHES = ("hub", "datasets", "xet", "assets", "modules")  # of HF_HOME; the person's token lies beside them
PORTS = (29400, *range(29500, 29516))  # torchrun's own
WEB = (53, 80, 443)  # and DNS
NETWORK, CLOSED = "ML_INTERN_NETWORK", "none"  # what an environment says where the web is not for it
LONGEST = 74  # bytes: a socket's path has 107, multiprocessing adds /pymp-xxxxxxxx/listener-xxxxxxxx
LISTS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
SINGLE = ("CUDA_HOME", "VIRTUAL_ENV", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HF_HOME")


class Reach:
    """What the commands of one session, or a trainer of its, may reach."""

    def __init__(self, session: Path, env: Mapping[str, str], abi: int | None = None):
        """`session` is HOME/sessions/ID, HOME the person's; `abi` the newest Landlock to use, None the kernel's, 0 none."""
        self._session = session.resolve()
        self._home = self._session.parent.parent
        self._whole = self._home.parent.parent if self._home.parent.name == PEOPLE else self._home
        self._person = Path(env.get("HOME") or Path.home())
        self._env = dict(env)
        self._env.setdefault("HF_HOME", str(self._person / ".cache" / "huggingface"))
        self._abi = confine.landlock() if abi is None else abi
        self._closed = env.get(NETWORK) == CLOSED
        if self._closed:  # what it needs of the Hub lies on the disk: it must not wait for an answer
            self._env["HF_HUB_OFFLINE"] = "1"
        self._system: list[Path] | None = None

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of what runs in this folder. Makes the folders that it names. Raises OSError."""
        own = {"HOME": folder / ".home", "TMPDIR": scratch(folder), "HF_TOKEN_PATH": folder / ".home" / "token"}
        for made in (own["HOME"], own["TMPDIR"]):
            made.mkdir(mode=0o700, exist_ok=True)
            if made.is_symlink() or made.stat().st_uid != os.geteuid():
                raise OSError(errno.EPERM, "it is a link, or not ours", str(made))
        for cache in self._caches():
            with suppress(OSError):  # one that others keep, and we may only read
                cache.mkdir(parents=True, exist_ok=True)
        return self._env | {name: str(path) for name, path in own.items()}

    def command(self, root: Path, reads: Iterable[Path]) -> list[str]:
        """The launcher of a shell command in the workspace `root`. It may read the session's jobs, but no evaluation."""
        jobs = [job for job in self._session.glob("jobs/*") if not job.name.startswith("evaluate")]
        return self._launcher(["--watch"], [*jobs, *reads], [root])

    def trainer(self, folder: Path, reads: Iterable[Path]) -> list[str]:
        """The launcher of a trainer with this job folder. It becomes the trainer, whose pid stays."""
        curves = [Path(self._env["TRACKIO_DIR"])] if "TRACKIO_DIR" in self._env else []
        for made in curves:  # a trainer may write in it, and not beside it
            made.mkdir(parents=True, exist_ok=True)
        return self._launcher([], reads, [folder, *curves])

    def _launcher(self, flags: list[str], reads: Iterable[Path], writes: list[Path]) -> list[str]:
        if self._system is None:
            self._system = self._readable()
        given = [path.resolve() for path in reads if self._may_give(path)]
        rules = [f"r{path}" for path in (*self._system, *given)] + [
            f"w{path}" for path in (*writes, scratch(writes[0]), *self._caches())
        ]
        hub = self._env.get("HF_ENDPOINT", "").rstrip("/").rpartition(":")[2]
        web = () if self._closed else (*WEB, *([hub] if hub.isdigit() else []))
        rules += [f"p{port}" for port in (*PORTS, *web)]
        start = f"import sys; sys.path.append({str(ROOT / 'lab')!r}); import confine; confine.main()"
        return [sys.executable, "-I", "-S", "-c", start, *flags, f"--abi={self._abi}", *rules, "--"]

    def _may_give(self, path: Path) -> bool:
        """Whether a path of this session's files stays with them: there may be a link. Others are a person's, or ours;
        those of other people are given to nobody."""
        own, real = (self._session / "jobs", self._session / "workspace"), path.resolve()
        if real.is_relative_to(self._whole) and not real.is_relative_to(self._home):
            return False
        return not path.is_relative_to(self._session) or any(real.is_relative_to(folder) for folder in own)

    def _caches(self) -> list[Path]:
        return [Path(self._env["HF_HOME"], name) for name in CACHES]

    def _readable(self) -> list[Path]:
        """What everything may read."""
        token = [Path(self._env["HF_HOME"], name) for name in ("token", "stored_tokens")]
        secret = [self._whole, *map(Path, SECRET), *(self._person / name for name in OF_A_PERSON), *token]
        listed = [path for name in LISTS for path in self._env.get(name, "").split(":")]
        single = [self._env.get(name, "") for name in SINGLE]
        wanted = [*SYSTEM, ROOT, sys.prefix, sys.base_prefix, *single, *listed]
        places = {Path(path).resolve() for path in wanted if os.path.isabs(path)} - {Path("/"), self._person.resolve()}
        hidden = {path.resolve() for path in secret if os.access(path, os.R_OK)}
        found: list[Path] = []
        for place in sorted(places):  # a folder comes before what lies in it
            if not any(place.is_relative_to(other) for other in found):
                found += _around(place, hidden)
        return found


def scratch(folder: Path) -> Path:
    """Where what runs in this folder keeps scratch files: in it, unless multiprocessing's sockets got too long a name."""
    inside = folder / ".tmp"
    if len(bytes(inside)) <= LONGEST:
        return inside
    return Path(tempfile.gettempdir(), f"ml-intern-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}")


def _around(place: Path, hidden: set[Path]) -> list[Path]:
    """The place; where something hidden lies in it, all that lies around that."""
    if place in hidden or any(parent in hidden for parent in place.parents):
        return []
    if not any(place in path.parents for path in hidden):
        return [place]
    below = {path.resolve() for path in place.iterdir() if os.access(path, os.R_OK)}
    return [path for real in below if not place.is_relative_to(real) for path in _around(real, hidden)]  # no circles
