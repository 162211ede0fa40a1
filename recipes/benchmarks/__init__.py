"""The tasks a session can be judged on, one class each."""

from recipes.benchmarks.base import Benchmark, Item, Split, split_of
from recipes.benchmarks.chains import Chains
from recipes.benchmarks.gym import Gym
from recipes.benchmarks.lists import Lists
from recipes.benchmarks.table import Table

__all__ = ["ADVERTISED", "Benchmark", "Item", "Split", "load", "split_of"]

PLAIN = {"chains": Chains, "lists": Lists}
WITH_ARGUMENT = {"gym": Gym, "table": Table}  # gym:<family>, table:<file or Hub dataset>
ADVERTISED = ("chains", "lists", "gym:spell_backward")  # the three that the starter model is measured on


def load(name: str) -> Benchmark:
    """The benchmark of this name. Raises ValueError, one sentence, for a name or an argument that means nothing."""
    kind, _, argument = name.partition(":")
    if name in PLAIN:
        return PLAIN[name]()
    if kind in WITH_ARGUMENT and argument:
        return WITH_ARGUMENT[kind](argument)
    known = ", ".join((*PLAIN, "gym:<family>", "table:<file or Hub dataset>"))
    raise ValueError(f"There is no benchmark {name!r}; the benchmarks are {known}.")
