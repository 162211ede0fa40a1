"""How many tokens a model's request may have: as the server says, as litellm knows, or a cautious default."""

import httpx

DEFAULT = 190_000  # tokens; nobody gains from longer requests, which cost more and are read less well
TIMEOUT = 3.0  # seconds for a server's answer


def window_of(model: str, api_base: str | None, key: str, known: int | None) -> int:
    """The window in tokens, at most DEFAULT. A server of the person's own is asked, others are known or not."""
    told = _asked(api_base, model, key) if api_base else None
    return min(told or known or DEFAULT, DEFAULT)


def _asked(api_base: str, model: str, key: str) -> int | None:
    """What an OpenAI-compatible server says of a model: vLLM, llama.cpp and LM Studio have a field each."""
    base, name = api_base.rstrip("/"), model.split("/", 1)[-1]
    headers = {"authorization": f"Bearer {key}"}
    try:
        with httpx.Client(timeout=TIMEOUT, headers=headers) as client:
            entries = client.get(f"{base}/models").json().get("data", [])
            entry = next((e for e in entries if e.get("id") == name), entries[0] if len(entries) == 1 else {})
            for field in ("max_model_len", "context_length", "max_context_length", "loaded_context_length"):
                if isinstance(entry.get(field), int) and entry[field] > 0:
                    return entry[field]
            settings = client.get(f"{base.removesuffix('/v1')}/props").json().get("default_generation_settings", {})
            size = settings.get("n_ctx")
            return size if isinstance(size, int) and size > 0 else None
    except (httpx.HTTPError, ValueError, AttributeError):
        return None  # it does not say; an overflow will
