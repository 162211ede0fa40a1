"""One model call through litellm, as a smolagents Model. Knows providers and their errors; knows nothing of the work.

An answer is streamed: what has come so far is shown, a stop is heard within POLL, and a line that falls silent is cut and
asked again. Only a whole answer counts.
"""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

import httpx
from smolagents import Tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import TokenUsage
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from agent.providers import BrainError, Kind, key_for
from agent.servers import schema_of
from agent.windows import window_of

ATTEMPTS = 6
FIRST_WAIT = {"limits": 5.0, "fault": 0.5}  # seconds, doubled after each try; a provider's own Retry-After comes first
LONGEST_WAIT = 600.0  # seconds; a provider that says more is out of quota
POLL = 0.05  # seconds between looks at the stop while an answer is awaited
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


@dataclass(frozen=True)
class Access:
    """Where a model is asked, with which key, and what is known of it from the person."""

    model: str
    keys: dict[str, str] = field(repr=False)
    api_base: str | None = None
    effort: str | None = None
    window: int | None = None  # tokens; None asks
    prices: tuple[float, float] | None = None  # dollars for a million tokens in and out; None asks litellm
    patience: float = 300.0  # seconds without a word after which a line counts as cut


class Trouble(Exception):
    """What went wrong with one try: its kind, whether another try can help, and how long the provider asks to wait."""

    def __init__(self, kind: Kind, what: str, again: bool = False, limits: bool = False, wait: float | None = None):
        super().__init__(what)
        self.kind: Kind = kind
        self.again, self.limits, self.wait = again, limits, wait


