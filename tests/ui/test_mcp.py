"""Other agents: the tools of the Model Context Protocol, with its real client."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from agent.settings import Settings
from tests.ui.conftest import Site, own_settings, served


@pytest.fixture(scope="module")
def open_site(tmp_path_factory: pytest.TempPathFactory):
    yield from served(replace(own_settings(tmp_path_factory.mktemp("mcp")), mcp=True))


def call(site: Site, *calls: tuple[str, dict]) -> tuple[list[str], list]:
    """The names of the tools, and the answer to each call."""
    from mcp import Client

    async def talk():
        async with Client(f"{site.url}/mcp") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            return names, [await client.call_tool(name, arguments) for name, arguments in calls]

    with ThreadPoolExecutor(1) as pool:  # Playwright's loop runs in this thread
        return pool.submit(lambda: asyncio.run(talk())).result()


def test_an_agent_starts_a_session_reads_its_state_and_its_results(open_site: Site):
    names, (started,) = call(open_site, ("start_session", {"text": "Do it", "task": "chains"}))
    assert sorted(names) == ["session_results", "session_status", "start_session", "stop_session"]
    (session,) = (path.name for path in open_site.settings.sessions.iterdir())
    assert session in started.content[0].text
    _, (status, results, short, stopped) = call(
        open_site,
        ("session_status", {"session": session}),
        ("session_results", {"session": session}),
        ("stop_session", {"session": session[:-1]}),
        ("stop_session", {"session": session}),
    )
    assert short.is_error and "the whole id" in short.content[0].text
    assert '"working"' in status.content[0].text.replace("'", '"')
    assert "Still running" in results.content[0].text and not stopped.is_error


def test_a_refusal_reaches_the_other_agent_as_a_sentence(open_site: Site):
    _, (answer,) = call(open_site, ("start_session", {"text": "Do it", "task": "poetry"}))
    assert answer.is_error and "poetry" in answer.content[0].text


def test_it_is_off_until_asked_for_and_another_site_may_not_use_it(site: Site, open_site: Site):
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    assert httpx.post(f"{site.url}/mcp", json=ask).status_code == 405
    evil = httpx.post(f"{open_site.url}/mcp", json=ask, headers={"origin": "https://evil.example"})
    assert evil.status_code == 403


def test_only_the_word_1_switches_it_on(settings: Settings):
    assert not settings.mcp
