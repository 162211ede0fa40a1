"""Who takes part in `benchmarks.live`, each in a process of its own: a server of one pattern, a writer, and viewers."""

import asyncio
import secrets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx

from agent import settings as env
from record.events import Budget, Event, Goal, Opened, Replied
from record.log import POLL, Log

PATTERNS = {
    "sse": "our SSE and own DOM",
    "generator": "Gradio, a generator per client",
    "timer": "Gradio, gr.Timer(0.5)",
}
SESSION = "20260101-000000-bench"
TICK = 0.5  # seconds between two polls of the timer pattern
COALESCE = 0.03  # seconds; the generator gathers as long as our own stream does
THREADS = 200  # Gradio's default of 40 would leave the last viewers without anything


def opened() -> Event:
    goal = Goal(text="A benchmark", task="chains", model="starter")
    return Opened(session=SESSION, goal=goal, budget=Budget(), driver="autopilot")


def old(number: int) -> Event:
    """One message of the past; the same text in every pattern."""
    return Replied(
        text=f"message {number}: the **loss** is lower, so `sft-{number}` goes on for as many steps.", model="m"
    )


def write(path: str, count: str, rate: str) -> None:
    """Append facts at a rate a second, each with its own time in its text: milliseconds of Unix time."""
    log, pause, start = Log(Path(path)), 1 / float(rate), time.monotonic()
    log.refresh()
    for i in range(int(count)):
        time.sleep(max(0.0, start + i * pause - time.monotonic()))
        log.append(Replied(text=f"t={time.time() * 1000:.2f}", model="m"))


def serve(pattern: str, home: str, port: str) -> None:
    """Serve a page over the benchmark's log until killed."""
    env.quiet_libraries()
    if pattern == "sse":
        import uvicorn

        from ui.server import build_app

        settings = replace(env.read(), home=Path(home), host="127.0.0.1", port=int(port), keys={}, space=None)
        uvicorn.run(build_app(settings), host="127.0.0.1", port=int(port), log_level="warning")
        return
    import gradio as gr

    messages: list[dict] = []
    threading.Thread(target=_read, args=(Log(_log(home)), messages), daemon=True).start()

    def stream():
        shown = -1
        while True:
            if shown != len(messages):
                shown = len(messages)
                yield messages[:shown]
            time.sleep(COALESCE)

    with gr.Blocks() as page:
        chat = gr.Chatbot()
        if pattern == "generator":
            page.load(stream, outputs=chat)
        else:
            gr.Timer(TICK).tick(lambda: messages[:], outputs=chat)
    page.queue(default_concurrency_limit=None)
    page.launch(server_name="127.0.0.1", server_port=int(port), max_threads=THREADS, ssr_mode=False, quiet=True)


def _log(home: str) -> Path:
    return Path(home) / "sessions" / SESSION / "events.jsonl"


def _read(log: Log, messages: list[dict]) -> None:
    """One reader for all clients, which is kinder to Gradio than the pattern as it is usually written."""
    while True:
        log.refresh()
        messages += [
            {"role": "assistant", "content": f.text} for f in log[len(messages) + 1 :] if isinstance(f, Replied)
        ]
        time.sleep(POLL)


def view(pattern: str, port: str, count: str) -> None:
    """Be so many viewers until killed; says "ready" when each has got something."""
    asyncio.run(_view(pattern, int(port), int(count)))


async def _view(pattern: str, port: int, count: int) -> None:
    waiting = set(range(count))
    one = {"sse": _sse, "generator": _queue, "timer": _poll}[pattern]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=None, limits=httpx.Limits(max_connections=None)
    ) as client:

        async def viewer(number: int) -> None:
            await asyncio.sleep(number * TICK / count)  # people do not come at the same moment
            with suppress(httpx.HTTPError, OSError):
                async for _ in one(client, port):
                    waiting.discard(number)

        async def tell() -> None:
            while waiting:
                await asyncio.sleep(0.05)
            print("ready", flush=True)

        await asyncio.gather(tell(), *(viewer(i) for i in range(count)))


async def _sse(_: httpx.AsyncClient, port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ask = f"GET /api/sessions/{SESSION}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    writer.write(ask.encode())
    while chunk := await reader.read(65536):
        yield len(chunk)


async def _queue(client: httpx.AsyncClient, _: int):
    """One event of Gradio's queue: join, and read what comes until it is complete."""
    session = secrets.token_hex(5)
    join = {"data": [], "fn_index": 0, "session_hash": session, "event_data": None, "trigger_id": None}
    (await client.post("/gradio_api/queue/join", json=join)).raise_for_status()
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as answer:
        async for chunk in answer.aiter_raw():
            yield len(chunk)


async def _poll(client: httpx.AsyncClient, port: int):
    while True:
        due = time.monotonic() + TICK
        async for size in _queue(client, port):
            yield size
        await asyncio.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    {"write": write, "serve": serve, "view": view}[sys.argv[1]](*sys.argv[2:])
