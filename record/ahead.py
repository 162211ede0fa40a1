"""Big files that are sent before the commit that names them, so that no fact has to wait for them."""

import logging
import os
import secrets
import threading
import time
from typing import Any

from record.contents import Piece, oids
from record.remote import Trouble
from record.shelf import Place


class Ahead:
    """One at a time, in a thread of its own, the least recently tried first. `rest`: seconds of one after its failure."""

    def __init__(self, remote: Place, rest: float):
        self._remote, self._rest = remote, rest
        self._done: dict[str, tuple[Piece, Any, frozenset[str]]] = {}
        self._wanted: dict[str, Piece] = {}
        self._due: dict[
            str, float
        ] = {}  # when it was tried last or, after a failure, may be again; on the monotonic clock
        self._thread: threading.Thread | None = None
        self._not_before = 0.0  # the Hub asks for that

    def look(self, path: str, piece: Piece) -> tuple[Any, frozenset[str]] | None:
        """What to put into a commit, with its names; None while it is not there yet."""
        seen, addition, names = self._done.get(path, (None, None, frozenset()))
        if seen == piece:
            return addition, names
        self._wanted[path] = piece
        if not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="mirror-ahead", daemon=True)
            self._thread.start()
        return None

    def drop(self, path: str) -> None:
        """It has been committed, and cannot be once more."""
        self._done.pop(path, None)
        self._wanted.pop(path, None)

    def _run(self) -> None:
        while wanted := list(self._wanted.items()):
            path, piece = min(wanted, key=lambda one: self._due.get(one[0], 0.0))
            if time.monotonic() < max(self._not_before, self._due.get(path, 0.0)):
                return
            self._send(path, piece)

    def _send(self, path: str, piece: Piece) -> None:
        link = self._remote.scratch / secrets.token_hex(8)  # its trainer may delete it meanwhile, or put a link there
        rest = 0.0
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(piece.file, link, follow_symlinks=False)
            names = oids(link)
            addition = self._remote.upload(path, link)
            about = link.lstat()
            same = (about.st_dev, about.st_ino, about.st_mtime_ns) == piece.stamp  # else it was written to
            if same and self._wanted.get(path) == piece:
                self._done[path] = (piece, addition, names)
        except (Trouble, OSError) as error:
            rest = self._rest
            self._not_before = time.monotonic() + (error.wait_s if isinstance(error, Trouble) else 0.0)
            logging.getLogger(__name__).warning("the mirror could not send %s: %s", path, error)
        finally:
            self._due[path] = time.monotonic() + rest
            if self._wanted.get(path) == piece:
                self._wanted.pop(path, None)
            link.unlink(missing_ok=True)
