"""One model call through litellm, as a smolagents Model. Knows providers and their errors; knows nothing of the work.

An answer is streamed: what has come so far is shown, a stop is heard within POLL, and a line that falls silent is cut and
asked again. Only a whole answer counts.
"""

import random
import re
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import httpx
from smolagents import Tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import TokenUsage

from agent.aside import POLL, begin, wait_for
from agent.providers import BrainError, Kind, key_for
from agent.servers import schema_of
from agent.settings import Settings
from agent.windows import window_of

ATTEMPTS = 6
SOON, LATER = 0.5, 5.0  # seconds before the second try, after a fault and at a limit; doubled after each
LONGEST_WAIT = 600.0  # seconds; a provider that says more is out of quota
CLAUDES = ("anthropic/", "claude", "openrouter/anthropic/", "bedrock/anthropic")  # they need marks for their cache
CACHED = {"cache_control": {"type": "ephemeral"}}
TOO_LONG = (
    "context length",
    "context_length",
    "maximum context",
    "prompt is too long",
    "too many tokens",
    "context window",
)
NO_CREDIT = ("insufficient_quota", "exceeded your current quota", "credit balance", "billing", "payment required")


class Trouble(Exception):
    """What went wrong with one try: its kind, and the seconds before a second one; None where that cannot help.

    `asked` are the seconds that the provider asks to wait: they come first.
    """

    def __init__(self, kind: Kind, what: str, again: float | None = None, asked: float | None = None):
        super().__init__(what)
        self.kind: Kind = kind
        self.again, self.asked = again, asked

    def pause(self, attempt: int) -> float | None:
        """Seconds until the next try: as the provider asks, or doubled each time with up to a half more."""
        if self.again is None or attempt >= ATTEMPTS:
            return None
        return self.again * 2 ** (attempt - 1) * random.uniform(1, 1.5) if self.asked is None else self.asked


