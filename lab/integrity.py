"""Find evaluation items inside training text. Pure. Finds copies, not paraphrases or translations."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from recipes.benchmarks import Item

TEMPLATE = 2  # items; words that more of them share are the task's wording, not an item's content [H]
NGRAM = 8  # words; Open-R1's scripts/decontaminate.py, after s1 (arXiv 2501.19393)
JOINERS = frozenset("+-*/^%×÷·")  # marks that join what stands before them to what stands after


class Index:
    """Every dev and held-out question, ready to be looked for. Build and look-up are linear in the text.

    Every question is looked for as a whole; one in prose (NGRAM or more words of letters) also by NGRAM words in a row.
    A formula is not: half of it is another formula, and without its marks 3 - 4 would be 3 + 4.
    """

    def __init__(self, items: Iterable[Item]):
        self._whole: dict[str | None, Any] = {}  # every question as a path, token by token, with its id under None
        grams: dict[tuple[str, ...], set[str]] = defaultdict(set)  # any NGRAM words in a row of one
        for item in items:
            if not (tokens := _tokens(item.question)):
                continue
            node = self._whole
            for token in tokens:
                node = node.setdefault(token, {})
            node[None] = item.id
            for gram in _grams(item.question) if _is_prose(item.question) else ():
                grams[gram].add(item.id)
        self._grams = {gram: next(iter(ids)) for gram, ids in grams.items() if len(ids) <= TEMPLATE}

    def hits(self, text: str) -> list[str]:
        """Ids of the items that `text` contains: as a whole, or any NGRAM words in a row that are an item's own.

        A question counts only where it stands by itself: 3+4 is not found in 13+4 or in 2+3+4.
        """
        return sorted(self._parts_in(text) | self._questions_in(_tokens(text)))

    def _parts_in(self, text: str) -> set[str]:
        return {self._grams[gram] for gram in _grams(text) if gram in self._grams} if self._grams else set()

    def _questions_in(self, tokens: Sequence[str]) -> set[str]:
        found = set()
        for start in range(len(tokens)):
            node, end = self._whole, start
            while end < len(tokens) and tokens[end] in node:
                node, end = node[tokens[end]], end + 1
                if None in node and _alone(tokens, start, end):
                    found.add(node[None])
        return found


def _tokens(text: str) -> list[str]:
    """Words and numbers, and each mark by itself: in 3+4-2 the marks are the content."""
    return re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())


def _is_prose(question: str) -> bool:
    return len(re.findall(r"[^\W\d_]+", question)) >= NGRAM


def _alone(tokens: Sequence[str], start: int, end: int) -> bool:
    """Whether a window is not part of a longer expression: no operator joins it to a neighbour, no number to a number."""
    before = tokens[start - 1] if start else ""
    after = tokens[end] if end < len(tokens) else ""
    return not (_joined(before, tokens[start]) or _joined(after, tokens[end - 1]))


def _joined(neighbour: str, edge: str) -> bool:
    """Whether a neighbour goes on with what the window's edge began: an expression, or a list of numbers."""
    return neighbour in JOINERS or (neighbour.isdigit() and edge.isdigit())


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    """Any NGRAM words in a row, with their marks and without."""
    for kept in (text.lower(), re.sub(r"[^\w\s]", " ", text.lower())):
        words = kept.split()
        yield from (tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1))
