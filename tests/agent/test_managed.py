"""The intern as a managed agent of another smolagents agent, which a script of a chat server drives."""

from dataclasses import replace

import pytest
from smolagents import CodeAgent, OpenAIModel, ToolCallingAgent

from agent import Intern, Request
from agent.settings import SettingsError
from record.events import parse
from tests.chat.server import chat_server
from tests.chat.turns import says

TINY = {"task": "chains", "target": 0.9, "hours": 0.0003}  # about a second: the budget ends it, with a report


def manager(kind, base: str, intern: Intern, **options):
    model = OpenAIModel("scripted", api_base=base, api_key="none")
    return kind(tools=[], model=model, managed_agents=[intern], verbosity_level=0, **options)


def test_a_tool_calling_agent_gives_it_a_task_and_reads_its_report(settings):
    script = [
        says("", ("ml_intern", {"task": "Make it add."})),
        says("", ("final_answer", {"answer": "as the intern says"})),
    ]
    with chat_server(script) as server:
        agent = manager(ToolCallingAgent, server.base, Intern(settings, **TINY))
        assert agent.run("Have a model made better.") == "as the intern says"
        offered = {t["function"]["name"]: t["function"] for t in server.requests[0]["tools"]}
        answer = str(server.requests[1]["messages"][-1]["content"])
    assert "sealed measurement" in offered["ml_intern"]["description"]
    assert offered["ml_intern"]["parameters"]["required"] == ["task"]
    assert "out_of_budget" in answer and "# Make it add." in answer and "Ended by its budget" in answer
    (log,) = settings.sessions.glob("*/events.jsonl")
    opened = parse(log.read_bytes().splitlines()[0])
    assert (opened.goal.text, opened.goal.target, opened.budget.hours) == ("Make it add.", 0.9, 0.0003)


def test_a_code_agent_calls_it_like_a_function(settings):
    code = "<code>\nsaid = ml_intern(task='Make it add.', additional_args={'task': 'lists'})\nfinal_answer(said[:13])\n</code>"
    with chat_server([says(code)]) as server:
        agent = manager(CodeAgent, server.base, Intern(settings, **TINY), executor_kwargs={"timeout_seconds": None})
        assert agent.run("Have a model made better.") == "out_of_budget"
    (log,) = settings.sessions.glob("*/events.jsonl")
    assert parse(log.read_bytes().splitlines()[0]).goal.task == "lists"


def test_caps_are_the_persons_and_not_the_managing_agents(settings):
    intern = Intern(settings, **TINY)
    with pytest.raises(SettingsError, match="'hours' is not yours"):
        intern("Make it add.", additional_args={"hours": 1000})
    with chat_server([says("", ("ml_intern", {"task": "x", "additional_args": {"dollars": 9}})), says("so")]) as server:
        agent = manager(ToolCallingAgent, server.base, intern, max_steps=2)
        agent.run("Have a model made better.")
        assert "not yours to choose" in str(server.requests[1]["messages"][-1]["content"])
    assert not settings.sessions.exists()


def test_a_term_that_there_is_not_and_a_model_without_a_cap_are_refused_at_once(settings):
    with pytest.raises(SettingsError, match="'ours'"):
        Intern(settings, ours=1)
    own = replace(settings, api_base="http://127.0.0.1:9/v1")
    with pytest.raises(SettingsError, match="dollars= or tokens="):
        Intern(own, driver="openai/m")
    Intern(own, driver="openai/m", tokens=1000)
    assert Request(task="chains").approval == "auto"  # nobody is there to be asked
