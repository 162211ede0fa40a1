"""What Autopilot tries next: one change to the best settings so far, chosen by what the last runs showed. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lab.ladder import ablation, next_rung

SMALL = 20_000_000  # parameters; below it a model is trained whole with a large learning rate
MEDIUM = 1_000_000_000  # above it LoRA, after "LoRA Without Regret" (Thinking Machines, 2025)
LARGEST_LR = 2e-2
FEWEST_STEPS = 25  # of an idea that is cut short to fit into the time that is left: fewer test nothing
DATA = ("rows", "worked", "source")  # settings that are of the data
LAUNCH = ("recipe", "machine")  # and of the launch; the others are the recipe's
ANYWHERE = "auto"  # the machine that the lab chooses
FITTING = " To fit into memory:"
GROUPS_DIFFER = (0.1, 0.95)  # dev scores between which many groups of answers have right and wrong ones to compare [H]


@dataclass(frozen=True)
class Idea:
    """A hypothesis and the settings that test it."""

    text: str
    rows: int
    worked: float  # share of rows that are worked solutions
    source: str
    lr: float
    max_steps: int
    batch_size: int
    max_length: int  # of a row in tokens; in RL, of the model's own answer
    lora_rank: int = 0
    model: str = "base"  # what is trained on: the base, or an earlier job's model
    grad_accumulation: int = 1
    gradient_checkpointing: bool = False
    recipe: str = "sft"
    beta: float = 0.0  # in RL, of the KL penalty
    machine: str = ANYWHERE

    def settings(self) -> dict[str, Any]:
        """Everything but the words."""
        return {name: value for name, value in asdict(self).items() if name != "text"}

    def data(self) -> dict[str, Any]:
        """The arguments of prepare_data, without the name."""
        return {name: value for name, value in self.settings().items() if name in DATA}

    def config(self) -> dict[str, Any]:
        """The recipe's settings, without the data."""
        left_out = (*DATA, *LAUNCH, *([] if self.beta else ["beta"]))
        config = {name: value for name, value in self.settings().items() if name not in left_out}
        return config if self.recipe == "sft" else config | {"max_new_tokens": config.pop("max_length")}

    @classmethod
    def of(
        cls, text: str, data: dict[str, Any], config: dict[str, Any], recipe: str, machine: str = ANYWHERE
    ) -> "Idea":
        """The idea behind a launch, from the arguments of its calls. Raises TypeError and KeyError for one of another kind."""
        made = {name: data[name] for name in DATA}
        given = {"max_length" if name == "max_new_tokens" else name: value for name, value in config.items()}
        del given["data"]
        return cls(text, recipe=recipe, machine=machine, **made, **given)


@dataclass(frozen=True)
class Trial:
    """An idea and what came of it."""

    job: str
    idea: Idea
    verdict: str  # keep, discard or crash
    findings: set[str]
    finished_share: float | None  # share of dev answers that ended by themselves
    score: float | None = None  # on dev
    larger: str = ""  # the machine that the lab names where no setting is left that saves memory


def first_idea(audit: dict[str, Any], own_rows: bool) -> Idea:
    """Plain SFT on the data as it is, with settings for the model's size."""
    parameters = audit["model_parameters"]
    source = "own" if own_rows else "task"
    text = "Plain SFT on the data as it is, to learn the task's format and when to stop."
    rows = min(2500, audit["sources"]["own"]["rows"]) if own_rows else 2500
    if parameters is not None and parameters < SMALL:
        return Idea(text, rows, 0.0, source, 3e-3, 100, 64, 128)
    if parameters is not None and parameters < MEDIUM:
        return Idea(text, rows, 0.0, source, 5e-5, 300, 8, 512)
    return Idea(text, rows, 0.0, source, 2e-4, 300, 8, 1024, lora_rank=16)


def next_idea(trials: Sequence[Trial], audit: dict[str, Any]) -> Idea | None:
    """The first change, in an order set by the last trial's evidence, that leads to settings not tried yet."""
    if "out_of_memory" in trials[-1].findings:
        return lighter(trials[-1].idea) or moved(trials[-1].idea, trials[-1].larger)
    if offered := next(_offered(trials), None):
        return offered
    kept = [trial for trial in trials if trial.verdict == "keep"]
    changes = _changes((kept or trials)[-1], audit)
    tried = [trial.idea.settings() for trial in trials]
    ideas = (changes[name] for name in _order(trials[-1]) if name in changes)
    return next((idea for idea in ideas if idea.settings() not in tried), None)


def lighter(idea: Idea) -> Idea | None:
    """The same idea in less memory, one rung of the lab's ladder; None where only a bigger machine is left."""
    changes, _ = next_rung(idea.recipe, idea.config())
    if not changes:
        return None
    settings = ", ".join(f"{name} {value}" for name, value in changes.items())
    return replace(idea, **changes, text=_fitting(idea, settings))


def moved(idea: Idea, machine: str) -> Idea | None:
    """The same idea on a machine with more memory, once; None where there is none."""
    if not machine or idea.machine != ANYWHERE:
        return None
    return replace(idea, machine=machine, text=_fitting(idea, f"on {machine}, which has more of it"))


def _fitting(idea: Idea, how: str) -> str:
    return f"{idea.text.partition(FITTING)[0]}{FITTING} {how}."


