"""What the two protocols share on the wire: server-sent events, and which of them carry a piece of the answer."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """One event of a stream."""

    data: bytes
    piece: bool = False  # whether it carries a part of the answer, and not its frame


def event(payload: dict[str, Any], piece: bool = False, name: str | None = None) -> Part:
    """One server-sent event with a JSON payload."""
    head = f"event: {name}\n" if name else ""
    return Part(f"{head}data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode(), piece)


def split(text: str, pieces: int) -> list[str]:
    """A text in at most so many pieces, none of them empty."""
    size = max(1, -(-len(text) // pieces))
    return [text[i : i + size] for i in range(0, len(text), size)]
