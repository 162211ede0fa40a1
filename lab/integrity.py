"""Find evaluation items inside training text. Pure. Finds copies, not paraphrases or translations."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from recipes.benchmarks import Item

TEMPLATE = 2  # items; words that more of them share are the task's wording, not an item's content [H]
NGRAM = 8  # words; Open-R1's scripts/decontaminate.py, after s1 (arXiv 2501.19393)
TAIL = 8  # tokens at a question's end by which it is looked up: longer keys find no fewer places, and cost more


class Index:
    """Every dev and held-out question, ready to be looked for. Build and look-up are linear in the text.

    Every question is looked for as a whole; one in prose (NGRAM or more words of letters) also by NGRAM words in a row.
    A formula is not: half of it is another formula, and without its marks 3 - 4 would be 3 + 4.
    """

    def __init__(self, items: Iterable[Item]):
        self._whole: dict[tuple[str, ...], str] = {}  # every question as a whole
        self._lengths: dict[tuple[str, ...], set[int]] = defaultdict(set)  # of the questions that end like this
        grams: dict[tuple[str, ...], set[str]] = defaultdict(set)  # any NGRAM words in a row of one
        for item in items:
            tokens = tuple(_tokens(item.question))
            if not tokens:
                continue
            self._whole[tokens] = item.id
            self._lengths[tokens[-TAIL:]].add(len(tokens))
            for gram in _grams(item.question) if _is_prose(item.question) else ():
                grams[gram].add(item.id)
        self._grams = {gram: next(iter(ids)) for gram, ids in grams.items() if len(ids) <= TEMPLATE}
        self._tails = sorted({len(tail) for tail in self._lengths})

    def hits(self, text: str) -> list[str]:
        """Ids of the items that `text` contains: as a whole, or any NGRAM words in a row that are an item's own.

        A question counts only where it stands by itself: 3+4 is not found in 13+4 or in 2+3+4.
        """
        return sorted(self._parts_in(text) | self._questions_in(_tokens(text)))

    def _parts_in(self, text: str) -> set[str]:
        return {self._grams[gram] for gram in _grams(text) if gram in self._grams} if self._grams else set()

    def _questions_in(self, tokens: Sequence[str]) -> set[str]:
        found = set()
        for size in self._tails:
            for end in range(size, len(tokens) + 1):
                for length in self._lengths.get(tuple(tokens[end - size : end]), ()):
                    window = tuple(tokens[max(0, end - length) : end])
                    if window in self._whole and _alone(tokens, end - length, end):
                        found.add(self._whole[window])
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
    return neighbour in _JOINERS or (neighbour.isdigit() and edge.isdigit())


_JOINERS = frozenset("+-*/^%×÷·")


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    """Any NGRAM words in a row, with their marks and without."""
    for kept in (text.lower(), re.sub(r"[^\w\s]", " ", text.lower())):
        words = kept.split()
        yield from (tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1))
