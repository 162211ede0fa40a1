"""Take secrets out of text before it is stored. Pure. Knows shapes of tokens and the values it is told; cannot know others."""

import json
import re
from collections.abc import Iterable
from typing import Any

MASK = "[redacted]"
MIN_SECRET = 8  # characters; shorter values would mask ordinary words

# Whole tokens by their published prefixes.
_TOKENS = re.compile(
    r"""
    \b(?:
        hf_(?:oauth_|jwt_|api_)?[A-Za-z0-9_.\-]{16,}        # Hugging Face: user, OAuth, JWT
      | sk-(?:ant-|proj-|or-(?:v1-)?|svcacct-|admin-)?[A-Za-z0-9_\-]{16,}  # Anthropic, OpenAI, OpenRouter
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}
      | glpat-[A-Za-z0-9_\-]{16,}
      | gsk_[A-Za-z0-9]{20,} | r8_[A-Za-z0-9]{20,} | xai-[A-Za-z0-9]{20,} | pplx-[A-Za-z0-9]{20,}
      | (?:AKIA|ASIA)[A-Z0-9]{16}
      | AIza[A-Za-z0-9_\-]{30,} | ya29\.[A-Za-z0-9_\-]{20,}
      | xox[abeoprs]-[A-Za-z0-9\-]{10,} | xapp-[A-Za-z0-9\-]{10,}
      | eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{5,}     # JWT
      | npm_[A-Za-z0-9]{30,} | pypi-[A-Za-z0-9_\-]{30,}
      | dop_v1_[a-f0-9]{40,} | sq0[a-z]{3}-[A-Za-z0-9_\-]{20,} | (?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}
    )""",
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/\-]{12,}=*")
_URL_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]*://[^\s/:@]*:)[^\s/@]+(@)")
_URL_QUERY = re.compile(r"(?i)([?&](?:\w*token|api_?key|key|signature|sig|secret|password|code)=)[^&\s\"'#]{6,}")
# NAME=value, "name": "value" and \"name\": \"value\" where the name says that it is a secret.
_NAMED = re.compile(
    r"""(?ix)
    (?P<name> \b[A-Z0-9_\-]* (?:api_?key|secret(?:_?key|_?access_?key)?|access_?key|password|passwd
        |auth_?token|access_?token|refresh_?token|write_?token|hf_?token|_token) \b )
    (?P<sep> \\?["']? \s* [:=] \s* \\?["']? )
    (?P<value> [^\s"'\\,;}&<]{6,} )     # no "<": a tokenizer's eos_token is no secret""",
)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """`text` with every secret replaced by MASK.

    Args:
        known: Exact values to remove wherever they stand, e.g. the keys of this process.
    """
    for value in known:
        if len(value) >= MIN_SECRET:
            text = text.replace(value, MASK).replace(json.dumps(value)[1:-1], MASK)
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _TOKENS.sub(MASK, text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    text = _URL_LOGIN.sub(rf"\1{MASK}\2", text)
    text = _URL_QUERY.sub(rf"\1{MASK}", text)
    return _NAMED.sub(lambda m: f"{m['name']}{m['sep']}{MASK}", text)


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
    if isinstance(value, str) and _NAMED.fullmatch(f"{name}={value}"):
        return MASK
    return redact_tree(value, known)
