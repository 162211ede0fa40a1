"""What a scripted model does when it is asked: one turn of a script. Says nothing of the wire; both protocols read it.

says("I look.", ("shell", {"command": "ls"}), thought="Hm.", signature="sig", tokens=(900, 20), cached=800, pieces=5)
slow(says("one two three", pieces=3), 0.2)            seconds before each piece
cut(says("one two three", pieces=3), after_pieces=2)  the connection breaks there
cut(slow(huge(), 0.01), after_bytes=10_000)           behaviours nest
fails(429, "slow down", retry_after=0.2)              an answer without a model
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

Ending = Literal["stop", "tool_calls", "length", "content_filter"]  # in the words of chat-completions


@dataclass(frozen=True)
class Wanted:
    """A call that the model makes. `arguments` is what stands on the wire, JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Failure:
    """An error of the provider, in the protocol's shape."""

    status: int
    text: str
    code: str | None = None  # of chat-completions, like its type; None: the usual one for the status
    kind: str | None = None
    retry_after: float | None = None  # seconds
    anthropic: "Failure | None" = None  # where Anthropic says it otherwise


@dataclass(frozen=True)
class Break:
    """How an answer stops short: after so many pieces, or bytes of its body."""

    how: Literal["cut", "ends", "stalls", "error"]
    pieces: int | None = None
    bytes: int | None = None
    failure: Failure | None = None  # of "error": said in the middle of the stream


@dataclass(frozen=True)
class Reply:
    """What the model says, and how it comes over the wire."""

    text: str = ""
    calls: tuple[Wanted, ...] = ()
    thought: str = ""
    signature: str = ""
    redacted: str = ""  # a thought that only Anthropic can read
    tokens: tuple[int, int] | None = (11, 7)  # in (those of the cache are part of them), out; None: not reported
    cached: int = 0  # tokens read from the provider's cache
    written: int = 0  # tokens written to it; only Anthropic reports them
    pieces: int = 3  # in which each text, thought and argument comes
    ending: Ending = "stop"
    choices: int = 1  # 0: an answer that holds none
    between: float = 0.0  # seconds before each piece
    stops: Break | None = None


@dataclass(frozen=True)
class Verbatim:
    """Whatever stands between us and the provider: a proxy's page, half a document."""

    status: int
    body: bytes
    content_type: str = "text/html"


Turn = Reply | Failure | Verbatim


def says(text: str = "", *calls: tuple[str, dict[str, Any] | str], **how: Any) -> Reply:
    """An assistant message with calls, each (name, arguments); arguments as a str go out as they are.

    `how` are fields of Reply: thought, signature, redacted, tokens, cached, written, pieces, ending.
    """
    made = [
        Wanted(f"t{i}", name, given if isinstance(given, str) else json.dumps(given))
        for i, (name, given) in enumerate(calls)
    ]
    reply = Reply(text=text, calls=tuple(made), ending="tool_calls" if made else "stop")
    return replace(reply, **how)


def raw_arguments(name: str, arguments: str, ending: Ending = "length") -> Reply:
    """A call whose arguments are broken or truncated JSON; by default because the answer grew too long."""
    return says("", (name, arguments), ending=ending)


def huge(size: int = 2**20, pieces: int = 64) -> Reply:
    """A text of `size` bytes."""
    return says("word " * (size // 5) + "." * (size % 5), pieces=pieces)


def empty() -> Reply:
    """An answer with nothing in it: `choices: []`, `content: []`."""
    return Reply(choices=0)


def refusal(text: str = "") -> Reply:
    """The model declines: finish_reason content_filter, stop_reason refusal."""
    return says(text, ending="content_filter")


def slow(turn: Reply, seconds: float) -> Reply:
    """Wait before each piece."""
    return replace(turn, between=seconds)


LONG = says("This answer comes in eight pieces, if all goes well.", pieces=8)


def cut(
    turn: Reply = LONG, *, after_pieces: int | None = None, after_bytes: int | None = None, clean: bool = False
) -> Reply:
    """The connection closes there; `clean`: as if all had been said (what a proxy does), but without an ending."""
    return replace(turn, stops=Break("ends" if clean else "cut", after_pieces, after_bytes))


def stalls(turn: Reply = LONG, *, after_pieces: int | None = None) -> Reply:
    """Headers (and so many pieces), and then nothing until the client goes away."""
    return replace(turn, stops=Break("stalls", after_pieces, bytes=0 if after_pieces is None else None))


def breaks(turn: Reply = LONG, *, after_pieces: int = 2, status: int = 529, text: str = "Overloaded") -> Reply:
    """An error in the middle of a stream that began with 200. Asked without a stream, it is a plain error."""
    return replace(turn, stops=Break("error", after_pieces, failure=Failure(status, text)))


def fails(status: int, text: str, **how: Any) -> Failure:
    """An HTTP error in the protocol's shape. `how`: retry_after (seconds, a header); code and kind, of OpenAI."""
    return Failure(status, text, **how)


def no_credit() -> Failure:
    """The account is empty: 429 insufficient_quota at OpenAI; Anthropic says it in other words, with a 400."""
    text = "You exceeded your current quota, please check your plan and billing details."
    low = fails(400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.")
    return fails(429, text, code="insufficient_quota", kind="insufficient_quota", anthropic=low)


def overflow(asked: int = 150_000, limit: int = 128_000) -> Failure:
    """400: the request is longer than the model's window, as each provider words it."""
    text = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {asked} tokens. "
        "Please reduce the length of the messages."
    )
    other = fails(400, f"prompt is too long: {asked} tokens > {limit} maximum")
    return fails(400, text, code="context_length_exceeded", anthropic=other)


def forbidden() -> Failure:
    """400: the request itself is against the provider's policy."""
    text = "Your request was rejected as a result of our safety system. It may violate our content policy."
    other = fails(400, "Output blocked by content filtering policy")
    return fails(400, text, code="content_policy_violation", anthropic=other)


def proxy_page(status: int = 502) -> Verbatim:
    """The HTML of a proxy that cannot reach the provider."""
    return Verbatim(status, b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
