"""Logs that were written once must read for ever. Never change a golden file: add one."""

import json
from typing import Any, get_args

import pytest

from agent import terminal
from agent.settings import ROOT
from record.events import Event, parse
from record.report import report
from record.views import Views

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.jsonl"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_parses_folds_prints_and_says_the_same_again(path):
    lines = path.read_text().splitlines()
    facts = [parse(line) for line in lines]
    for fact, line in zip(facts, lines, strict=True):
        assert holds(fact.model_dump(mode="json"), json.loads(line))
    Views(facts)
    assert report(facts).startswith("# ")
    assert all(isinstance(text, str) for fact in facts for text in terminal.lines(fact))


def test_every_kind_of_fact_has_a_golden_line():
    kinds = {json.loads(line)["kind"] for path in GOLDEN for line in path.read_text().splitlines()}
    assert kinds == {kind.model_fields["kind"].default for kind in get_args(Event)}


def holds(now: Any, then: Any) -> bool:
    """Whether everything that was written then is still said now; fields may have been added."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(key in now and holds(now[key], value) for key, value in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(holds, now, then))
    return now == then