class Brain(Model):
    """A hosted or local chat model. `generate` blocks, but leaves within POLL when `check` raises."""

    def __init__(
        self,
        model: str,
        settings: Settings,
        check: Callable[[], None],
        show: Callable[[str, str], None] = lambda text, thought: None,
        tell: Callable[[str, str], None] = lambda what, advice: None,
        effort: str | None = None,
    ):
        """`show` gets the text and the thought so far; `tell` gets what went wrong on the way, and what is done about it.

        Raises:
            BrainError: There is no key for the model.
        """
        super().__init__(model_id=model)
        self._model, self._settings, self._effort = model, settings, effort
        self._key = key_for(model, settings.keys, settings.api_base)
        self._check, self._show, self._tell = check, show, tell

    @cached_property
    def window(self) -> int:
        """Tokens that a request may have. Asked once, where the person did not say it."""
        own = self._settings.window
        return own or window_of(self._model, self._settings.api_base, self._key, _known(self._model))

    def generate(
        self,
        messages: list[Any],
        *_: Any,
        tools_to_call_from: list[Tool] | None = None,
        max_tokens: int | None = None,
        **__: Any,
    ) -> ChatMessage:
        """One answer. `messages` are in the protocol's own shape. Raises BrainError; Stopped from `check`."""
        started, attempt = time.monotonic(), 1
        request = {"messages": self._marked(messages), "max_tokens": max_tokens}
        request["tools"] = [schema_of(tool) for tool in tools_to_call_from or []] or None
        while True:
            try:
                return self._message(self._try(request), time.monotonic() - started)
            except Trouble as trouble:
                seconds = trouble.pause(attempt)
                if seconds is None:
                    raise BrainError(self._sentence(trouble), trouble.kind) from trouble
                self._tell(f"{self._model} {trouble}.", f"It is asked again in {seconds:.0f} s.")
            self._rest(seconds)
            attempt += 1

    def _marked(self, messages: list[Any]) -> list[Any]:
        """The messages with the marks that Claude's prompt cache wants, or without what others do not know."""
        if self._model.startswith(CLAUDES):
            marked = {0, len(messages) - 1, max(0, len(messages) - 3)}
            return [message | CACHED if i in marked else message for i, message in enumerate(messages)]
        return [{k: v for k, v in message.items() if k != "thinking_blocks"} for message in messages]

    def _try(self, request: dict[str, Any]) -> Any:
        """One try, in a thread of its own: a hanging provider holds up nobody. Raises Trouble."""
        stream, patience = _Stream(), self._settings.patience

        def look() -> None:
            self._check()
            self._show(stream.text, stream.thought)
            if stream.heard and time.monotonic() - stream.heard > patience:
                raise Trouble("busy", f"said nothing for {patience:g} s", SOON)

        answer = begin(stream.read, self._open, request)
        try:
            wait_for([answer], look)
        finally:
            stream.left.set()
        return answer.result()

    def _open(self, request: dict[str, Any]) -> Any:
        import litellm  # 3 s and 180 MB: only a session with a hosted brain pays for it

        litellm.drop_params = True
        litellm.suppress_debug_info = True
        # or it counts the whole past again at each call; providers say what they count
        litellm.disable_token_counter = True
        litellm.disable_streaming_logging = True
        messages = request["messages"]
        if self._model.startswith("openai/"):  # its client would walk through the whole past at each call
            request = request | {"messages": messages[:1], "extra_body": {"messages": messages}}
        return litellm.completion(
            model=self._model,
            **request,
            api_key=self._key,
            api_base=self._settings.api_base,
            reasoning_effort=self._effort,  # dropped by litellm for a model that knows no efforts
            timeout=httpx.Timeout(self._settings.patience, connect=20.0),
            stream=True,
            stream_options={"include_usage": True},
            max_retries=0,  # `generate` does it, by kind of trouble: a refused key is refused once
        )

    def _rest(self, seconds: float) -> None:
        self._show("", "")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(POLL, left))

    def _sentence(self, trouble: Trouble) -> str:
        where = f"{self._model} at {self._settings.api_base}" if self._settings.api_base else self._model
        todo = {
            "auth": "check the key and resume the session",
            "quota": "add credit or choose another model, then resume",
            "busy": "check the network and the provider, then resume",
            "overflow": "choose a model with a larger window",
            "refused": "take the last turn back or say it differently",
            "setup": "choose another model, then resume",
            "failed": "choose another model or resume when it is back",
        }[trouble.kind]
        return f"{where} {trouble}; {todo}."

    def _message(self, response: Any, seconds: float) -> ChatMessage:
        message, finish = response.choices[0].message, response.choices[0].finish_reason
        usage = response.usage
        details = getattr(usage, "prompt_tokens_details", None)
        about = {
            "model": self._model,
            "seconds": round(seconds, 3),
            "dollars": self._price(response),
            "thought": message.get("reasoning_content") or "",
            "finish": finish or "",
            "blocks": tuple(message.get("thinking_blocks") or ()),
            "cached": getattr(details, "cached_tokens", None),
        }
        return ChatMessage(
            role=MessageRole.ASSISTANT,
            content=message.content or "",
            tool_calls=[call.model_dump() for call in message.tool_calls or []],  # type: ignore[arg-type]
            raw=about,
            token_usage=TokenUsage(usage.prompt_tokens, usage.completion_tokens) if usage else None,
        )

    def _price(self, response: Any) -> float | None:
        """Dollars of an answer; None when nobody knows the price: unknown is not free."""
        usage = response.usage
        if usage is None:
            return None
        if self._settings.prices is not None:
            dollars_in, dollars_out = self._settings.prices
            return (usage.prompt_tokens * dollars_in + usage.completion_tokens * dollars_out) / 1e6
        import litellm

        try:
            return litellm.completion_cost(response, model=self._model) or None
        except litellm.exceptions.ModelNotMappedError:
            return None


