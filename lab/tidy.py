"""Numbers as the log can hold them: a float that is not finite becomes its name, and is never hidden."""

from math import isfinite
from typing import Any


def finite(value: float) -> float | str:
    """The value, or "nan", "inf", "-inf"."""
    return value if isfinite(value) else str(float(value))


def readable(value: Any) -> Any:
    """The same inside lists and dictionaries."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, dict):
        return {str(k): readable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(v) for v in value]
    return value
