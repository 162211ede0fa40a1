"""Keep a person's sessions in their dataset repository on the Hub, or in a folder, from this process (see record.mirror).

On in a Space that has a token or a bucket, elsewhere where ML_INTERN_MIRROR says so. Nothing else is sent.
"""

import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any, TypeVar

from agent.kept import STATE, TOKEN, lacking
from agent.sessions import not_theirs
from agent.settings import AT_VOLUME, VOLUME, Settings, SettingsError
from lab.backend import write_json
from lab.hub import client
from record.mirror import Mirror, Pace
from record.pull import Pulled, pull
from record.redact import redact_tree
from record.remote import Remote, Trouble, told
from record.shelf import Place, Shelf

Done = TypeVar("Done")
LOOK = 1.0  # seconds
FAREWELL = 30.0  # seconds that a command waits at its end for the last snapshot
SCRATCH = "mirror"  # in the home


class Mirroring:
    """The mirror of a home in a thread of its own. One process at a time has it; the others wait for their turn."""

    def __init__(self, settings: Settings, pace: Pace | None = None):
        self._settings, self._pace = settings, pace or Pace()
        self._until = 0.0  # on the monotonic clock, once it has been told to stop
        self._told: dict[str, Any] = {}
        self._remote: Place | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = float("-inf")

    def start(self) -> None:
        """Fetch what is not here, and then keep the mirror. Does nothing where it is off."""
        if self._settings.mirror and (why := lacking(self._settings)):
            logging.getLogger(__name__).warning("nothing is mirrored yet: %s", why)
        self.renew(self._settings)

    def renew(self, settings: Settings) -> None:
        """Go on with the token that the person has now; start, if it is the first."""
        self._settings = settings
        if lacking(settings):
            return
        if isinstance(self._remote, Remote):
            self._remote.renew(settings.keys[TOKEN])
        rested = time.monotonic() > self._started + self._pace.longest  # one that has died is not begun at once again
        if not (self._thread and self._thread.is_alive()) and rested and not self._stop.is_set():
            self._started = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
            self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what is left, for so long at most."""
        self._until = time.monotonic() + seconds
        self._stop.set()
        if self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        scratch = self._settings.home / SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        with open(scratch.with_suffix(".lock"), "w") as lock:
            while not _taken(lock):  # it is another process's turn
                if self._stop.wait(LOOK):
                    return
            shutil.rmtree(scratch, ignore_errors=True)
            if remote := self._insist(lambda: connect(self._settings), self._tell):
                self._keep(remote, machine(self._settings))

    def _keep(self, remote: Place, us: str) -> None:
        self._remote = remote
        threading.Thread(target=self._fetch, args=(remote, us), name="mirror-pull", daemon=True).start()
        mirror = Mirror(remote, self._settings.sessions, us, self._pace)
        while not self._stop.wait(min(LOOK, self._pace.every)):
            mirror.look()
            self._tell(mirror.state)
        while time.monotonic() < self._until and not mirror.look(hurry=True):
            time.sleep(min(0.2, self._pace.gap))
        self._tell(mirror.state)

    def _tell(self, state: dict[str, Any]) -> None:
        """Leave what people are told in a file, for the page and the command line (see agent.kept): we alone write it."""
        if state != self._told:
            self._told = state
            with suppress(OSError):
                write_json(self._settings.home / STATE, redact_tree(state, self._settings.secrets))

    def _fetch(self, remote: Place, us: str) -> None:
        """Fetch what is not here, and look again while a session's owner may be gone; what is here need not wait for it."""
        said: dict[str, str] = {}
        refusal = partial(not_theirs, self._settings)
        ask = partial(pull, remote, self._settings.sessions, us, dead=self._pace.dead, refusal=refusal)
        while pulled := self._insist(ask):
            for name in pulled.left.keys() - said.keys():
                logging.getLogger(__name__).warning("session %s was not fetched: %s", name, pulled.left[name])
            said |= pulled.left
            if not pulled.leased or self._stop.wait(self._pace.dead):
                return

    def _insist(self, work: Callable[[], Done], tell: Callable[[dict[str, Any]], None] = lambda _: None) -> Done | None:
        """Try until it is done; None where there is no time left."""
        wait = self._pace.first
        while not self._stop.is_set():
            try:
                return work()
            except (Trouble, OSError) as error:
                rest = max(wait, error.wait_s if isinstance(error, Trouble) else 0.0)
                logging.getLogger(__name__).warning("the mirror waits %.0f s: %s", rest, error)
                tell({"why": str(error), "again": time.time() + rest})
                self._stop.wait(rest)
                wait = min(self._pace.longest, 2 * wait)
        return None


