"""Keeps the worker alive for the web app, which thinks nothing itself and imports none of what thinks."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

from agent.settings import ROOT, Settings


class Keeper:
    """Keeps one worker process alive: starts it, and starts it again with back-off whenever it dies."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._stop = threading.Event()
        self._process: subprocess.Popen | None = None
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the worker. Trainers go on."""
        self._stop.set()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _keep(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            started = time.monotonic()
            command = [sys.executable, "-m", "agent", "worker", "--parent", str(os.getpid()), "--keys-from-stdin"]
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
            with suppress(BrokenPipeError):
                self._process.communicate(json.dumps(self._settings.keys).encode())  # never by its environment
            pause = 0.5 if time.monotonic() - started > 60 else min(pause * 2, 30.0)
            self._stop.wait(pause)
