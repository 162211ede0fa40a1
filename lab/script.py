"""A training script of the workspace, before it is launched: read, looked through, and kept beside its job."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab.errors import BadInput
from lab.findings import Finding
from lab.integrity import Index
from lab.preflight import TOLERATED
from recipes.job import write_whole

OUTPUT = "JOB_OUTPUT"  # recipes.script: where a script leaves its model


def read(config: Mapping[str, Any]) -> str | None:
    """The text of a config's script; None where it has none. Raises BadInput for one that is no Python."""
    if "script" not in config:
        return None
    path = Path(config["script"])
    try:
        source = path.read_text(encoding="utf-8")
        compile(source, path.name, "exec", dont_inherit=True)
    except OSError as error:
        raise BadInput(
            f"The script {path.name!r} cannot be read ({error.strerror}); write it with write_file."
        ) from error
    except SyntaxError as error:
        raise BadInput(f"Line {error.lineno} of {path.name} is no Python: {error.msg}.") from error
    except ValueError as error:  # bytes that are no text, or a null byte
        raise BadInput(f"{path.name} is no Python: {error}.") from error
    return source


def look(source: str | None, index: Index) -> list[Finding]:
    """Whether a script carries items of the evaluation in itself, as data must not, and whether it knows where its model goes.

    What it makes at run time, nobody sees.
    """
    if source is None:
        return []
    found, hits = [], len(index.hits(source))
    if OUTPUT not in source:  # it may have made up the very path: that is no reason to refuse it
        what = (
            f"The script never names {OUTPUT}: it would train for its hours, and end as failed without a model there."
        )
        advice = f"Save model and tokenizer in the folder os.environ[{OUTPUT!r}], with save_pretrained."
        found.append(Finding("warn", "no_output", what, advice, {"missing": OUTPUT}))
    if not hits:
        return found
    what = f"The script contains {hits} items of the evaluation."
    advice = "Take them out: it may learn from its data file only."
    return [
        *found,
        Finding("stop" if hits > TOLERATED else "warn", "contaminated_script", what, advice, {"items": hits}),
    ]


def hashed(source: str | None) -> dict[str, str]:
    """The setting that holds the trainer to this text."""
    return {} if source is None else {"script_sha256": sha256(source.encode()).hexdigest()}


def keep(source: str | None, folder: Path) -> dict[str, str]:
    """Store it in a job's folder; returns the setting that names it. Raises OSError."""
    if source is None:
        return {}
    path = folder / "script.py"
    write_whole(path, source)
    return {"script": str(path)}
