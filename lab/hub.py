"""Models of the Hub before a launch: may this person have one, is there room for it, and is it here?

Trainers see no token. What needs one is fetched here, the token goes to the Hub alone, and a trainer is given the folder:
by its id, transformers asks for files that a gated model need not have, and takes the refusal for an end. We write in a
folder of our own and only read in the Hub's cache: trainers write there, and a link of theirs would lead us elsewhere.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lab.errors import LabError, Refused
from lab.findings import Finding

PATIENCE = 10.0  # seconds that the Hub has to answer
SPARE = 2**30  # bytes of disk that a download leaves free
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
COMPLETE = ".fetched"  # written last into a fetched model: its commit
KEPT = (".safetensors", ".json", ".model", ".txt", ".jinja")  # weights, configs, tokenizers

BUSY = (408, 412, 429, 500, 502, 503, 504)  # 412: another call of ours has committed meanwhile; look again
REPOSITORIES = "write or contribute-repos access, or another name"
JOBS = "the right to run jobs (job.write; the scope jobs of a sign-in)"
WHY = {
    401: "the Hub does not know this HF_TOKEN; set another",
    402: "it wants to be paid for; see https://huggingface.co/settings/billing",
    403: "this HF_TOKEN may not do it; give it {right}",
    404: "the Hub has no such place, or hides it from this HF_TOKEN; give another name",
}


Token = Callable[[], str | None] | str | None  # a person's; what is called gives the one of now


def client(token: str | None, env: Mapping[str, str]) -> Any:
    """A client of the Hub that is there (HF_ENDPOINT), for one person. Raises LabError where they have no token."""
    from huggingface_hub import HfApi

    if not token:
        raise LabError("No HF_TOKEN is set; set one that may write.")
    return HfApi(endpoint=env.get("HF_ENDPOINT"), token=token)


@contextmanager
def in_words(what: str, later: Collection[int] = BUSY, right: str = REPOSITORIES) -> Iterator[None]:
    """What the Hub's client raises when it is asked for `what`, in one sentence.

    Args:
        later: Statuses that are no refusal.
        right: What a token needs for it.

    Raises:
        Refused: The Hub says no.
        LabError: It is busy, or cannot be reached: another try may go well.
    """
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (
        httpx.HTTPError,
        OfflineModeIsEnabled,
        RuntimeError,
    ) as error:  # RuntimeError: an upload's, around its cause
        said = error if isinstance(error, HfHubHTTPError) else error.__cause__
        status = said.response.status_code if isinstance(said, HfHubHTTPError) else 0
        known = WHY.get(status, "").format(right=right)
        if status and status not in later:
            raise Refused(f"The Hub refuses {what}: {known or first_line(said)}.") from error
        why = f"The Hub cannot be reached for {what} ({known or first_line(error)})"
        raise LabError(f"{why}; try again later, nothing is done twice.") from error
    except (
        ValueError
    ) as error:  # a name that cannot be, a card or a file that the Hub does not take, an answer that is none
        raise Refused(f"The Hub does not take {what}: {first_line(error)}.") from error


def first_line(error: BaseException | None) -> str:
    """The first line of what went wrong."""
    return (str(error).strip().partition("\n")[0][:200] or type(error).__name__).rstrip(".:")


class Hub:
    """The Hub as one person may use it, and the models of it that are here."""

    def __init__(self, own: Path, token: Token = None, env: Mapping[str, str] | None = None):
        """`own` is where we keep what we fetch. `env` is a trainer's: where it looks for models (HF_ENDPOINT, HF_HOME)."""
        self._env = env = env or {}
        self._own = own
        self._given = token
        self._endpoint = env.get("HF_ENDPOINT")
        self._cache = Path(env["HF_HOME"], "hub") if "HF_HOME" in env else None
        self._heads: dict[str, str] = {}  # the newest commit of each model, as it was last looked at
        self._closed: dict[str, list[str]] = {}  # models that need the token, with the files to fetch

    @property
    def _token(self) -> str | Literal[False]:
        """False: not even the one in the person's home."""
        return (self._given() if callable(self._given) else self._given) or False

    def look(self, model: Path | str) -> list[Finding]:
        """What stands in the way of a trainer that loads this model; nothing for a folder, or where it is cached."""
        if Path(model).is_dir():
            return []
        import httpx
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )

        name = str(model)
        try:
            return [] if self._folder(name) else self._asked(name)
        except GatedRepoError:
            what = f"The model {name!r} is gated, and {self._why()}."
            advice = f"Accept its terms at https://huggingface.co/{name} and set HF_TOKEN, or use another model."
        except RepositoryNotFoundError:
            what = f"The Hub has no model {name!r}, or it is private and {self._why()}."
            advice = "Check the name, set HF_TOKEN, or use another model."
        except HFValidationError as error:
            what, advice = f"The model {name!r} cannot be a Hub id: {error}", "Check the name."
        except (
            HfHubHTTPError,
            OfflineModeIsEnabled,
            httpx.HTTPError,
            ValueError,
            KeyError,
        ) as error:  # or it is no Hub
            what = f"The model {name!r} is not on this machine, and the Hub cannot be asked ({first_line(error)})."
            return [Finding("info", "hub_silent", what, "Check the network, or give a folder or 'starter'.")]
        return [Finding("stop", "no_access", what, advice, {"model": name, "token": bool(self._token)})]

    def writer(self) -> Any:
        """A client with the person's token. Raises LabError where there is none."""
        return client(self._token or None, self._env)

    def _asked(self, name: str) -> list[Finding]:
        """Raises what the Hub's client raises where the person may not read it."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint, token=self._token)
        info = api.model_info(name, timeout=PATIENCE, files_metadata=True)
        self._heads[name] = info.sha or ""
        if info.gated:  # what it is called is public, and what it holds is not
            api.auth_check(name)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
        kept = {file: size for file, size in sizes.items() if file.endswith(KEPT)}
        if not any(file.endswith(".safetensors") for file in kept):
            kept |= {file: size for file, size in sizes.items() if file.endswith(".bin")}
        if info.gated or info.private:
            self._closed[name] = list(kept)
        size, free = sum(kept.values()), self._free(name)
        if size + SPARE <= free:
            return []
        what = f"The model {name!r} has {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of disk are free."
        return [Finding("stop", "no_disk", what, "Free some, or use a smaller model.", {"bytes": free})]

    def fetch(self, model: Path | str) -> Path | str:
        """What a trainer loads: a folder, where it could not get the model itself or it is cached. After `look`. Raises LabError."""
        import httpx
        from huggingface_hub import snapshot_download

        if (name := str(model)) not in self._closed:
            return model if Path(model).is_dir() else self._folder(name) or name
        try:
            place, head = self._place(name), self._heads[name]
            snapshot_download(
                name, revision=head or None, token=self._token, endpoint=self._endpoint, local_dir=place,
                allow_patterns=self._closed[name],
            )  # fmt: skip
            (place / COMPLETE).write_text(head)
            return place
        except (OSError, httpx.HTTPError, ValueError) as error:  # the Hub's own are of these kinds
            raise LabError(f"The model {name!r} could not be fetched ({first_line(error)}); call again.") from error

    def revisions(self, config: Mapping[str, Any]) -> dict[str, str]:
        """The commits of the models that a job's settings name by their Hub id: of what is here, else as `look` found them."""
        ids = {str(config[name]) for name in ("model", "teacher") if config.get(name)}
        known = {name: self._commit(name) for name in sorted(ids) if not Path(name).is_absolute()}
        return {name: commit for name, commit in known.items() if commit}

    def _commit(self, name: str) -> str:
        here = self._folder(name)
        if here is None:
            return self._heads.get(name, "")
        return (here / COMPLETE).read_text() if here == self._place(name) else here.name

    def file(self, model: str, file: str) -> Path:
        """A small file of a model, from the cache or the Hub. Raises OSError or ValueError."""
        from huggingface_hub import hf_hub_download

        asked: dict[str, Any] = {"token": self._token, "endpoint": self._endpoint, "local_dir": self._place(model)}
        return self.cached(model, file) or Path(hf_hub_download(model, file, **asked))

    def _place(self, model: str) -> Path:
        self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._own / model.replace("/", "--")

    def cached(self, model: str, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, file, cache_dir=self._cache)
        return Path(found) if isinstance(found, str) else None

    def _folder(self, model: str) -> Path | None:
        """The folder of a model here: fetched, or cached with its config, a tokenizer and all its weights."""
        if (self._place(model) / COMPLETE).is_file():
            return self._place(model)
        config = self.cached(model, "config.json")
        if not config or not any(self.cached(model, file) for file in TOKENIZERS):
            return None
        listed = next((found for file in WEIGHTS if (found := self.cached(model, f"{file}.index.json"))), None)
        try:  # trainers write in the cache, too
            parts = set(json.loads(listed.read_bytes())["weight_map"].values()) if listed else set()
            whole = bool(parts) and all(self.cached(model, part) for part in parts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        return config.parent if whole or any(self.cached(model, file) for file in WEIGHTS) else None

    def _free(self, name: str) -> int:
        from huggingface_hub.constants import HF_HUB_CACHE

        where = self._place(name) if name in self._closed else self._cache or Path(HF_HUB_CACHE)
        return shutil.disk_usage(next(place for place in (where, *where.parents) if place.is_dir())).free

    def _why(self) -> str:
        return "this HF_TOKEN may not read it" if self._token else "no HF_TOKEN is set"
