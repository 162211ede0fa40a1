"""One session, from its log to its end: open this file first.

    Session(settings, id).run()      drives the session until it is over, wherever it stood

A session has one owner at a time. Killed at any point, the next owner goes on from the log: open calls are answered,
running jobs are adopted, nothing is done twice.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from smolagents.utils import AgentGenerationError

from agent.context import Context
from agent.driver import Driver
from agent.providers import BrainError
from agent.purse import Purse
from agent.researcher import Researcher
from agent.scouts import Scout
from agent.servers import Servers
from agent.sessions import Request, open_session, session_log
from agent.settings import Settings, SettingsError
from lab.backend import RENTED
from lab.backends.hf_jobs import HFJobs
from lab.backends.local import LocalBackend
from lab.backends.machines import Machines
from lab.backends.repository import JOB_TOKEN
from lab.errors import NeedsPerson, OutOfBudget, Stopped
from lab.hub import client
from lab.lab import Lab
from lab.supervisor import Supervisor
from lab.tasks import Vault
from recipes.grace import LONGEST
from record.events import Closed, Finished, Published
from record.journal import Journal
from record.log import LogError
from record.report import report
from record.typing import Typing
from record.views import Views
from tools.all import all_tools
from tools.skill import shown_after

AWAY = 120.0  # seconds that jobs on rented machines have to save when a session ends: their last words come by the Hub
MOST_CALLS = 300  # of the model, where the person gave no cap
UNPRICED_TOKENS = 5_000_000  # that a session without a cap of tokens may use while nobody knows what they cost
POLL = 0.2  # seconds between looks at jobs that nobody waits for
IDLE_REPLIES = 2  # answers in a row without a call, after which a person is asked


def machines(now: Callable[[], Settings]) -> Machines:
    """Where the jobs of a session may run."""
    settings = now()
    here = LocalBackend(settings.queue, settings.job_env, settings.machine_price)
    rented = HFJobs(lambda: client(now().keys.get("HF_TOKEN"), settings.job_env), lambda: now().keys.get(JOB_TOKEN))
    return Machines(here, rented)


STOPPED = Closed(outcome="stopped", reason="stopped by the person")


class Busy(Exception):
    """Another process owns the session."""


class SignedOut(Stopped):
    """The person's sign-in has ended: the session stands where it is, and goes on with the next one."""