class Brain(Model):
    """A hosted or local chat model. `generate` blocks, but leaves within POLL when `check` raises."""

    def __init__(
        self,
        access: Access,
        check: Callable[[], None],
        show: Callable[[str, str], None] = lambda text, thought: None,
        tell: Callable[[str, str], None] = lambda what, advice: None,
    ):
        """`show` gets the text and the thought so far; `tell` gets what went wrong on the way, and what is done about it.

        Raises:
            BrainError: There is no key for the model.
        """
        super().__init__(model_id=access.model)
        self._access = access
        self._key = key_for(access.model, access.keys, access.api_base)
        self._check, self._show, self._tell = check, show, tell
        self._window = access.window

    @property
    def window(self) -> int:
        """Tokens that a request may have. Asked once, where the person did not say it."""
        if self._window is None:
            self._window = window_of(self._access.model, self._access.api_base, self._key, _known(self._access.model))
        return self._window

    def generate(
        self,
        messages: list[Any],
        stop_sequences: list[str] | None = None,
        response_format: dict[str, str] | None = None,
        tools_to_call_from: list[Tool] | None = None,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatMessage:
        """One answer. `messages` are in the protocol's own shape. Raises BrainError; Stopped from `check`."""
        started = time.monotonic()
        request = {"messages": self._marked(messages), "max_tokens": max_tokens}
        request["tools"] = [schema_of(tool) for tool in tools_to_call_from or []] or None
        again = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Trouble) and error.again),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            before_sleep=self._say_so,
            sleep=self._rest,
            reraise=True,
        )
        try:
            response = again(self._try, request)
        except Trouble as trouble:
            raise BrainError(self._sentence(trouble), trouble.kind) from trouble
        return self._message(response, time.monotonic() - started)

    def parse_tool_calls(self, message: ChatMessage) -> ChatMessage:
        """An answer without calls is an answer: smolagents would look for calls in its text."""
        message.tool_calls = message.tool_calls or []
        return message

    def _marked(self, messages: list[Any]) -> list[Any]:
        """The messages with the marks that Claude's prompt cache wants, or without what others do not know."""
        if (self.model_id or "").startswith(CLAUDES):
            marked = {0, len(messages) - 1, max(0, len(messages) - 3)}
            return [message | CACHED if i in marked else message for i, message in enumerate(messages)]
        return [{k: v for k, v in message.items() if k != "thinking_blocks"} for message in messages]

    def _try(self, request: dict[str, Any]) -> Any:
        """One try, in a thread of its own: a hanging provider holds up nobody. Raises Trouble."""
        stream = _Stream()
        threading.Thread(target=stream.run, args=(self._open, request), daemon=True).start()
        try:
            while not stream.answer.done():
                self._check()
                self._show(stream.text, stream.thought)
                if stream.heard and time.monotonic() - stream.heard > self._access.patience:
                    raise Trouble("busy", f"said nothing for {self._access.patience:g} s", again=True)
                wait([stream.answer], POLL)
        finally:
            stream.left.set()
        return stream.answer.result()

    def _open(self, request: dict[str, Any]) -> Any:
        import litellm  # 3 s and 180 MB: only a session with a hosted brain pays for it

        litellm.drop_params = True
        litellm.suppress_debug_info = True
        litellm.disable_token_counter = (
            True  # or it counts the whole past again at each call; providers say what they count
        )
        litellm.disable_streaming_logging = True
        model, messages = self.model_id or "", request["messages"]
        if model.startswith("openai/"):  # its client would walk through the whole past at each call
            request = request | {"messages": messages[:1], "extra_body": {"messages": messages}}
        return litellm.completion(
            model=model,
            **request,
            api_key=self._key,
            api_base=self._access.api_base,
            reasoning_effort=self._access.effort,  # dropped by litellm for a model that knows no efforts
            timeout=httpx.Timeout(self._access.patience, connect=20.0),
            stream=True,
            stream_options={"include_usage": True},
            max_retries=0,  # tenacity does it, by kind of trouble: a refused key is refused once
        )

    def _say_so(self, state: RetryCallState) -> None:
        trouble = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        self._tell(f"{self.model_id} {trouble}.", f"It is asked again in {seconds:.0f} s.")

    def _rest(self, seconds: float) -> None:
        self._show("", "")
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(POLL, left))

    def _sentence(self, trouble: Trouble) -> str:
        where = f"{self.model_id} at {self._access.api_base}" if self._access.api_base else self.model_id
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
        usage = getattr(response, "usage", None)
        details = getattr(usage, "prompt_tokens_details", None)
        about = {
            "model": self.model_id,
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
        usage = getattr(response, "usage", None)
        if usage is None:
            return None
        if self._access.prices is not None:
            dollars_in, dollars_out = self._access.prices
            return (usage.prompt_tokens * dollars_in + usage.completion_tokens * dollars_out) / 1e6
        import litellm

        try:
            return litellm.completion_cost(response, model=self.model_id) or None
        except litellm.exceptions.ModelNotMappedError:
            return None


class _Stream:
    """One answer as it comes in, read by a thread and watched by another."""

    def __init__(self) -> None:
        self.answer: Future[Any] = Future()
        self.left = threading.Event()  # nobody waits for the answer any more
        self.heard: float | None = None  # when the last word came, once the question is out
        self.text = self.thought = ""

    def run(self, open_stream: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> None:
        """Bring the answer, or the reason why there is none, to whoever waits."""
        try:
            self.answer.set_result(self._read(open_stream, request))
        except BaseException as error:  # handed over to the thread that waits, whatever it is
            self.answer.set_exception(error)

    def _read(self, open_stream: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> Any:
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
            raise Trouble("busy", "was cut off before the end of its answer", again=True)
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
    wait = _retry_after(error)
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
        if wait is not None and wait > LONGEST_WAIT:
            return Trouble("quota", f"is rate limited for another {wait / 60:.0f} min")
        return Trouble("busy", "is rate limited", again=True, limits=True, wait=wait)
    if isinstance(error, known.NotFoundError):
        return Trouble("setup", f"is not there ({said})")
    status = getattr(error, "status_code", None)
    if isinstance(error, known.APIConnectionError | httpx.HTTPError | known.Timeout):
        return Trouble("busy", f"could not be reached ({said})", again=True, wait=wait)
    if isinstance(status, int) and (status >= 500 or status == 408):
        return Trouble("busy", f"failed ({status}: {said})", again=True, wait=wait)
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


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: as the provider asks, or doubled each time with up to a half more."""
    trouble = state.outcome.exception() if state.outcome else None
    if isinstance(trouble, Trouble) and trouble.wait is not None:
        return trouble.wait
    first = FIRST_WAIT["limits" if isinstance(trouble, Trouble) and trouble.limits else "fault"]
    return first * 2 ** (state.attempt_number - 1) * (1 + (time.monotonic_ns() % 1000) / 2000)


def _known(model: str) -> int | None:
    """The window that litellm knows for a model, in tokens."""
    import litellm

    try:
        return litellm.get_model_info(model).get("max_input_tokens")
    except litellm.exceptions.ModelNotMappedError:
        return None
