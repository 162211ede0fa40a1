"""Whether training rows ask in the words in which the session's evaluation asks. Pure, but for `wording`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from lab.clock import Count
from lab.findings import Finding
from lab.hub import Hub
from lab.models import has_template
from lab.tasks import task
from recipes.benchmarks import Item
from recipes.rows import Conversation, Prompted
from recipes.training import TrainingConfig

MOST = 0.5  # share of rows [H]
MARKUP = re.compile(
    r"<\|(?:im_start|im_end|(?:start|end)_header_id|eot_id|system|user|assistant)\|>"
    r"|<(?:start|end)_of_turn>|\[/?INST\]|^### (?:Instruction|Response):",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Wording:
    """How the evaluation asks: what stands before and after every question, and whether a chat template goes around it.

    Recipes and judge put a prompt through the same template, so prompts that are equal stay equal.
    """

    before: str
    after: str
    template: bool

    def asks(self, prompt: str) -> bool:
        """Whether a prompt has these words around something. White space at its ends does not count."""
        inner = prompt.strip().removeprefix(self.before.strip())
        whole = self.before.strip() + inner == prompt.strip()
        return whole and inner.endswith(self.after.strip()) and inner != self.after.strip()


def wording(name: str, model: Path | str, hub: Hub) -> Wording:
    """What two prompts of a task share, as recipes.evaluate asks this model. Raises BadInput for a task that is none."""
    benchmark = task(name)
    one, other = (benchmark.prompt(Item(id="", question=question, answer="")) for question in "01")
    return Wording(_shared(one, other), _shared(one[::-1], other[::-1])[::-1], has_template(model, hub))


def _shared(one: str, other: str) -> str:
    """What both begin with."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(letter for letter, _ in pairs)


def given_template(config: Mapping[str, Any], recipe: type[TrainingConfig], asked: Wording) -> Finding | None:
    """Conversations for a model without a chat template: it is given one, unless it is to use its own."""
    if asked.template or not issubclass(recipe.SHAPE, Conversation):
        return None
    what, evidence = "The model has no chat template", {"template": config.get("template", "auto")}
    if evidence["template"] == "own" and Path(config["model"]).is_dir():
        advice = "Leave template at auto, and it is given one, or train sft on prompt and completion."
        return Finding("stop", "given_template", f"{what}, and template is 'own'.", advice, evidence)
    what += ": it is given one, which is saved with it, and in which its evaluation asks."
    return Finding("info", "given_template", what, "result.json says which; template chooses another.", evidence)


def template_mismatch(
    rows: Sequence[Mapping[str, str]], recipe: type[TrainingConfig], asked: Wording, count_tokens: Count | None
) -> Finding | None:
    """Rows, as prompt and completion, in other words than the evaluation's, or with chat markup written by hand.

    Markup is wrong where a template writes it once more, and where the model knows no such token. Never a stop: data
    of another kind may be meant. Words are compared where a row is an answer to a prompt, not in conversations.
    """
    prompted, spoken = (issubclass(recipe.SHAPE, shape) for shape in (Prompted, Conversation))
    if recipe.TASK != "CAUSAL_LM" or not (prompted or spoken):
        return None
    templated = asked.template or spoken  # a model without a template is given one (recipes.template)
    marks = [set(MARKUP.findall(f"{row['prompt']}\n{row['completion']}")) for row in rows]
    foreign = {mark for mark in set().union(*marks) if templated or (count_tokens and count_tokens([mark]) != [1])}
    marked = Counter(mark for found in marks for mark in found & foreign)
    other = [prompted and not asked.asks(row["prompt"]) for row in rows]
    odd = [i for i, found in enumerate(marks) if other[i] or found & foreign]
    if not odd:
        return None
    what = f"{len(odd)} of {len(rows)} rows do not ask as the evaluation does"
    if any(other):
        first = rows[other.index(True)]["prompt"]
        what += f", which is {asked.before + '…' + asked.after!r}; row {other.index(True) + 1} asks {first[:80]!r}"
    if marked:
        why = "the model's chat template writes once more" if templated else "is no token of this model"
        what += f"; {max(marked.values())} have {max(marked, key=marked.__getitem__)!r} in their text, which {why}"
    advice = (
        "Write these words around every question, or make the rows with prepare_data, and leave markup to the template."
    )
    share = len(odd) / len(rows)
    evidence = {"share": share, "rows": [i + 1 for i in odd[:20]], "before": asked.before, "after": asked.after}
    return Finding("warn" if share > MOST else "info", "template_mismatch", f"{what}.", advice, evidence)