class Session:
    """A session and everything that works on it."""

    def __init__(self, settings: Settings, session: str, now: Callable[[], Settings] | None = None):
        """`now` gives the settings of the moment, where sign-ins come and go. Raises SettingsError for an id that is no session's."""
        self.id = session
        self.folder = settings.sessions / session
        self.log = session_log(settings, session)
        self._settings = settings
        self._now = now or (lambda: settings)
        self._journal = Journal(self.log)
        self._watch = Journal(self.log)  # of `_check`, which runs wherever anything of the session waits
        self._watching = threading.Lock()
        if self._journal.views.opened is None:
            raise SettingsError(f"There is no session {session!r}; see `python -m agent list`.")
        self._servers = Servers(settings, self._check)
        self._typing = Typing(self.folder, self.log.secrets)
        self._since = 0  # a stop that came before we began is over

    @property
    def views(self) -> Views:
        return self._journal.views

    @classmethod
    def open(cls, settings: Settings, request: Request) -> "Session":
        """A new session. Raises SettingsError."""
        return cls(settings, open_session(settings, request))

    def run(self) -> Closed:
        """Work until the session is over and return how it ended.

        Raises:
            Busy: Another process owns it.
            LogError: The log cannot be read or written.
            SignedOut: The person's keys have ended; the log says nothing of it.
        """
        with self._owned():
            views = self._journal.views
            if views.settled and views.closed:
                return views.closed
            self._since = len(self.log)
            with self._lab() as lab:
                if views.closed and views.ended:  # and its jobs were still saving
                    return self._let_jobs_save(views.closed, lab)
                return self._close(self._work(lab) if views.active else STOPPED, lab)

    def attend(self, over: Callable[[], bool]) -> None:
        """Watch over the jobs of a session that nobody drives, while there are any, it is not stopped, and not `over`."""
        with self._owned(), self._lab():
            while (views := self._journal.views).running and views.active and not over():
                time.sleep(POLL)

    @contextmanager
    def _lab(self) -> Iterator[Lab]:
        """What the session works with; meanwhile its jobs are supervised."""
        backend = machines(self._now)
        supervisor = Supervisor(self.log, self.folder, backend, self._settings.job_env, self._settings.disk)
        vault = Vault(self._settings.vault)
        supervisor.start()
        try:
            yield Lab(self.log, self.folder, backend, vault, self._settings.job_env, self._check, self._token)
        finally:
            self._typing.clear()
            self._servers.close()
            supervisor.stop()

    def _token(self) -> str | None:
        return self._now().keys.get("HF_TOKEN")

    def _work(self, lab: Lab) -> Closed:
        """Drive the agent to an ending. Every kind of trouble becomes one."""
        try:
            return Closed(outcome="done", reason=self._researcher(lab).work(self._journal.views.goal.text))
        except OutOfBudget as over:
            return Closed(outcome="out_of_budget", reason=f"{over}; the best so far is {self._journal.views.best}")
        except NeedsPerson as idle:
            return Closed(outcome="needs_person", reason=str(idle))
        except SignedOut:
            raise
        except Stopped:
            return STOPPED
        except LogError:
            raise
        except Exception as error:  # a boundary: the session ends with a reason, and the others go on
            if isinstance(error, AgentGenerationError) and error.__cause__:  # smolagents wraps what a model raised
                error = error.__cause__
            if isinstance(error, BrainError):
                return Closed(outcome="provider_failed", reason=str(error))
            logging.getLogger(__name__).exception("session %s failed", self.id)
            return Closed(
                outcome="failed", reason=f"an error of ours ended the session ({type(error).__name__}: {error})"
            )

    def _researcher(self, lab: Lab) -> Researcher:
        """The driver of this session with its memory, its tools and its helpers."""
        context = Context(self.log, skills=shown_after())
        purse, outside = Purse(), self._servers.tools(lab)
        driver = Driver(self._now, self._journal, self._check, purse, context, show=self._typing.show)
        scout = Scout(lab, self._now, self._check, purse, outside)
        tools = [*all_tools(lab), scout, *outside]
        return Researcher(driver, tools, self._journal, self._check, context, replied=self._typing.clear)

    def _check(self) -> None:
        """Raise Stopped, NeedsPerson or OutOfBudget when the session must not go on."""
        with self._watching:
            self._look_up(self._watch.views)

    def _look_up(self, views: Views) -> None:
        settings = self._now()
        self.log.secrets = self._typing.secrets = settings.secrets
        if views.halted and views.halted.seq > self._since:
            raise Stopped("a person said stop")
        if time.time() >= settings.until and not views.open_calls():  # between two steps: what is begun is finished
            raise SignedOut("the sign-in has ended")
        if over := views.over(datetime.now(UTC)):
            raise OutOfBudget(over)
        if views.idle_replies >= IDLE_REPLIES:
            refused = views.replied is not None and views.replied.finish == "content_filter"
            what = "its provider refused to answer" if refused else "the model answered without doing anything"
            raise NeedsPerson(f"{what}; tell it what you want")
        if views.budget.tokens is None and views.spent.unpriced_tokens >= UNPRICED_TOKENS:
            what = f"{views.spent.unpriced_tokens:,} tokens of unknown price are used"
            raise OutOfBudget(f"{what}; set a cap of tokens, or ML_INTERN_PRICES, to go on")
        most = views.budget.calls or MOST_CALLS
        if views.spent.replies >= most and not views.open_calls():
            raise OutOfBudget(f"all {most} model calls are used")

    def _close(self, closed: Closed, lab: Lab) -> Closed:
        """Answer what is open, write the report, close, and then let running jobs save."""
        for call in self._journal.views.open_calls():
            reason = f"Not run: {closed.reason}."
            self._journal.append(Finished(call=call.id, name=call.name, ok=False, output=reason, seconds=0.0))
        self._write_report(closed)
        stored = self._journal.append(Published(what="report", where="report.md"), closed)[-1]
        assert isinstance(stored, Closed)
        return self._let_jobs_save(stored, lab)

    def _let_jobs_save(self, closed: Closed, lab: Lab) -> Closed:
        """Ask what still runs to save and stop, and write the report again with how it ended."""
        if self._journal.views.running:
            lab.cancel_all()
            rented = all(job.machine.startswith(RENTED) for job in self._journal.views.running)
            self._journal.wait(lambda views: not views.running, AWAY if rented else LONGEST + 15)
            self._write_report(closed)
        return closed

    def _write_report(self, closed: Closed) -> None:
        self.log.refresh()
        (self.folder / "report.md").write_text(report([*self.log, closed]))

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """Own the session's folder; the kernel lets go of the lock when we die."""
        with open(self.folder / "owner.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"Another process is working on {self.id}.") from None
            yield
