"""From what evaluations wrote to scores and verdicts: only what was measured as it was asked for counts."""

from pathlib import Path
from typing import Any

from lab.backend import read_json
from lab.errors import LabError, NotThere, Refused
from lab.grade import paired, verdict, wilson
from lab.tasks import read_rows
from recipes.seal import file_hash, judge_hash, model_hash
from record.events import Promoted, Scored, Seal
from record.views import Job, Views


def seal_of(task: str, items: Path, model: Path | str) -> Seal:
    """The seal that a score must have; its model is "" for a Hub id, whose files only the judge has.

    Raises Refused for a model with links to items: its judge may read them, and a chat template may quote what it reads.
    """
    if isinstance(model, Path) and any(_leads_to(items.parent, file) for file in model.rglob("*")):
        raise Refused(f"The model in {model} has a link to a folder or to items of the evaluation; train it again.")
    own = model_hash(model) if isinstance(model, Path) else ""
    return Seal(judge=judge_hash(task), split=file_hash(items), model=own)


def _leads_to(vault: Path, file: Path) -> bool:
    return file.is_symlink() and (file.is_dir() or file.resolve().is_relative_to(vault.resolve()))


def same(sealed: Seal, expected: Seal) -> bool:
    """Whether a seal is the expected one; an expected model of "" is whatever the judge loaded."""
    return sealed == expected or (not expected.model and sealed == expected.model_copy(update={"model": sealed.model}))


def score_of(job: Job, session: Path, model: str, metric: str, expected: Seal) -> Scored:
    """The score of an evaluation that is over. `session` is the session's folder.

    Raises:
        LabError: The evaluation failed.
        Refused: Its seal does not hold, or its items are not those that it was given.
    """
    folder = session / job.folder
    result = read_json(folder / "result.json")
    if job.state != "done" or not result.get("ok"):
        raise LabError(f"The evaluation {job.id} failed: {job.ended.reason if job.ended else 'it did not end'}.")
    sealed = Seal(**result["seal"])
    if not same(sealed, expected) or file_hash(folder / "items.jsonl") != result["items_sha256"]:
        raise Refused(f"The seal of {job.id} does not hold: judge, items or model changed meanwhile. Measure again.")
    rows, asked = read_rows(folder / "items.jsonl"), read_rows(Path(job.config["items"]))
    split = job.config["split"]
    if [row["id"] for row in rows] != [item["id"] for item in asked]:
        raise Refused(f"The items of {job.id} are not those of the {split} split. Measure again.")
    n, correct = len(rows), sum(float(row["correct"]) for row in rows)
    interval = wilson(correct, n)
    return Scored(
        model=model, benchmark=job.config["benchmark"], split=split, metric=metric,
        value=correct / n, low=interval.low, high=interval.high, n=n, items=f"{job.folder}/items.jsonl",
        seal=sealed, job=job.id, finished_share=result.get("finished_share"),
    )  # fmt: skip


def verdict_on(job: Job, idea: str, views: Views, session: Path) -> Promoted:
    """What becomes of a candidate, by its dev items and those of the best model so far.

    Raises:
        NotThere: The candidate or the best has no sealed dev score yet.
        Refused: Another judge or other items measured one of them.
    """
    about: dict[str, Any] = {"model": job.id, "against": views.best, "idea": idea or job.idea}
    about |= {"expected": job.expects.delta if job.expects else None}
    if job.ended and job.state != "done" and views.score(job.id, "dev") is None:
        if job.state in ("cancelled", "timeout"):  # somebody wanted it so: it did not break
            return Promoted(verdict="discard", reason=f"{job.state} before it was done, and not measured", **about)
        return Promoted(verdict="crash", reason=job.ended.reason, **about)
    candidate, best = (_on_dev(name, views) for name in (job.id, views.best))
    if (candidate.seal.judge, candidate.seal.split) != (best.seal.judge, best.seal.split):
        what = f"{job.id} and {views.best} were measured by another judge or on other items"
        raise Refused(f"{what}; measure {views.best} on dev again.")
    new, old = ([float(row["correct"]) for row in read_rows(session / score.items)] for score in (candidate, best))
    compared = paired(new, old)
    kept, reason = verdict(compared)
    return Promoted(verdict=kept, reason=reason, **compared.numbers, **about)


def _on_dev(model: str, views: Views) -> Scored:
    score = views.score(model, "dev")
    if score is None:
        raise NotThere(f"{model} has no dev score yet; measure it on dev first.")
    return score
