"""A session's folder of files, and commands run in it: confined (lab.reach), with a deadline, and gone when they end."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from lab.errors import BadInput
from lab.processes import end
from lab.reach import Reach
from recipes.job import write_whole

SHOWN = 25_000  # characters of output that the brain sees: a quarter from the head, the rest from the tail
LARGEST = 64 * 2**20  # bytes of output after which a command is ended
POLL = 0.05  # seconds


@dataclass(frozen=True)
class Output:
    """How a command ended. `code` is None when it was ended by us; `file` has all of its output."""

    code: int | None
    text: str
    seconds: float
    file: Path
    ended_by: str = ""


class Workspace:
    """Files under one root. Every path given is relative to it and stays in it."""

    def __init__(self, root: Path, env: Mapping[str, str], landlock: int | None = None):
        """`root` is HOME/sessions/ID/workspace; `landlock` the newest ABI to use, None the kernel's, 0 none."""
        self.root = root.resolve()
        self._reach = Reach(self.root.parent, env, landlock)

    def path(self, name: str) -> Path:
        """A path inside the workspace. Raises BadInput for one that leads out, also through a link."""
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise BadInput(f"{name!r} leads out of the workspace; give a path inside it.")
        return path

    def read(self, name: str, start: int = 0, chars: int = SHOWN) -> str:
        """Text of a file from character `start`. Raises BadInput."""
        path = self.path(name)
        if not path.is_file():
            raise BadInput(f"There is no file {name!r} in the workspace; list it to see what there is.")
        text = path.read_text(errors="replace")
        rest = len(text) - start - chars
        return text[start : start + chars] + (
            f"\n[{rest} more characters: read on from {start + chars}]" if rest > 0 else ""
        )

    def write(self, name: str, text: str) -> Path:
        """Write a whole file. Raises BadInput when the disk refuses."""
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
        except OSError as error:
            raise BadInput(f"{name!r} could not be written ({error.strerror}).") from error
        return path

    def keep(self, name: str, text: str) -> str:
        """Keep a long output in a file of the workspace; returns what of it the brain sees."""
        file = self.write(f".outputs/{name}.txt", text)
        with open(file, "rb") as source:
            return shorten(source, file.relative_to(self.root))

    def names(self) -> list[str]:
        """Every file, relative, sorted; hidden ones left out."""
        files = (p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file())
        return sorted(str(p) for p in files if not any(part.startswith(".") for part in p.parts))

    def run(
        self, command: str, seconds: float, check: Callable[[], None] = lambda: None, reads: Iterable[Path] = ()
    ) -> Output:
        """Run a shell command and wait for it; `check` runs every POLL seconds and may raise to stop it.

        When it returns or raises, nothing that the command started is left. It may read `reads`, too. Raises BadInput
        when a command has made a folder unusable that every command needs.
        """
        try:
            folder = self.path(".outputs")
            folder.mkdir(exist_ok=True)
            env = self._reach.environment(self.root)
        except OSError as error:
            raise BadInput(f"{error.filename} cannot be used ({error.strerror}); delete it.") from error
        file = folder / f"{time.time_ns()}.txt"
        started = time.monotonic()
        with open(file, "x+b") as sink, TemporaryFile(dir=folder) as script:
            script.write(os.fsencode(command))  # no argument: /proc shows those to everybody
            script.seek(0)
            process = subprocess.Popen(
                [*self._reach.command(self.root, reads), "bash", f"/dev/fd/{script.fileno()}"],
                pass_fds=[script.fileno()],
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            ended_by = ""
            try:
                while process.poll() is None and not ended_by:
                    check()
                    if time.monotonic() - started > seconds:
                        ended_by = f"ended after its {seconds:g} s"
                    elif os.fstat(sink.fileno()).st_size > LARGEST:
                        ended_by = f"ended because it printed more than {LARGEST >> 20} MiB"
                    else:
                        time.sleep(POLL)
            finally:
                code = end(process)
            took = time.monotonic() - started
            text = shorten(
                sink, file.relative_to(self.root)
            )  # never by its name: the command may have put a link there
        return Output(None if ended_by else code, text, took, file, ended_by)


def shorten(source: BinaryIO, name: Path) -> str:
    """The output in an open file as the brain sees it: whole, or its head and tail and where the rest is."""
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    if size <= SHOWN:
        return source.read().decode(errors="replace")
    head = source.read(SHOWN // 4).decode(errors="replace")
    source.seek(size - SHOWN * 3 // 4)
    tail = source.read().decode(errors="replace")
    return f"{head}\n[… {size - SHOWN} bytes left out; all of it is in {name} …]\n{tail}"
