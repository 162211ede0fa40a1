"""Messages to a person's chat when a session needs them or is over: one POST of {"text": "…"} an event, as Slack takes it.

Which events were sent stands in the session's file `notified`, as the seq of the last one. It is written before the
message is sent, so nobody is told twice, whoever is killed and however many processes look; a message that was on its way
when its process died is lost. Sending happens in a thread of its own and holds up nothing.
"""

import fcntl
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from agent.sessions import session_log
from agent.settings import Settings
from record.journal import Journal
from record.log import LogError
from record.redact import redact
from record.views import Views

KEY = "ML_INTERN_WEBHOOK"
FILE = "notified"
DIGITS = 12  # of the seq in the file: it is overwritten in place, never cut
LOOK = 0.3  # seconds between looks at a session that this process drives
TIMEOUT = 5.0  # seconds for one try
PAUSES = (0.5, 1.5)  # seconds between the three tries: quick refusals fit into LEAVE_S
LEAVE_S = 6.0  # seconds that a process waits at its end for what is still to be sent
LONGEST = 300  # characters of a title or a sentence


class Webhook:
    """Tells about sessions. Does nothing where no address is set. `look` is for one thread, `begin` for any."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._url = settings.keys.get(KEY)
        self._known: dict[str, float] = {}  # seq of the last event that was sent; inf: not ours to tell
        self._texts: queue.Queue[str] = queue.Queue()
        self._posting: threading.Thread | None = None

    def begin(self, session: str) -> None:
        """From now on this session is told about. One that nobody drove since the address was set stays silent."""
        if self._url:
            with _quiet(session), open(self._file(session), "x") as file:
                file.write(f"{0:0{DIGITS}}")
            self._known.pop(session, None)

    def look(self, session: str, views: Views) -> None:
        """Send what has happened since the last time."""
        if self._url and (due := _due(views)) and max(due) > self._known.get(session, 0):
            for seq in self._claim(session, due):
                self._send(self._text(session, views.title, due[seq]))

    def leave(self, seconds: float = LEAVE_S) -> None:
        """Wait for what is still to be sent, no longer than this."""
        until = time.monotonic() + seconds
        while self._texts.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.05)

    def _claim(self, session: str, due: dict[int, str]) -> list[int]:
        """Those events that no process has claimed yet; from now on they are claimed."""
        self._known[session] = inf  # a disk that takes no claim gets no message, rather than many
        with _quiet(session), open(self._file(session), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            last = int(file.read(DIGITS) or 0)
            new = [seq for seq in sorted(due) if seq > last]
            if new:
                os.pwrite(file.fileno(), f"{new[-1]:0{DIGITS}}".encode(), 0)
                os.fsync(file.fileno())
            self._known[session] = max(*due, last)
            return new
        return []

    def _file(self, session: str) -> Path:
        return self._settings.sessions / session / FILE

    def _text(self, session: str, title: str, what: str) -> str:
        """Title, state and sentence, redacted; "<!channel>" in them calls nobody."""
        said = redact(f"{_line(title)}\n{_line(what)}", self._settings.secrets)
        said = said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{said}\n{self._settings.url.rstrip('/')}/?session={session}" if self._settings.url else said

    def _send(self, text: str) -> None:
        self._texts.put(text)
        if not self._posting:
            self._posting = threading.Thread(target=self._post_all, name="webhook", daemon=True)
            self._posting.start()

    def _post_all(self) -> None:
        while True:
            text, why = self._texts.get(), ""
            for pause in (*PAUSES, 0.0):
                if not (why := self._post(text)):
                    break
                time.sleep(pause)
            else:
                logging.getLogger(__name__).error("%s took no message in three tries (%s).", KEY, why)
            self._texts.task_done()

    def _post(self, text: str) -> str:
        """Why it did not arrive; "" when it did. Says nothing of the address, which is a secret."""
        import httpx

        try:
            answer = httpx.post(self._url or "", json={"text": text}, timeout=TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        return "" if answer.is_success else f"status {answer.status_code}"


@contextmanager
def watching(settings: Settings, session: str) -> Iterator[None]:
    """Tell about a session while it is driven here, and wait a little at its end for the last message to leave."""
    webhook, over = Webhook(settings), threading.Event()
    webhook.begin(session)

    def watch() -> None:
        journal = Journal(session_log(settings, session))
        with suppress(LogError):  # who drives the session says it
            while not over.wait(LOOK):
                webhook.look(session, journal.views)
            webhook.look(session, journal.views)

    thread = threading.Thread(target=watch, name="webhook-watch", daemon=True)
    if settings.keys.get(KEY):
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.ident:
            thread.join(LEAVE_S)
            webhook.leave()


def _due(views: Views) -> dict[int, str]:
    """What a person should know of a session as it stands: seq -> state and sentence."""
    due = {a.seq: f"waiting for you: {a.name} needs your decision. {a.reason}" for a in views.waiting}
    if views.closed and not views.active:
        due[views.closed.seq] = f"{views.closed.outcome.replace('_', ' ')}: {views.closed.reason}"
    return due


def _line(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 1]}…"


@contextmanager
def _quiet(session: str) -> Iterator[None]:
    """No trouble with the file is a session's trouble."""
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        pass  # it is told about already, or nobody drove it since the address was set
    except (OSError, ValueError) as error:
        logging.getLogger(__name__).error("session %s: its file %s cannot be used (%s).", session, FILE, error)
