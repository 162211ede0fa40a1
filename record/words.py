"""Numbers as people read them."""


def duration(seconds: float) -> str:
    """Seconds below 90, minutes below 90, hours beyond."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
