"""A program's view of a running ML Intern, over HTTP: what the page does, in Python.

with Client("http://127.0.0.1:7860") as intern:
    session = intern.start("Make it spell", task="gym:spell_backward", target=0.9)
    for fact in intern.follow(session):
        print(fact.kind)
"""

import json
import time
from collections.abc import Iterator
from typing import Any, Self

import httpx

from record.events import Closed, Ended, Event, from_dict

PATIENCE = 30.0  # seconds for an answer; a stream says something every 15
PAUSE = 1.0  # seconds before a stream that was cut is asked for again


class ClientError(Exception):
    """The server refused, or does not answer: one sentence."""


class Client:
    """One ML Intern. Not thread-safe."""

    def __init__(self, address: str = "http://127.0.0.1:7860"):
        self._http = httpx.Client(base_url=address, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def start(self, text: str, **request: Any) -> str:
        """Open a session and return its id. `request` has the fields of agent.Request: task, model, target, hours …

        Raises:
            ClientError: The request cannot be met.
        """
        return self._ask("POST", "/api/sessions", {"text": text} | request).json()["session"]

    def sessions(self) -> list[dict[str, Any]]:
        """One dictionary a session, newest first."""
        return self._ask("GET", "/api/sessions").json()

    def state(self, session: str) -> dict[str, Any]:
        """Where a session stands: goal, budget, plan, jobs, scores, promotions, what waits for a person."""
        return self._ask("GET", f"/api/sessions/{session}").json()

    def follow(self, session: str, after: int = 0) -> Iterator[Event]:
        """Every fact with seq > after, then each new one, through cuts, until the session is over and its jobs are."""
        over = False
        while True:
            try:
                for fact in self._stream(session, after):
                    after = fact.seq
                    yield fact
                    over = isinstance(fact, Closed) or (over and isinstance(fact, Ended))
                    if over and self._is_last(session, after):  # an earlier ending may have been followed by more
                        return
            except httpx.TransportError:
                pass  # what came so far was whole facts; the next stream begins after the last one
            time.sleep(PAUSE)

    def say(self, session: str, text: str) -> None:
        """A message, read at the agent's next step; it starts a session again that is over."""
        self._ask("POST", f"/api/sessions/{session}/say", {"text": text})

    def decide(self, session: str, call: str, allow: bool, arguments: dict[str, Any] | None = None) -> None:
        """Answer a question of the gate."""
        self._ask("POST", f"/api/sessions/{session}/decide", {"call": call, "allow": allow, "arguments": arguments})

    def stop(self, session: str) -> None:
        """Stop a session; its jobs save and end."""
        self._ask("POST", f"/api/sessions/{session}/stop", {})

    def report(self, session: str) -> str:
        """The report in Markdown. Raises ClientError before it is written."""
        return self._ask("GET", f"/api/sessions/{session}/report").text

    def _is_last(self, session: str, seq: int) -> bool:
        state = self.state(session)
        return not state["active"] and state["facts"] <= seq and all(job["ended"] for job in state["jobs"])

    def _stream(self, session: str, after: int) -> Iterator[Event]:
        with self._http.stream("GET", f"/api/sessions/{session}/events", params={"after": after}) as answer:
            if not answer.is_success:
                answer.read()
            event = ""
            for line in self._answer(answer).iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif event == "trouble" and line.startswith("data: "):
                    raise ClientError(line.removeprefix("data: "))
                elif line.startswith("data: ["):
                    yield from (from_dict(fact) for fact in json.loads(line.removeprefix("data: ")))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            return self._answer(self._http.request(method, path, json=body))
        except httpx.TransportError as error:
            raise ClientError(f"No ML Intern answers at {self._http.base_url} ({error}).") from error

    def _answer(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        try:
            sentence = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            sentence = f"The server answered {answer.status_code}."
        raise ClientError(sentence)