def connect(settings: Settings, scratch: str = SCRATCH) -> Place:
    """A person's repository, or folder. Raises Trouble."""
    if settings.shelf and (settings.mirror != AT_VOLUME or TOKEN not in settings.keys):
        return Shelf(settings.shelf, settings.home / scratch)
    api = client(settings.keys[TOKEN], settings.job_env)
    if settings.shelf:
        _look_at_bucket(api, settings)
        return Shelf(settings.shelf, settings.home / scratch)
    repo = settings.mirror
    with told():
        user = api.whoami()["name"] if "{user}" in repo or "/" not in repo else ""
    # the token of an organization's Space is one member's: the sessions in their repository are nobody else's
    if settings.oauth and user not in ("", settings.person):
        raise Trouble(f"the HF_TOKEN is of {user}, and not of {settings.person}")
    repo = repo.replace("{user}", user) if "/" in repo else f"{user}/{repo}"
    return Remote(api, repo, settings.home / scratch)


def _look_at_bucket(api: Any, settings: Settings) -> None:
    """Raise Trouble unless the bucket that is mounted in our Space, and that nobody has named, is private."""
    anyway = "to keep sessions there all the same, set ML_INTERN_MIRROR to another folder of it"
    try:
        with told():
            volumes = api.get_space_runtime(settings.space).volumes or []
            mounted = [volume.source for volume in volumes if volume.mount_path == VOLUME and volume.type == "bucket"]
            public = [bucket for bucket in mounted if not api.bucket_info(bucket).private]
    except Trouble as trouble:
        why = f"whether the bucket at {VOLUME} is private is not known ({trouble}); {anyway}"
        raise Trouble(why, trouble.wait_s, trouble.person) from trouble
    if public:
        raise Trouble(f"the bucket {public[0]} is public, and sessions are not: make it private; {anyway}", person=True)


def fetch(settings: Settings, wanted: str = "") -> Pulled:
    """Fetch a person's sessions that are not here. Raises SettingsError."""
    if lacking(settings):
        what = "HF_TOKEN is not set" if settings.mirror else "The mirror is off"
        hint = "set HF_TOKEN, and ML_INTERN_MIRROR to on or to the name of a dataset repository; or ML_INTERN_MIRROR to a folder"
        raise SettingsError(f"{what}; {hint}.")
    try:
        refusal = partial(not_theirs, settings)
        return pull(connect(settings, "pulling"), settings.sessions, machine(settings), wanted, refusal=refusal)
    except Trouble as trouble:
        raise SettingsError(f"The mirror cannot be read: {trouble}. Try again.") from trouble
    finally:
        shutil.rmtree(settings.home / "pulling", ignore_errors=True)


def machine(settings: Settings) -> str:
    """Who goes on with a session. A Space that is started again is the same one, though its disk is new."""
    if settings.space:
        return settings.space
    file = settings.home / "machine"
    if not file.exists():
        draft = settings.home / f".{secrets.token_hex(6)}"
        settings.home.mkdir(parents=True, exist_ok=True)
        draft.write_text(draft.name[1:])
        with suppress(FileExistsError):  # another process was quicker: whole, or not at all
            os.link(draft, file)
        draft.unlink()
    return file.read_text()


@contextmanager
def mirrored(settings: Settings) -> Iterator[None]:
    """Keep the mirror while a session is driven here, and wait a little at its end for the last snapshot."""
    mirroring = Mirroring(settings)
    mirroring.start()
    try:
        yield
    finally:
        mirroring.stop(FAREWELL)


def _taken(lock: IO[str]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