def _offered(trials: Sequence[Trial]) -> Iterator[Idea]:
    """What the lab has offered to try after each reward that fell, oldest first, as far as it was not tried."""
    tried = [trial.idea.settings() for trial in trials]
    for trial in trials:
        idea = trial.idea
        for change in ablation(idea.recipe, idea.config()) if "reward_collapse" in trial.findings else []:
            said = ", ".join(f"{name} {value:g} instead of {getattr(idea, name):g}" for name, value in change.items())
            other = replace(idea, **change, text=f"{idea.recipe.upper()} of {trial.job} with {said}: its reward fell.")
            if other.settings() not in tried:
                yield other


def shortened(idea: Idea, steps: int) -> Idea | None:
    """The same idea in so many steps; None where that would test nothing."""
    if not FEWEST_STEPS <= steps < idea.max_steps:
        return None
    text = f"{idea.text} In {steps} steps instead of {idea.max_steps}, to fit into the time that is left."
    return replace(idea, max_steps=steps, text=text)


def expected_gain(gains: Sequence[float], best: float) -> float:
    """What an idea will add to the dev score, by what this session has seen: the mean of what its ideas added so far.

    Before the first, half of what is missing: a guess, as good as any. Never more than is missing.

    Args:
        gains: The change on dev of every idea that was judged, 0 for a crash.
        best: The dev score of the best model so far.
    """
    missing = 1.0 - best
    return round(min(missing, sum(gains) / len(gains)), 3) if gains else round(missing / 2, 3)


def _changes(best: Trial, audit: dict[str, Any]) -> dict[str, Idea]:
    """Every change of one thing that a trial's settings allow, by name."""
    idea, job = best.idea, best.job
    faster, slower = idea.lr * 3, idea.lr / 3
    steps, rows, length = idea.max_steps * 2, idea.rows * 2, idea.max_length * 2

    def to(text: str, **settings: Any) -> Idea:
        return replace(idea, text=text, **settings)

    changes = {
        "slower": to(f"A learning rate of {slower:g} instead of {idea.lr:g}: it may settle lower.", lr=slower),
        "longer": to(f"{steps} steps instead of {idea.max_steps}: the curve may not be at its end.", max_steps=steps),
    }
    if rl := _reinforced(best, audit):
        changes["reinforced"] = rl
    if idea.recipe != "sft":
        return changes
    changes["longer_texts"] = to(
        f"A length limit of {length} instead of {idea.max_length}: rows are cut off.", max_length=length
    )
    changes["more_rows"] = to(f"{rows} rows instead of {idea.rows}: fewer repeats of each.", rows=rows)
    if faster <= LARGEST_LR:
        text = f"A learning rate of {faster:g} instead of {idea.lr:g}: it may learn more in the same steps."
        changes["faster"] = to(text, lr=faster)
    if best.verdict == "keep" and idea.model == "base":  # more gently: what it learned so far is a warm-up
        text = f"A second stage from {job} at a learning rate of {slower:g}: the first was its format warm-up."
        changes["second_stage"] = to(text, model=job, lr=slower)
    if idea.source == "own":
        text = "The task's own rows beside the given ones: more to learn from."
        changes["more_rows"] = to(text, source="both", rows=rows)
    elif audit["worked_solutions"]:
        text = "Worked solutions instead of bare answers: steps that it can do one by one instead of a leap."
        changes["worked"] = to(text, worked=1.0)
        text = "Half worked solutions, half bare answers: both formats, so that it may choose."
        changes["mixed"] = to(text, worked=0.5)
    return changes


def _reinforced(best: Trial, audit: dict[str, Any]) -> Idea | None:
    """RL from a kept model on its own answers to the task's training items; None where they would be all right or all wrong."""
    low, high = GROUPS_DIFFER
    if best.verdict != "keep" or best.score is None or not low <= best.score <= high:
        return None
    text = f"GRPO from {best.job}: it has {best.score:.2f} on dev, so that right and wrong answers can be compared."
    rl = replace(
        best.idea, text=text, recipe="grpo", model=best.job, source="task", worked=0.0, max_steps=40,
        max_length=audit["answer_tokens"],
    )  # fmt: skip
    if best.idea.recipe == "grpo":
        return rl
    parameters = audit["model_parameters"]
    if parameters is not None and parameters < SMALL:
        return replace(rl, lr=3e-5, batch_size=128, grad_accumulation=1)
    return replace(
        rl, lr=1e-5 if rl.lora_rank else 1e-6, batch_size=16, grad_accumulation=4
    )  # TRL's; LoRA ten times it


def _order(last: Trial) -> tuple[str, ...]:
    """Which change to try first, by what was found on the last run."""
    usual = ("faster", "worked", "second_stage", "reinforced", "longer", "more_rows", "mixed", "slower")
    if last.findings & {"not_finite", "divergence", "bad_start"} or last.verdict == "crash":
        return "slower", *usual[1:]
    if last.findings & {"truncated", "truncated_share"}:
        return "longer_texts", *usual
    if "overfit" in last.findings:
        return "more_rows", *usual
    if last.finished_share is not None and last.finished_share < 0.9:
        return "longer", *usual
    return usual