class _Stream:
    """One answer as it comes in, read by a thread and watched by another."""

    def __init__(self) -> None:
        self.left = threading.Event()  # nobody waits for the answer any more
        self.heard: float | None = None  # when the last word came, once the question is out
        self.text = self.thought = ""

    def read(self, open_stream: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> Any:
        """The whole answer. Raises Trouble."""
        import litellm
        from openai import OpenAIError  # the root of litellm's tree of errors

        stream: Any = None
        chunks, self.heard = [], time.monotonic()
        try:
            stream = open_stream(request)
            for chunk in stream:
                self.heard = time.monotonic()
                chunks.append(chunk)
                self._take(chunk)
                if self.left.is_set():
                    break
        except (OpenAIError, httpx.HTTPError) as error:
            raise _trouble(error) from error
        finally:
            _close(stream)
        if stream.received_finish_reason is None:  # litellm would make one up
            raise Trouble("busy", "was cut off before the end of its answer", SOON)
        counted = any(chunk.get("usage") for chunk in stream.chunks)  # litellm would guess
        messages = request["messages"]
        response: Any = litellm.stream_chunk_builder(chunks, messages=messages, count_prompt_tokens=lambda: 0)
        if not (counted and response.usage.prompt_tokens):
            response.usage = None
        return response

    def _take(self, chunk: Any) -> None:
        if chunk.choices:
            delta = chunk.choices[0].delta
            self.text += delta.content or ""
            self.thought += getattr(delta, "reasoning_content", None) or ""


def _close(stream: Any) -> None:
    """Give the connection back now.

    litellm stops reading at the end of an answer and leaves the rest to the garbage collector, which may run while the
    same thread holds the lock of the connection pool: then every later call hangs.
    """
    inner = getattr(stream, "completion_stream", None)
    for layer in (inner, getattr(inner, "response_iterator", None), getattr(inner, "streaming_response", None)):
        close = getattr(layer, "close", None)
        if close is not None:
            close()


def _trouble(error: Exception) -> Trouble:
    """What an error of litellm, its client or the line means for us."""
    from litellm import exceptions as known

    said = _said(error)
    plain = str(error).lower()
    asked = _retry_after(error)
    if isinstance(error, known.ContextWindowExceededError) or (
        isinstance(error, known.BadRequestError) and any(words in plain for words in TOO_LONG)
    ):
        return Trouble("overflow", f"says that the request does not fit its window ({said})")
    if isinstance(error, known.ContentPolicyViolationError):
        return Trouble("refused", f"refused the content ({said})")
    if isinstance(error, known.AuthenticationError | known.PermissionDeniedError):
        return Trouble("auth", "refused the key")
    if isinstance(error, known.PaymentRequiredError) or (
        isinstance(error, known.RateLimitError | known.BadRequestError) and any(words in plain for words in NO_CREDIT)
    ):
        return Trouble("quota", f"says that there is no credit left ({said})")
    if isinstance(error, known.RateLimitError):
        if asked is not None and asked > LONGEST_WAIT:
            return Trouble("quota", f"is rate limited for another {asked / 60:.0f} min")
        return Trouble("busy", "is rate limited", LATER, asked)
    if isinstance(error, known.NotFoundError):
        return Trouble("setup", f"is not there ({said})")
    status = getattr(error, "status_code", None)
    if isinstance(error, known.APIConnectionError | httpx.HTTPError | known.Timeout):
        return Trouble("busy", f"could not be reached ({said})", SOON, asked)
    if isinstance(status, int) and (status >= 500 or status == 408):
        return Trouble("busy", f"failed ({status}: {said})", SOON, asked)
    return Trouble("failed", f"cannot take the request ({said})")


def _said(error: Exception) -> str:
    """The provider's own words in an error, without what litellm puts around them."""
    text = str(getattr(error, "message", error))
    inner = re.findall(r'"message": ?"((?:[^"\\]|\\.)*)"', text)
    words = inner[-1] if inner else re.sub(r"\b(litellm\.)?\w*(Error|Exception|Timeout)\b( - |: ?)", "", text)
    return " ".join(words.split())[:200].rstrip(". ") or type(error).__name__


def _retry_after(error: Exception) -> float | None:
    """Seconds that the provider asks to wait; None when it does not say."""
    response = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None) or getattr(response, "headers", None) or {}
    text = headers.get("retry-after") or headers.get("llm_provider-retry-after")
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None  # a date: rare, and our own wait is good enough


def _known(model: str) -> int | None:
    """The window that litellm knows for a model, in tokens."""
    import litellm

    try:
        return litellm.get_model_info(model).get("max_input_tokens")
    except litellm.exceptions.ModelNotMappedError:
        return None
