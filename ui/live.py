"""One log, many viewers: the past of a session and then each new fact, as server-sent events.

Beside them goes the answer that is being written, as events of their own kind. They have no id, for they are no facts:
whoever joins late gets all that is written so far, and from then on what is new.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from record.log import POLL, Log, LogError
from ui.typed import NOTHING, Draft, Drafts

COALESCE = 0.03  # seconds that facts are gathered before a message goes out; a person sees no difference
KEEP_ALIVE = 15.0  # seconds between comments on a quiet stream: proxies cut at 30 to 60
BATCH = 500  # facts a message: the page draws the first ones while the rest is under way


class Tail:
    """Follows one log for all its viewers. Each fact is put into JSON once."""

    def __init__(self, log: Log):
        self.lines: list[str] = []
        self.trouble = ""
        self.viewers = 0
        self.task: asyncio.Task | None = None
        self.draft = NOTHING
        self._log = log
        self._drafts = Drafts(log.path.parent)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Read what is new until cancelled. Ends with `trouble` when the log cannot be read, or whatever else went wrong."""
        try:
            while True:
                fresh, draft = await asyncio.to_thread(self._look)
                if fresh or draft != self.draft:
                    self.lines += fresh
                    self.draft = draft
                    self._announce()
                await asyncio.sleep(POLL)
        except LogError as error:
            self.trouble = str(error)
        except OSError as error:
            self.trouble = f"The session could not be read ({error.strerror})."
        finally:
            self.trouble = self.trouble or "The stream broke off."
            self._announce()

    async def wait(self) -> bool:
        """Wait for news; False when there was none for KEEP_ALIVE seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), KEEP_ALIVE)
            await asyncio.sleep(COALESCE)
            return True
        return False

    def _look(self) -> tuple[list[str], Draft]:
        """New facts as JSON, and what is being written now. Facts are read last: what ends an answer is never missed."""
        self._drafts.look()
        self._log.refresh()
        facts = self._log[len(self.lines) :]
        return [fact.model_dump_json() for fact in facts], self._drafts.after(facts)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Live:
    """The tails of the sessions that somebody looks at. A tail ends when its last viewer leaves."""

    def __init__(self):
        self._tails: dict[Path, Tail] = {}

    @property
    def watched(self) -> dict[str, int]:
        """How many viewers each followed session has."""
        return {folder.name: tail.viewers for folder, tail in self._tails.items()}

    async def stream(self, log: Log, after: int, welcome: Callable[[], bool] = lambda: True) -> AsyncIterator[str]:
        """Messages for one viewer, while they are `welcome`: JSON arrays of facts with seq > after; the id is the last one's seq.

        Once a viewer has every fact, it also gets `typing` events; ui/typed.py says what is in them.
        """
        session = log.path.parent
        tail = self._enter(session, log)
        try:
            position, draft = after, NOTHING
            yield "retry: 1000\n\n"
            while welcome():
                batch = tail.lines[position : position + BATCH]
                if batch:
                    position += len(batch)
                    yield f"id: {position}\ndata: [{','.join(batch)}]\n\n"
                elif tail.draft != draft:
                    before, draft = draft, tail.draft
                    yield f"event: typing\ndata: {draft.since(before)}\n\n"
                elif tail.trouble:
                    yield f"event: trouble\ndata: {' '.join(tail.trouble.split())}\n\n"
                    return
                elif not await tail.wait():
                    yield ": keep-alive\n\n"
        finally:
            self._leave(session, tail)

    def _enter(self, session: Path, log: Log) -> Tail:
        tail = self._tails.get(session)
        if tail is None or tail.task is None or tail.task.done():
            tail = self._tails[session] = Tail(log)
            tail.task = asyncio.create_task(tail.run(), name=f"tail {session.name}")
        tail.viewers += 1
        return tail

    def _leave(self, session: Path, tail: Tail) -> None:
        tail.viewers -= 1
        if tail.viewers == 0 and tail.task:
            tail.task.cancel()
            if self._tails.get(session) is tail:
                del self._tails[session]
