"""Take secrets out of text before it is stored. Pure. Knows shapes of tokens and the values it is told, and no others.

It runs while the log is locked, on whatever a tool printed, so every pattern is linear in the text: it starts at a
literal or at an edge, and what it looks ahead over is bounded.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

MASK = "[redacted]"
MIN_SECRET = 8  # characters; shorter values would mask ordinary words

# A token starts at an edge: no letter or digit before it, but for an escaped line break (\n) or a percent escape (%3D).
_EDGE = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
# Whole tokens by their published prefixes. A body of lower-case words is a name: hf_raise_for_status, sk-learn.
_TOKENS = re.compile(
    _EDGE
    + r"""(?:
        hf_[A-Za-z0-9]{20,}                                                  # Hugging Face: user
      | hf_(?:oauth|jwt|api)_(?=[a-z_.\-]{0,60}[A-Z0-9])[A-Za-z0-9_.\-]{16,} # OAuth, JWT
      | api_org_[A-Za-z0-9]{20,}                                             # Hugging Face: organisation
      | (?<!-)sk-(?=[a-z_\-]{0,60}[A-Z0-9])[A-Za-z0-9_\-]{16,}               # OpenAI, Anthropic, OpenRouter, DeepSeek
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}
      | glpat-[A-Za-z0-9_\-]{16,}
      | gsk_[A-Za-z0-9]{20,} | r8_[A-Za-z0-9]{20,} | xai-[A-Za-z0-9]{20,} | pplx-[A-Za-z0-9]{20,}
      | (?:AKIA|ASIA)[A-Z0-9]{16}
      | AIza[A-Za-z0-9_\-]{30,} | ya29\.[A-Za-z0-9_\-]{20,}
      | xox[abeoprs]-[A-Za-z0-9\-]{10,} | xapp-[A-Za-z0-9\-]{10,}
      | (?<!-)eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{5,} # JWT
      | npm_[A-Za-z0-9]{30,} | pypi-[A-Za-z0-9_\-]{30,}
      | dop_v1_[a-f0-9]{40,} | sq0[a-z]{3}-[A-Za-z0-9_\-]{20,} | (?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}
    )""",
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_BEARER = re.compile(r"(?i)(\bbearer\s{1,8})(?=[^\s\d]{0,60}(?-i:[A-Z0-9]))[A-Za-z0-9._~+/\-]{12,}=*")
_AUTHORIZATION = re.compile(
    r"""(?i)(authorization\\{0,8}["']?\s{0,8}[:=]\s{0,8}\\{0,8}["']?(?:basic|bearer|token)\s{1,8})[^\s"'\\,;]{6,}"""
)
_URL_LOGIN = re.compile(r"""(://[^\s/:@"'<>?#]*:)[^\s/@"'<>?#]+(@)""")
_URL_QUERY = re.compile(
    r"""(?i)([?&](?:[\w\-]{0,40}(?:token|api_?key|signature|secret|password)|key|sig|code)=)[^&\s"'#]{6,}"""
)

# Names of secrets. Any prefix may stand before them, and is not looked at.
_NAMES = (
    r"(?:api[_\-]?key|access[_\-]?key|secret(?:[_\-]?access)?(?:[_\-]?key)?|password|passwd"
    r"|(?:auth|access|refresh|write|session|hf|hub)[_\-]?token|(?-i:_TOKEN))"
)
_QUOTE = r"""\\{0,8}["']?"""
_PLAIN = r"""[^\s"'\\,;}&<]"""  # no "<": a tokenizer's special token is no secret
# NAME=value, NAME: value, "name": "value", \"name\": \"value\"; in code, where a secret comes from is no secret.
_NAMED = re.compile(
    rf"(?i)({_NAMES}{_QUOTE}\s{{0,8}}[:=]\s{{0,8}}\\{{0,8}})"
    r"""(?!["']?(?:Optional\b|None\b|(?:os|self|settings|config|args|tokenizer)\.))"""
    rf"""(?:(["'])(?!<)[^"'\\\n]{{6,}}|{_PLAIN}{{6,}})"""
)
_FLAG = re.compile(rf"(?i)((?<![\w\-])--(?:[a-z0-9_\-]{{0,40}}{_NAMES}|token)[ =]{{1,8}}){_PLAIN}{{6,}}")
# A token of any other name (pad_token, first_token) is a secret when its value looks random: long, letters and digits.
_RANDOM = (
    r"(?=[A-Za-z._~+/=\-]{0,200}\d)(?=[\d._~+/=\-]{0,200}[A-Za-z])"
    r"""(?![\d.eE+\-]{1,60}(?:[\s"',;}\]]|$))[A-Za-z0-9._~+/=\-]{16,}"""
)
_OTHER = re.compile(rf"((?:(?<![A-Za-z])(?:token|TOKEN)|Token){_QUOTE}\s{{0,8}}[:=]\s{{0,8}}{_QUOTE}){_RANDOM}")

_SECRET_NAME = re.compile(rf"(?i){_NAMES}\Z")


def redact(text: str, known: Iterable[str] = ()) -> str:
    """`text` with every secret replaced by MASK, and half characters (lone surrogates), which no file can hold, by "?".

    Redacting twice changes nothing more.

    Args:
        known: Exact values to remove wherever they stand, e.g. the keys of this process.
    """
    text = text.encode("utf-8", "replace").decode()
    for value in known:
        if len(value) >= MIN_SECRET:
            text = text.replace(value, MASK).replace(json.dumps(value)[1:-1], MASK)
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _TOKENS.sub(MASK, text)
    text = _URL_LOGIN.sub(rf"\1{MASK}\2", text)
    for pattern in (_BEARER, _AUTHORIZATION, _URL_QUERY, _FLAG, _OTHER):
        text = pattern.sub(rf"\1{MASK}", text)
    return _NAMED.sub(lambda found: f"{found[1]}{found[2] or ''}{MASK}", text)


def redact_tree(value: Any, known: Iterable[str] = ()) -> Any:
    """The same for every string, key included, inside lists, tuples and dictionaries; a secret's name masks its value."""
    known = tuple(known)
    if isinstance(value, str):
        return redact(value, known)
    if isinstance(value, dict):
        return {redact(str(k), known): _redact_entry(str(k), v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_tree(v, known) for v in value]
    return value


def _redact_entry(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if _SECRET_NAME.search(name):
        return _masked(value)
    if isinstance(value, str) and name.lower().endswith("token") and _OTHER.fullmatch(f"token={value}"):
        return MASK
    return redact_tree(value, known)


def _masked(value: Any) -> Any:
    """The same tree with every string in it masked, but for a tokenizer's special token: EOS_TOKEN is "<...>"."""
    if isinstance(value, dict):
        return {k: _masked(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(v) for v in value]
    return MASK if isinstance(value, str) and value and not value.startswith("<") else value
