"""The background process that drives sessions."""

import logging
import os
import signal
import threading
import time
from contextlib import suppress

from agent.aside import begin, wait_for
from agent.driver import RUNTIME
from agent.keeper import patience
from agent.mirroring import Mirroring
from agent.session import Busy, Session, SignedOut
from agent.sessions import folders, session_log
from agent.settings import Settings
from agent.wallet import Wallet
from agent.webhook import Webhook
from record.events import Tuned
from record.journal import Journal
from record.log import LogError

LOOK = 0.3  # seconds between looks for sessions with something to do
TOGETHER = 4  # sessions of a person that think at once; their jobs queue for the one machine anyway
REST = 5.0  # seconds before a session that could not be driven is tried again


class Worker:
    """Drives the sessions of everybody, each person's at their own desk."""

    def __init__(self, wallet: Wallet):
        self._wallet = wallet
        self._desks: dict[str, Desk] = {}
        self._not_before: dict[str, float] = {}  # of desks, on the monotonic clock
        self._stop = threading.Event()

    def run(self, parent: int | None = None) -> None:
        """Work until `stop`, or until the parent process is gone."""
        while not self._stop.wait(LOOK):
            if parent is not None and os.getppid() != parent:
                return
            for settings in self._wallet.everyone():
                if time.monotonic() < self._not_before.get(settings.person, 0.0):
                    continue
                try:
                    if settings.person not in self._desks:
                        self._desks[settings.person] = Desk(settings)
                    self._desks[settings.person].look(settings)
                except (LogError, OSError, ValueError) as error:  # one person's trouble is not the others'
                    logging.getLogger(__name__).error("the sessions of %s are put off: %s", settings.person, error)
                    self._not_before[settings.person] = time.monotonic() + REST

    def stop(self) -> None:
        """Take no more sessions and leave `run`. Sessions under way go on from their log in the next worker."""
        self._stop.set()

    def leave(self) -> None:
        """Give messages and snapshots that are on their way a moment, those of all people the same one."""
        wait_for([begin(desk.leave) for desk in self._desks.values()], lambda: None)


class Desk:
    """Drives every session of one person that is not settled: new ones, and those whose owner died.

    While the person's keys have ended nothing is driven: running jobs are watched, a stop is heard, and the rest waits.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._journals: dict[str, Journal] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}
        self._stands: dict[str, float] = {}  # sessions that wait for a sign-in, and since when (unix seconds)
        self._webhook = Webhook(settings)
        self._mirroring = Mirroring(settings)
        self._mirroring.start()

    def look(self, settings: Settings) -> None:
        """Take up what there is to do, with the keys that the person has now."""
        self._settings = settings
        self._mirroring.renew(settings)
        self._threads = {name: t for name, t in self._threads.items() if t.is_alive()}
        room = TOGETHER + self._waiting() - len(self._threads)
        for session in self._unsettled()[: max(0, room)]:
            waits = self._signed_out() and self._journals[session].views.active
            thread = threading.Thread(target=self._drive, args=(session, waits), name=session, daemon=True)
            self._threads[session] = thread
            thread.start()

    def leave(self) -> None:
        """Give what is on its way a moment."""
        seconds = patience(self._settings) - 1.0
        until = time.monotonic() + seconds
        self._mirroring.stop(seconds)
        self._webhook.leave(until - time.monotonic())

    def _signed_out(self) -> bool:
        return time.time() >= self._settings.until

    def _unsettled(self) -> list[str]:
        """Sessions with something to do that nobody here drives, oldest first."""
        ours = (path.name for path in folders(self._settings) if path.name not in self._threads)
        return [name for name in sorted(ours) if self._has_work(name)]

    def _waiting(self) -> int:
        """How many of the sessions driven here wait for a person: they take nobody's place. They are told of it here."""
        waiting = 0
        for name in self._threads:
            with suppress(LogError, OSError):  # its own thread will say it
                views = self._journals[name].views
                self._webhook.look(name, views)
                waiting += bool(views.waiting)
        return waiting

    def _has_work(self, name: str) -> bool:
        if time.monotonic() < self._not_before.get(name, 0.0):
            return False
        journal = self._journals.setdefault(name, Journal(session_log(self._settings, name)))
        try:
            views = journal.views
        except (LogError, OSError) as error:
            self._put_off(name, str(error))
            return False
        self._webhook.look(name, views)  # also of one whose owner died before it could tell
        if views.opened is None or views.settled:
            return False
        if not (views.active and self._signed_out()):
            return True
        self._stands.setdefault(name, time.time())
        return bool(views.running)

    def _drive(self, name: str, waits: bool) -> None:
        """`waits`: only its jobs go on, until its person has signed in again."""
        self._webhook.begin(name)
        try:
            session = Session(self._settings, name, lambda: self._settings)
            if waits:
                session.attend(lambda: not self._signed_out())
            else:
                self._give_back(name, session)
                session.run()
        except SignedOut:
            pass
        except Busy:
            self._not_before[name] = time.monotonic() + 1.0
        except (LogError, OSError) as error:
            self._put_off(name, str(error))

    def _give_back(self, name: str, session: Session) -> None:
        """The time that a session stood still for want of a sign-in does not count."""
        since, budget = self._stands.pop(name, None), session.views.budget
        if since is not None and budget.hours is not None and session.views.active:
            hours = round(budget.hours + (time.time() - since) / 3600, 6)
            session.log.append(Tuned(budget=budget.model_copy(update={"hours": hours}), by=RUNTIME))

    def _put_off(self, name: str, why: str) -> None:
        logging.getLogger(__name__).error("session %s is put off: %s", name, why)
        self._not_before[name] = time.monotonic() + REST


def main(wallet: Wallet, parent: int | None) -> int:
    """`python -m agent worker`: until SIGTERM, or until the parent is gone."""
    worker = Worker(wallet)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run(parent)
    worker.leave()
    return 0
