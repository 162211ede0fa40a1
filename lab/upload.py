"""Write to the Hub: a repository that holds what it should, in one commit, and every refusal in one sentence.

All of it may be called again: files that are there already are neither sent nor committed twice, and a call that was cut
off, or whose answer was lost, finds what it did.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from lab.errors import LabError, Refused
from lab.hub import in_words

Kind = Literal["model", "dataset", "space"]
WAITS = (0.5, 2.0)  # seconds before the second and the third try
Answer = TypeVar("Answer")
Files = dict[str, bytes | Path]  # what a repository is to hold, by name: content, or a file of this machine


def put(
    api: Any, repo: str, kind: Kind, files: Mapping[str, bytes | Path], title: str, goes: Callable[[str], bool],
    tag: str, **more: Any,
) -> tuple[str, bool]:  # fmt: skip
    """Make the repository, private, unless it is there, and commit what differs; returns the commit, and whether it is private.

    Args:
        api: huggingface_hub's HfApi with the person's token.
        goes: Whether a file of an earlier commit that is not among `files` is deleted.
        tag: What the card of a repository that holds anything must carry, so that nothing else is written over; one
            with sessions (record.mirror) is never written over.
        more: For create_repo.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(repo, repo_type=kind, private=True, exist_ok=True, **more)
    info = api.repo_info(repo, repo_type=kind)
    there = {file.rfilename for file in info.siblings or []}
    new = there <= {".gitattributes", *(["README.md"] if kind == "space" else [])}  # the Hub gives a new Space a README
    ours = tag in ((info.card_data or {}).get("tags") or []) and not any(name.startswith("sessions/") for name in there)
    if not new and not ours:
        raise Refused(f"{repo} is there already and holds something that ML Intern did not make; give another name.")
    gone = [CommitOperationDelete(path_in_repo=name) for name in sorted(there - set(files)) if goes(name)]
    added = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    done = api.create_commit(
        repo, [*gone, *added], commit_message=title, repo_type=kind, parent_commit=info.sha if there else None
    )
    return done.oid, bool(info.private)


def asked(what: str, ask: Callable[[], Answer]) -> Answer:
    """What the Hub answers, tried three times where it is busy or silent.

    Raises:
        Refused: It says no.
        LabError: It cannot be reached.
    """
    for wait in WAITS:
        try:
            with in_words(what):
                return ask()
        except Refused:
            raise
        except LabError:
            time.sleep(wait)
    with in_words(what):
        return ask()
