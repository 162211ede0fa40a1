"""Which key a model needs, and whether it is there. Imports nothing heavy: the doors ask before a session is opened."""

from collections.abc import Mapping
from typing import Literal

CLAUDE = "anthropic/claude-sonnet-5-5"  # the current Sonnet, November 2026
OPEN = "huggingface/openai/gpt-oss-120b"  # through Hugging Face's Inference Providers, whichever is fastest
KEYS = {  # a model id's beginning -> the name of its key
    "anthropic/": "ANTHROPIC_API_KEY",
    "claude": "ANTHROPIC_API_KEY",
    "huggingface/": "HF_TOKEN",
    "openrouter/": "OPENROUTER_API_KEY",
    "gemini/": "GEMINI_API_KEY",
    "groq/": "GROQ_API_KEY",
    "mistral/": "MISTRAL_API_KEY",
    "deepseek/": "DEEPSEEK_API_KEY",
    "openai/": "OPENAI_API_KEY",
    "gpt-": "OPENAI_API_KEY",
}
Kind = Literal["setup", "auth", "quota", "busy", "overflow", "refused", "failed"]


class SettingsError(Exception):
    """A person must act: one sentence, exit code 2."""


class BrainError(SettingsError):
    """The provider gives no answer: one sentence on why, and what a person can do.

    `kind`: setup (a model or key that cannot be), auth (the key is refused), quota (no credit), busy (limits, outages and
    cut lines, after all tries), overflow (the window is too small), refused (the content), failed (anything else).
    """

    def __init__(self, text: str, kind: Kind = "failed"):
        super().__init__(text)
        self.kind: Kind = kind


def key_for(model_id: str, keys: Mapping[str, str], api_base: str | None) -> str:
    """The key for a model; for a server of the person's own, the one they set for it, or a placeholder.

    A provider's key goes to that provider only, never to `api_base`. Raises BrainError.
    """
    if api_base:
        return keys.get("ML_INTERN_API_KEY", "none")
    name = next((name for start, name in KEYS.items() if model_id.startswith(start)), None)
    if name is None:
        example = f"The model {model_id!r} names no known provider; write it like {CLAUDE}."
        raise BrainError(example, "setup")
    if name not in keys:
        raise BrainError(f"{model_id} needs {name} in the environment; set it, or use --driver autopilot.", "setup")
    return keys[name]


def default_driver(keys: Mapping[str, str]) -> str:
    """The driver of new sessions where nobody chose one: the best that a key is there for."""
    if "ANTHROPIC_API_KEY" in keys:
        return CLAUDE
    return OPEN if "HF_TOKEN" in keys else "autopilot"


def check_driver(driver: str, keys: Mapping[str, str], api_base: str | None) -> None:
    """Raise BrainError for a driver that could not answer even once."""
    if driver != "autopilot":
        key_for(driver, keys, api_base)
