"""Any generator of reasoning-gym (Apache-2.0), marked by its own scorer."""

from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from recipes.benchmarks.base import Benchmark, Item, item_id

FULL_MARKS = 0.999  # the scorers give part marks for part answers; only a full score counts, rounding aside
SIZE = 1_000_000_000  # entries are made on demand, so a size costs nothing


class Gym(Benchmark):
    title = "A reasoning-gym task, marked by reasoning-gym"
    max_new_tokens = 128

    def __init__(self, family: str):
        """Raises ValueError where reasoning-gym is not installed or has no such family."""
        if not find_spec("reasoning_gym"):
            raise ValueError(
                "The gym: tasks need reasoning-gym; install a C compiler, then say: rm .venv/ready; make run."
            )
        import reasoning_gym  # 0.6 s: paid only by those who ask for it
        from reasoning_gym.factory import DATASETS

        if family not in DATASETS:
            raise ValueError(f"reasoning-gym {reasoning_gym.__version__} has no family {family!r}.")
        self.name = f"gym:{family}"
        self.family = family

    def stream(self, seed: int) -> Iterator[Item]:
        """Entries index by index. An entry without a reference answer is left out: nobody could train on it."""
        entries = self._entries(seed)
        for index in range(SIZE):
            entry = entries[index]
            if entry["answer"] is None:
                continue
            question = entry["question"]
            origin = {"seed": seed, "index": index}
            yield Item(id=item_id(question), question=question, answer=str(entry["answer"]), origin=origin)

    def prompt(self, item: Item) -> str:
        return f"{item.question}\nFinish with Answer: X\n"

    def extract(self, output: str) -> str | None:
        """Everything after the last `Answer:`; some families' answers have several lines."""
        _, marker, rest = output.rpartition("Answer:")
        return rest.strip() if marker and rest.strip() else None

    def score(self, output: str, item: Item) -> bool:
        """Full marks from the family's own scorer, against the entry made again from its seed and index."""
        answer = self.extract(output)
        if answer is None:
            return False
        entry = self._entries(item.origin["seed"])[item.origin["index"]]
        try:
            return self._entries(0).score_answer(answer, entry) >= FULL_MARKS
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, SyntaxError):
            return False  # a family's own parser choked on the answer

    def _entries(self, seed: int) -> Any:
        from reasoning_gym import create_dataset

        if seed not in self._by_seed:
            self._by_seed[seed] = create_dataset(self.family, seed=seed, size=SIZE)
        return self._by_seed[seed]

    @cached_property
    def _by_seed(self) -> dict[int, Any]:
        return {}
