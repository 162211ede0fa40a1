"""Trackio's dashboard in a process of its own, on a socket that it is handed: `python -m ui.trackio_process DESCRIPTOR`.

Apart, because its handlers read sqlite on the event loop, and would hold up every stream of the page; and because it
is then given a trainer's environment, in which there are no keys. It ends when its parent does, or when nobody comes.
"""

import sys
import threading
import time
from select import select

PREFIX = "/trackio"
IDLE = 900.0  # seconds without a request; it is started again by the next one


def main(socket: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from trackio.server import build_starlette_app_only

    dashboard, _ = build_starlette_app_only()  # the token for writing is dropped: nobody may write here
    mounted = Starlette(routes=[Mount(PREFIX, dashboard)])
    last = [time.monotonic()]

    async def noted(scope, receive, send) -> None:
        last[0] = time.monotonic()
        await mounted(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(noted, fd=socket, log_level="warning", timeout_graceful_shutdown=1))
    threading.Thread(target=_until_nobody_comes, args=(server, last), daemon=True).start()
    server.run()


def _until_nobody_comes(server, last: list[float]) -> None:
    parent = [sys.stdin]  # a pipe that is never written to: it ends when the parent does, however that dies
    while time.monotonic() - last[0] < IDLE and not select(parent, [], [], 5)[0]:
        pass
    server.should_exit = True


if __name__ == "__main__":
    main(int(sys.argv[1]))
