"""Evaluation items inside training text."""

from dataclasses import dataclass

from lab.integrity import Index


@dataclass
class Item:
    id: str
    question: str


def test_a_short_question_is_found_whole_and_not_as_part_of_another():
    index = Index([Item("a", "3 + 4 - 2"), Item("b", "reverse 3 8 1")])
    assert index.hits("Calculate 3 + 4 - 2. Finish with Answer: N 5") == ["a"]
    assert index.hits("Calculate 3+4-2.") == ["a"]
    for other in ("1 + 3 + 4 - 2", "3 + 4 - 2 + 6", "3 + 4 + 2", "13 + 4 - 2", "3 - 4 - 2"):
        assert index.hits(f"Calculate {other}.") == []
    assert index.hits("Reverse 3 8 1: 1 8 3") == ["b"]
    assert index.hits("reverse 3 8 1 4") == []


def test_eight_words_of_a_long_question_are_enough_with_or_without_punctuation():
    question = "A train leaves Lyon at noon, and a second one leaves Nice an hour later; when do they meet?"
    index = Index([Item("a", question)])
    assert index.hits("He said: a train leaves Lyon at noon and a second one waits.") == ["a"]
    assert index.hits("A train leaves Lyon at noon.") == []


def test_the_wording_that_all_items_share_is_no_content():
    items = [Item(w, f"Spell this word backward (for example sun becomes nus): {w}") for w in ("cat", "dog", "bird")]
    index = Index(items)
    assert index.hits("Spell this word backward (for example sun becomes nus): horse") == []
    assert index.hits("Spell this word backward (for example sun becomes nus): dog god") == ["dog"]
