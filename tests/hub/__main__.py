"""`python -m tests.hub FOLDER`: a Hub of one's own, for working offline."""

import argparse
import signal
import threading
from pathlib import Path

from tests.hub.server import serve


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.hub", description="A Hub on loopback; everything lies in FOLDER.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--person", action="append", default=[], metavar="NAME:TOKEN", help="may be given often")
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with serve(given.folder, given.port) as hub:
        for one in given.person:
            name, _, token = one.partition(":")
            print(f"{name}: HF_TOKEN={hub.people.add(name, token or None).token}")
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
