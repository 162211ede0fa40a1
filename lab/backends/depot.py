"""Where a rented job's things lie on the Hub: its parcel, and what it leaves. A bucket, or a repository where there is none."""

from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Protocol, get_args

from lab.backend import JobSpec, State, read_json
from lab.backends.bucket import BUCKETS, Bucket
from lab.backends.repository import JOB_TOKEN, NAME, Repository
from lab.errors import Refused

MOUNT = "/job"
LARGEST = 50 * 2**30  # bytes of one file that a job may bring back


class Depot(Protocol):
    """Of one person. Both raise what the Hub's client raises."""

    def listed(self, place: str) -> list[Any]:
        """What is there below a place; files have a `path` and a `size`. Raises where that is hidden."""
        ...

    def download(self, pairs: list[tuple[Any, Path]]) -> None:
        """Files of the last `listed`, each to its place here."""
        ...


def depot_of(api: Any, known: dict[str, Any]) -> Depot:
    """Where a job's things are, by what is known of it (hf_jobs.about_file)."""
    return Repository(api, known["repository"]) if known.get("repository") else Bucket(api, known["owner"])


def send(api: Any, token: str | None, owner: str, spec: JobSpec, parcel: Path, place: str) -> Any:
    """Send the parcel off; the volume that the job finds it in. A bucket's, where what it makes is written, too; else a
    commit of a repository, which is mounted read-only: what it makes is committed there with `token`. Raises Refused."""
    from huggingface_hub import Volume

    if bucket := Bucket(api, owner).send(parcel, place):
        return Volume(type="bucket", source=bucket, mount_path=MOUNT, path=place, read_only=False)
    api.whoami()  # raises where the token has just ended: that is no refusal
    if not token:
        raise Refused(
            f"This HF_TOKEN may write in no bucket of {owner} ({' or '.join(BUCKETS)}), and what a rented job makes comes back "
            f"by one; give it write access to your repositories and buckets (write-repos), set {JOB_TOKEN} to a token that "
            f"may write in the private dataset repository {owner}/{NAME} alone, or use machine 'local'."
        )
    if _runs_code(spec):
        raise Refused(
            f"{spec.job} runs code that a model wrote, and without a bucket its machine would have {JOB_TOKEN}; give HF_TOKEN "
            "write access to your buckets (write-repos), or use machine 'local'."
        )
    repository = Repository(api, f"{owner}/{NAME}")
    commit = repository.send(token, parcel, place)
    return Volume(type="dataset", source=repository.name, mount_path=MOUNT, path=place, revision=commit, read_only=True)


def _runs_code(spec: JobSpec) -> bool:
    """Whether a stranger to us has written what runs: the agent its script, or the model answers that are tried.

    Scorers of reasoning-gym try them, too: some read an answer with sympy's parse_expr, which is Python's eval.
    """
    tasks, kinds = {str(spec.config.get("benchmark", ""))}, set()
    for one in spec.config.get("rewards") or ({"kind": "benchmark"},):  # recipes.rewards.Rewarded's own
        kinds.add(dict(one).get("kind"))
        tasks.add(str(dict(one).get("name", "")))
    scored = spec.recipe == "evaluate" or "benchmark" in kinds
    gym = scored and any(name.startswith("gym:") for name in tasks)
    return spec.recipe == "script" or "code" in kinds or gym


class Brought:
    """What a job has left so far."""

    def __init__(self, depot: Depot, place: str, folder: Path):
        """`place` is the job's there, `folder` its own here. Raises what the Hub's client raises."""
        self._depot, self._folder = depot, folder
        files = {PurePosixPath(one.path): one for one in depot.listed(place) if hasattr(one, "size")}
        top = PurePosixPath(place, "out")
        self._files = {path.relative_to(top): one for path, one in files.items() if path.is_relative_to(top)}

    def ending(self, attempt: int) -> dict[str, Any]:
        """The exit.json of an attempt; {} where it did not come to that, wrote what is none, or its files are not all here yet."""
        said = self._files.get(PurePosixPath("exit.json"))
        if not said:
            return {}
        with TemporaryDirectory(prefix=".fetched-", dir=self._folder) as scratch:
            self._depot.download([(said, Path(scratch, "exit.json"))])
            left = read_json(Path(scratch, "exit.json"))
        ends = left.get("attempt") == attempt and left.get("state") in get_args(State)[2:]
        ends = ends and isinstance(left.get("code"), int) and -64 < left["code"] < 256
        return left if ends and isinstance(left.get("files"), dict) and self._has(left["files"]) else {}

    def _has(self, files: dict[str, Any]) -> bool:
        here = {path.as_posix(): file.size for path, file in self._files.items()}
        return all(here.get(name) == size for name, size in files.items())

    def fetch(self, *, whole: bool, checkpoints: bool) -> None:
        """Bring it into the job's folder. What is not `whole` has no model: half of one must not be taken for it."""
        leaves = {"exit.json"} | (set() if whole else {"model"}) | (set() if checkpoints else {"checkpoints"})
        wanted = [path for path in self._files if _welcome(path) and path.parts[0] not in leaves]
        pairs = [(self._files[path], self._folder / path) for path in wanted if self._files[path].size <= LARGEST]
        self._depot.download(pairs)


def _welcome(path: PurePosixPath) -> bool:
    """Whether a file may come back: nothing hidden, and no path that leads elsewhere."""
    return not path.is_absolute() and not any(part.startswith(".") for part in path.parts)
