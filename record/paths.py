"""Take this machine's paths out of text that others will read. Pure. Knows absolute paths, not names of people or files."""

import re

# A path starts where no word, dot or slash stands before it: "a/b", "./a" and "https://a/b" are none.
_EDGE = r"(?<![\w.~/\\])"
_HOME = re.compile(_EDGE + r"/(?:(?:home|Users)/[^/\s\"'`:;,<>|()\\]+|root)(?![\w./-])")
_ABSOLUTE = re.compile(_EDGE + r"~?/(?:[^/\s\"'`:;,<>|()\[\]{}\\]+/)+([^/\s\"'`:;,<>|()\[\]{}\\]*)")


def without_paths(text: str) -> str:
    """A home becomes "~", and of any other absolute path only the last name stays."""
    return _ABSOLUTE.sub(lambda m: f"…/{m[1]}" if m[1] else "…", _HOME.sub("~", text))
