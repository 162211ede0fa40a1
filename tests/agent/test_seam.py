"""The seam to smolagents: what we override is still there, with the signatures we override."""

import inspect

import pytest
from smolagents import ToolCallingAgent

from agent.researcher import Researcher
from lab.errors import LabError
from tests.scripted import Script, script_session
from tools.all import TOOLS
from tools.base import Tool


@pytest.mark.parametrize("name", ["write_memory_to_messages", "process_tool_calls"])
def test_the_overridden_methods_have_the_signatures_of_smolagents(name):
    theirs, ours = (inspect.signature(getattr(cls, name)) for cls in (ToolCallingAgent, Researcher))
    assert list(theirs.parameters) == list(ours.parameters)
    assert [p.default for p in theirs.parameters.values()] == [p.default for p in ours.parameters.values()]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_tool_declares_its_effect_and_describes_its_arguments(tool):
    assert tool.effect in ("read", "write", "spend", "publish")
    assert tool.description
    assert all(entry["description"] for entry in tool.inputs.values())


class Breaks(Tool):
    name = "breaks"
    effect = "read"

    def forward(self, how: str) -> str:
        """Fail.

        Args:
            how: In which way.
        """
        raise LabError("it cannot be done") if how == "lab" else ZeroDivisionError("by zero")


def test_every_call_gets_one_answer_whatever_happens_to_it(new_session, settings):
    script = Script(
        ("breaks", {"how": "lab"}),
        ("breaks", {"how": "otherwise"}),
        ("breaks", {}),
        ("no_such_tool", {}),
        ("breaks", "not json"),
        ("note", {"topic": "t", "text": "still here"}),
        ("final_answer", {"answer": "not alone"}),
    )
    views = script_session(settings, new_session()[0], script, extra=[Breaks]).views
    answers = [views.finished[call.id] for call in views.replied.calls]
    assert [a.ok for a in answers] == [False, False, False, False, False, True, False]
    assert answers[0].output == "it cannot be done"
    assert "ZeroDivisionError" in answers[1].output
    assert "breaks" in answers[3].output
    assert "JSON" in answers[4].output
    assert "by itself" in answers[6].output
