"""Keeps the worker alive for the web app, which thinks nothing itself and imports none of what thinks."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

from agent.settings import ROOT, Settings
from agent.wallet import Grant, Wallet, as_line

LOOK = 0.2  # seconds between looks for a new sign-in


def patience(settings: Settings) -> float:
    """Seconds that a worker gets to leave: more where a mirror takes the last of each session.

    What stops a container kills it after ten; the page's open streams take three of them (ui.run).
    """
    return 5.5 if settings.mirror else 3.0


class Keeper:
    """Keeps one worker process alive: starts it, and starts it again with back-off whenever it dies."""

    def __init__(self, wallet: Wallet):
        self._wallet = wallet
        self._stop = threading.Event()
        self._process: subprocess.Popen | None = None
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the worker, within its `patience`. Trainers go on."""
        self._stop.set()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience(self._wallet.settings))
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _keep(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            started = time.monotonic()
            command = [sys.executable, "-m", "agent", "worker", "--parent", str(os.getpid()), "--keys-from-stdin"]
            try:
                self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, bufsize=0)
                with suppress(BrokenPipeError):
                    self._tell(self._process)
                self._process.wait()
            except OSError as error:  # no memory, or too many files are open
                logging.getLogger(__name__).error("the worker could not be started: %s", error)
            pause = 0.5 if time.monotonic() - started > 60 else min(pause * 2, 30.0)
            self._stop.wait(pause)

    def _tell(self, process: subprocess.Popen) -> None:
        """The server's keys, and then each sign-in when it comes, until the worker is gone: never by its environment."""
        assert process.stdin
        process.stdin.write(json.dumps(self._wallet.settings.keys).encode() + b"\n")
        told: dict[str, Grant] = {}
        while process.poll() is None:
            for person, grant in self._wallet.grants.items():
                if told.get(person) != grant:
                    process.stdin.write(as_line(grant))
                    told[person] = grant
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
