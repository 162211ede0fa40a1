"""Arguments as models write them."""

import pytest

from agent.replies import UNREADABLE, arguments_of


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x\\ny"}',
        '{"a": "x\ny"}',
        '"{\\"a\\": \\"x\\\\ny\\"}"',
        '```json\n{"a": "x\\ny"}\n```',
        "{'a': 'x\\ny'}",
        '{"a": "x\\ny",}',
    ],
)
def test_what_can_be_read_is_read(text):
    assert arguments_of(text) == {"a": "x\ny"}


@pytest.mark.parametrize("text", ['{"a": "x', "[1]", "hello", '{"a": __import__("os")}', "(" * 10_000])
def test_what_cannot_be_read_is_kept_to_be_answered(text):
    assert arguments_of(text) == {UNREADABLE: text}


def test_nothing_is_mended_in_an_answer_that_was_cut_off():
    assert arguments_of("{'a': 1}", whole=False) == {UNREADABLE: "{'a': 1}"}
    assert arguments_of('{"a": 1}', whole=False) == {"a": 1} and arguments_of("") == {}
