"""What people and metrics give us, in a form that can be used: numbers for the log, and paths."""

from pathlib import Path
from typing import Any

from lab.errors import BadInput
from recipes.job import visible as finite


def readable(value: Any) -> Any:
    """The value with each number inside it `finite`: itself, or "nan", "inf", "-inf"."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, dict):
        return {str(k): readable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(v) for v in value]
    return value


def given_path(text: str) -> Path:
    """A path that a person wrote, with ~ read as their home. Raises BadInput for one that no system could have."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError) as error:  # no such person, a NUL, a name that is too long
        raise BadInput(f"{text[:80]!r} is no path that can be used ({error}); give another one.") from error
    return path
