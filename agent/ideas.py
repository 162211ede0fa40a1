"""What Autopilot tries next: one change to the best settings so far, chosen by what the last runs showed. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

SMALL = 20_000_000  # parameters; below it a model is trained whole with a large learning rate
MEDIUM = 1_000_000_000  # above it LoRA, after "LoRA Without Regret" (Thinking Machines, 2025)
LARGEST_LR = 2e-2
FEWEST_STEPS = 25  # of an idea that is cut short to fit into the time that is left: fewer test nothing


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
    max_length: int
    lora_rank: int = 0
    model: str = "base"  # what is trained on: the base, or an earlier job's model

    def data(self) -> dict[str, Any]:
        """The arguments of prepare_data, without the name."""
        return {"rows": self.rows, "worked": self.worked, "source": self.source}

    def config(self) -> dict[str, Any]:
        """The recipe's settings, without the data."""
        names = ("model", "lr", "max_steps", "batch_size", "max_length", "lora_rank")
        return {name: value for name, value in asdict(self).items() if name in names}

    def settings(self) -> dict[str, Any]:
        """Everything but the words."""
        return self.data() | self.config()

    @classmethod
    def of(cls, text: str, data: dict[str, Any], config: dict[str, Any]) -> "Idea":
        """The idea behind a launch, from the arguments of its calls."""
        made = {name: data[name] for name in ("rows", "worked", "source")}
        return cls(text, **made, **{name: value for name, value in config.items() if name != "data"})


@dataclass(frozen=True)
class Trial:
    """An idea and what came of it."""

    job: str
    idea: Idea
    verdict: str  # keep, discard or crash
    findings: set[str]
    finished_share: float | None  # share of dev answers that ended by themselves


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
    """The first move, in an order set by the last trial's evidence, that leads to settings not tried yet."""
    kept = [trial for trial in trials if trial.verdict == "keep"]
    start = (kept or trials)[-1]
    tried = [trial.idea.settings() for trial in trials]
    for move in _order(trials[-1]):
        idea = move(start, audit)
        if idea is not None and idea.settings() not in tried:
            return idea
    return None


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


Move = Callable[[Trial, dict[str, Any]], Idea | None]  # from the trial to build on and the audit


def faster(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    lr = idea.lr * 3
    if lr > LARGEST_LR:
        return None
    return replace(
        idea, lr=lr, text=f"A learning rate of {lr:g} instead of {idea.lr:g}: it may learn more in the same steps."
    )


def slower(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    lr = idea.lr / 3
    return replace(idea, lr=lr, text=f"A learning rate of {lr:g} instead of {idea.lr:g}: it may settle lower.")


def worked(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    if not audit["worked_solutions"] or idea.worked >= 1 or idea.source == "own":
        return None
    text = "Worked solutions instead of bare answers: steps that it can do one by one instead of a leap."
    return replace(idea, worked=1.0, text=text)


def mixed(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    if not audit["worked_solutions"] or idea.worked == 0.5 or idea.source == "own":
        return None
    text = "Half worked solutions, half bare answers: both formats, so that it may choose."
    return replace(idea, worked=0.5, text=text)


def second_stage(best: Trial, audit: dict[str, Any]) -> Idea | None:
    """Train on from the best model, more gently: what it learned so far, the format above all, is a warm-up."""
    if best.verdict != "keep" or best.idea.model != "base":
        return None
    text = (
        f"A second stage from {best.job} at a learning rate of {best.idea.lr / 3:g}: the first was its format warm-up."
    )
    return replace(best.idea, model=best.job, lr=best.idea.lr / 3, text=text)


def longer(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    steps = idea.max_steps * 2
    return replace(
        idea, max_steps=steps, text=f"{steps} steps instead of {idea.max_steps}: the curve may not be at its end."
    )


def more_rows(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    if idea.source == "own":
        return replace(
            idea,
            source="both",
            rows=idea.rows * 2,
            text="The task's own rows beside the given ones: more to learn from.",
        )
    return replace(
        idea, rows=idea.rows * 2, text=f"{idea.rows * 2} rows instead of {idea.rows}: fewer repeats of each."
    )


def longer_texts(best: Trial, audit: dict[str, Any]) -> Idea | None:
    idea = best.idea
    length = idea.max_length * 2
    return replace(
        idea, max_length=length, text=f"A length limit of {length} instead of {idea.max_length}: rows are cut off."
    )


def _order(last: Trial) -> tuple[Move, ...]:
    """Which change to try first, by what was found on the last run."""
    usual: tuple[Move, ...] = (faster, worked, second_stage, longer, more_rows, mixed, slower)
    if last.findings & {"not_finite", "divergence", "bad_start"} or last.verdict == "crash":
        return slower, *usual[1:]
    if last.findings & {"truncated", "truncated_share"}:
        return longer_texts, *usual
    if "overfit" in last.findings:
        return more_rows, *usual
    if last.finished_share is not None and last.finished_share < 0.9:
        return longer, *usual
    return usual
