"""One model call through litellm, as a smolagents Model. Knows providers and their errors; knows nothing of the work."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from smolagents import Tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import TokenUsage
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
    wait_exponential_jitter,
)

from agent.providers import BrainError, key_for
from agent.servers import schema_of

TIMEOUT = 600.0  # seconds for one answer
ATTEMPTS = 3
FIRST_WAIT = 1.0  # seconds, doubled after each try, with jitter
POLL = 0.05  # seconds between looks at the stop while an answer is awaited


class Brain(Model):
    """A hosted or local chat model. `generate` blocks, but leaves within POLL when `check` raises."""

    def __init__(
        self,
        model_id: str,
        keys: dict[str, str],
        api_base: str | None,
        check: Callable[[], None],
        effort: str | None = None,
    ):
        super().__init__(model_id=model_id)
        self._key = key_for(model_id, keys, api_base)
        self._api_base = api_base
        self._check = check
        self._effort = effort

    def generate(
        self,
        messages: list[Any],
        stop_sequences: list[str] | None = None,
        response_format: dict[str, str] | None = None,
        tools_to_call_from: list[Tool] | None = None,
        **kwargs: Any,
    ) -> ChatMessage:
        """One answer. `messages` are in the protocol's own shape. Raises BrainError; Stopped from `check`."""
        started = time.monotonic()
        tools = [schema_of(tool) for tool in tools_to_call_from or []]
        left = threading.Event()  # set when nobody waits for the answer any more
        answer: Future[Any] = Future()
        threading.Thread(target=self._ask, args=(answer, messages, tools, left), daemon=True).start()
        try:
            response = self._await(answer)
        finally:
            left.set()
        return self._message(response, time.monotonic() - started)

    def parse_tool_calls(self, message: ChatMessage) -> ChatMessage:
        """An answer without calls is an answer: smolagents would look for calls in its text."""
        message.tool_calls = message.tool_calls or []
        return message

    def _ask(self, answer: Future, messages: list[Any], tools: list[dict], left: threading.Event) -> None:
        """Bring the answer, or the reason why there is none, to whoever waits: a hanging provider holds up nobody."""
        try:
            answer.set_result(self._complete(messages, tools, left))
        except BaseException as error:  # handed over to the thread that waits, whatever it is
            answer.set_exception(error)

    def _complete(self, messages: list[Any], tools: list[dict], left: threading.Event) -> Any:
        import litellm  # 3 s and 180 MB: only a session with a hosted brain pays for it
        from litellm import exceptions as trouble
        from openai import OpenAIError  # the root of litellm's tree of errors

        litellm.drop_params = True
        litellm.suppress_debug_info = True
        where = self._api_base or "its provider"
        passing = (trouble.RateLimitError, trouble.APIConnectionError, trouble.Timeout, trouble.ServiceUnavailableError)
        passing += (trouble.InternalServerError, trouble.BadGatewayError)
        again = Retrying(
            retry=retry_if_exception_type(passing),
            stop=stop_any(stop_after_attempt(ATTEMPTS), stop_when_event_set(left)),
            wait=wait_exponential_jitter(initial=FIRST_WAIT, max=60),
            sleep=sleep_using_event(left),
            reraise=True,
        )
        try:
            return again(
                litellm.completion,
                model=self.model_id or "",
                messages=messages,
                tools=tools or None,
                api_key=self._key,
                api_base=self._api_base,
                reasoning_effort=self._effort,  # dropped by litellm for a model that knows no efforts
                timeout=TIMEOUT,
                max_retries=0,  # tenacity does it, by kind of error: a refused key is refused once
            )
        except trouble.AuthenticationError as error:
            raise BrainError(f"{self.model_id} refused the key; check it and resume the session.") from error
        except trouble.RateLimitError as error:
            raise BrainError(
                f"{self.model_id} is rate limited or out of quota; wait or add credit, then resume."
            ) from error
        except trouble.ContextWindowExceededError as error:
            raise BrainError(f"The session no longer fits the window of {self.model_id}; use a larger one.") from error
        except (trouble.APIConnectionError, trouble.Timeout) as error:
            raise BrainError(
                f"{self.model_id} could not be reached at {where}; check the network and resume."
            ) from error
        except OpenAIError as error:
            raise BrainError(
                f"{self.model_id} at {where} failed ({str(error)[:300]}); resume when it is back."
            ) from error

    def _await(self, future: Future) -> Any:
        while not future.done():
            self._check()
            time.sleep(POLL)
        return future.result()

    def _message(self, response: Any, seconds: float) -> ChatMessage:
        message = response.choices[0].message
        usage = response.usage
        about = {
            "model": self.model_id,
            "seconds": round(seconds, 3),
            "dollars": _price(response),
            "thought": message.get("reasoning_content") or "",
        }
        return ChatMessage(
            role=MessageRole.ASSISTANT,
            content=message.content or "",
            tool_calls=[call.model_dump() for call in message.tool_calls or []],  # type: ignore[arg-type]
            raw=about,
            token_usage=TokenUsage(usage.prompt_tokens, usage.completion_tokens) if usage else None,
        )


def _price(response: Any) -> float | None:
    """Dollars of an answer; None when litellm does not know the price: unknown is not free."""
    import litellm

    try:
        return litellm.completion_cost(response) or None
    except litellm.exceptions.ModelNotMappedError:
        return None
