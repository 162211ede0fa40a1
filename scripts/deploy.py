"""Make this commit a Space, and wait until it runs: `make deploy SPACE=user/name`.

The Space is private unless it is there and public, and holds exactly the files of HEAD. Needs HF_TOKEN. Exit codes: 0 it
runs, 1 it does not come up, 2 a person must act.
"""

import argparse
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from agent import settings as env
from lab.errors import LabError
from lab.hub import Hub
from lab.upload import asked, put
from record.card import KINDS

PATIENCE = 3600.0  # seconds; a first build with CUDA takes some ten minutes
POLL = 2.0  # seconds
DOWN = ("NO_APP_FILE", "CONFIG_ERROR", "BUILD_ERROR", "RUNTIME_ERROR", "PAUSED", "STOPPED", "DELETING")
SHOWN = 60  # lines of a log, the last ones


def main() -> int:
    parser = argparse.ArgumentParser("make deploy SPACE=user/name", description=__doc__)
    parser.add_argument("space", help="user/name")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds to wait until it runs")
    given = parser.parse_args()
    try:
        settings = env.read()
        env.quiet_libraries()
        api = Hub(settings.home / "models", settings.keys.get("HF_TOKEN"), settings.job_env).writer()
        files, about = tracked(), f"the Space {given.space}"
        title = f"ML Intern at {_git('rev-parse', '--short', 'HEAD').strip()}"
        commit, private = asked(
            about,
            lambda: put(api, given.space, "space", files, title, lambda name: name != ".gitattributes", KINDS["space"], space_sdk="docker"),
        )  # fmt: skip
        print(
            f"{len(files)} files are there ({'private' if private else 'public'}): {api.endpoint}/spaces/{given.space}",
            flush=True,
        )
        return wait(api, given.space, commit, given.patience)
    except (LabError, env.SettingsError) as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 2


def tracked() -> dict[str, bytes | Path]:
    """The files of HEAD by name. Raises SettingsError where the tree differs from it, or there is none."""
    if changed := _git("status", "--porcelain").splitlines():
        what = f"The tree differs from HEAD in {len(changed)} files ({changed[0][3:]}, ...)"
        raise env.SettingsError(f"{what}; commit or stash them: what is deployed is a commit.")
    top = Path(_git("rev-parse", "--show-toplevel").strip())
    return {name: top / name for name in _git("ls-files", "-z", "--full-name", str(top)).split("\0") if name}


def wait(api: Any, space: str, commit: str, patience: float) -> int:
    """Say each stage until it runs this commit (0), or is down or late (1), and then show its log."""
    until, said = time.monotonic() + patience, ""
    while time.monotonic() < until:
        runtime = asked(f"the state of {space}", lambda: api.get_space_runtime(space))
        before, said = said, runtime.stage
        if said != before:
            print(f"  {said}", flush=True)
        sha = runtime.raw.get("sha")
        sure = sha == commit or said == before  # the stage may still be that of the commit before
        if sure and said == "RUNNING" and sha in (None, commit):
            print(f"It runs on {runtime.hardware}: {api.endpoint}/spaces/{space}")
            return 0
        if sure and said in DOWN:
            print(log(api, space, said in ("BUILD_ERROR", "CONFIG_ERROR")), file=sys.stderr)
            why = runtime.raw.get("errorMessage") or "see its log above"
            print(f"deploy: {space} is {said}: {why}.", file=sys.stderr)
            return 1
        time.sleep(POLL)
    late = f"{space} is {said or 'silent'} after {patience:g} s"
    print(f"deploy: {late}; look at {api.endpoint}/spaces/{space}.", file=sys.stderr)
    return 1


def log(api: Any, space: str, build: bool) -> str:
    """The end of what its build, or its app, has printed."""
    lines = asked("its log", lambda: deque(api.fetch_space_logs(space, build=build), maxlen=SHOWN))
    return "".join(lines)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise env.SettingsError(f"git says: {done.stderr.strip()}; deploy from a clone with a commit.")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
