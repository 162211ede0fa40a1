"""Serve the page on a socket until told to stop, with a worker beside it."""

import signal
import socket
import sys
from contextlib import suppress

import uvicorn

from agent.keeper import Keeper
from agent.settings import Settings
from agent.wallet import Wallet
from ui.server import build_app

GOODBYE = 3  # seconds that open streams get when the server stops; they would never end by themselves


def serve(settings: Settings, door: socket.socket) -> int:
    """Runs until SIGINT or SIGTERM."""
    wallet = Wallet(settings)
    app = build_app(settings, wallet)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GOODBYE))
    keeper = Keeper(wallet)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again once it has shut down
    keeper.start()
    try:
        with suppress(KeyboardInterrupt):
            server.run(sockets=[door])
    finally:
        keeper.stop()
    return 0
