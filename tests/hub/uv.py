"""`uv` and `pip` inside a job: `uv run` runs what it is given with this interpreter, and nothing is ever installed."""

import os
import sys
import tempfile
import urllib.request
from pathlib import Path

VALUED = {
    "--with",
    "--python",
    "-p",
    "--from",
    "--with-requirements",
    "--env-file",
    "--index",
    "--index-strategy",
    "--extra",
    "--group",
}


def main(name: str, given: list[str]) -> None:
    if name != "uv" or given[:1] != ["run"]:
        print(f"[loopback] {name} {' '.join(given)}: what this interpreter has is all there is")
        return
    rest = given[1:]
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        if option == "--":
            break
        if option in ("-m", "--module"):
            rest[:0] = [sys.executable, "-m"]
            break
        if option in VALUED:
            rest.pop(0)
    if rest and rest[0].startswith(("http://", "https://")):
        script = Path(tempfile.mkdtemp()) / rest[0].rpartition("/")[2].partition("?")[0]
        with urllib.request.urlopen(rest[0]) as answer:
            script.write_bytes(answer.read())
        rest[0] = str(script)
    if rest and (rest[0].endswith(".py") or rest[0] == "-"):
        rest.insert(0, sys.executable)
    if not rest:
        sys.exit("uv run: no command")
    os.execvp(rest[0], rest)


def shims(folder: Path) -> None:
    """Put `uv` and `pip` into a folder for PATH."""
    folder.mkdir(parents=True)
    for name in ("uv", "pip", "pip3"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        (folder / name).chmod(0o755)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
