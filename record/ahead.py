"""Big files that are sent before the commit that names them, so that no fact has to wait for them."""

import logging
import os
import secrets
import threading
import time
from typing import Any

from record.contents import Piece, oids
from record.remote import Remote, Trouble


class Ahead:
    """One at a time, in a thread of its own. `rest`: seconds after a failure."""

    def __init__(self, remote: Remote, rest: float):
        self._remote, self._rest = remote, rest
        self._done: dict[str, tuple[Piece, Any, frozenset[str]]] = {}
        self._thread: threading.Thread | None = None
        self._not_before = 0.0

    def look(self, path: str, piece: Piece) -> tuple[Any, frozenset[str]] | None:
        """What to put into a commit, with its names; None while it is not there yet."""
        seen, addition, names = self._done.get(path, (None, None, frozenset()))
        if seen == piece:
            return addition, names
        if not (self._thread and self._thread.is_alive()) and time.monotonic() >= self._not_before:
            self._thread = threading.Thread(target=self._send, args=(path, piece), name="mirror-ahead", daemon=True)
            self._thread.start()
        return None

    def drop(self, path: str) -> None:
        """It has been committed, and cannot be once more."""
        self._done.pop(path, None)

    def _send(self, path: str, piece: Piece) -> None:
        link = self._remote.scratch / secrets.token_hex(8)  # its trainer may delete it meanwhile, or put a link there
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(piece.file, link, follow_symlinks=False)
            names = oids(link)
            addition = self._remote.upload(path, link)
            about = link.lstat()
            if (about.st_dev, about.st_ino, about.st_mtime_ns) == piece.stamp:  # else it was written to
                self._done[path] = (piece, addition, names)
        except (Trouble, OSError) as error:
            wait = error.wait_s if isinstance(error, Trouble) else 0.0
            self._not_before = time.monotonic() + max(wait, self._rest)
            logging.getLogger(__name__).warning("the mirror could not send %s: %s", path, error)
        finally:
            link.unlink(missing_ok=True)
