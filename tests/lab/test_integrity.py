"""Evaluation items inside training text."""

import time
from dataclasses import dataclass
from random import Random

from lab.integrity import Index
from recipes.benchmarks import load


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


def test_a_part_of_a_formula_or_the_same_numbers_with_other_marks_are_another_question():
    index = Index([Item("a", "3 + 4 - 2 + 5 - 6 + 7 - 1 + 9"), Item("b", "reverse, then rotate to 1 6 7 7 6")])
    assert index.hits("Calculate 3 + 4 - 2 + 5 - 6 + 7 - 1 + 9.") == ["a"]
    assert index.hits("Calculate 3 - 4 + 2 - 5 + 6 - 7 + 1 - 9.") == []
    assert index.hits("Calculate 8 + 4 - 2 + 5 - 6.") == []
    assert index.hits("Apply reverse, then rotate to 1 6 7 7 6 6. Finish with Answer: N") == []


def test_a_question_without_words_is_never_found():
    assert Index([Item("a", ""), Item("b", "  ")]).hits("anything at all") == []
    assert Index([]).hits("anything at all") == []


def test_case_line_breaks_and_a_template_around_a_question_hide_nothing():
    index = Index([Item("a", "Spell  YODEL"), Item("b", "Was kostet ein Brötchen?")])
    assert index.hits("Question: spell\nyodel\nAnswer: ledoy") == ["a"]
    assert index.hits("### Was kostet ein BRÖTCHEN?\n") == ["b"]
    assert index.hits("spell yodels") == [] and index.hits("misspell yodel") == []


def test_every_question_of_a_task_is_found_in_its_own_prompt_and_no_training_question_is():
    for name in ("chains", "lists"):
        benchmark = load(name)
        index = Index(benchmark.items("dev", 200) + benchmark.items("heldout", 400))
        for split, share in (("dev", 1.0), ("heldout", 1.0), ("train", 0.0)):
            items = benchmark.items(split, 200)
            texts = [f"{benchmark.prompt(item)} {benchmark.completion(item, worked=True)}" for item in items]
            assert sum(bool(index.hits(text)) for text in texts) == share * len(items), (name, split)


def test_a_look_up_costs_the_same_however_many_and_however_long_the_questions_are():
    rng = Random(0)
    words = [f"w{i}" for i in range(3000)]

    def seconds(items: int, longest: int) -> float:
        index = Index(Item(str(i), " ".join(rng.choices(words, k=rng.randint(9, longest)))) for i in range(items))
        texts = [" ".join(rng.choices(words, k=150)) for _ in range(50)]
        start = time.thread_time()  # of this thread alone: other work on the machine does not count
        for text in texts:
            index.hits(text)
        return time.thread_time() - start

    small, large = (min(seconds(*size) for _ in range(3)) for size in ((50, 12), (2000, 150)))
    assert large < 5 * small + 0.02  # 40 times the questions, of 139 lengths and not of 4
