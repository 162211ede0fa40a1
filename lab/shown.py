"""What verbs answer, as the brain reads it: plain dictionaries, and their text."""

import json
from pathlib import Path
from typing import Any

from lab.backend import read_json
from lab.forecast import hindsight
from lab.tasks import read_rows
from record.events import Promoted, Scored
from record.views import Job

FIGURES = ("peak_mb", "usual_s", "tokens_per_second_worst", "eta_s")
LARGEST = 1e12  # of them


def as_text(value: Any) -> str:
    """A verb's result as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)


def figures(folder: Path) -> dict[str, float]:
    """What a job's trainer has measured before its first step (recipes.probe). It may have written anything there."""
    seen = read_json(folder / "preflight.json")
    return {k: v for k, v in seen.items() if k in FIGURES and type(v) in (int, float) and 0 <= v <= LARGEST}


def status(job: Job, folder: Path) -> dict[str, Any]:
    """How a job stands. `folder` is the session's."""
    shown: dict[str, Any] = {"job": job.id, "state": job.state, "step": job.step, "steps": job.steps}
    shown |= {"metrics": job.values, "eta_s": job.eta_s, "attempt": job.attempt}
    if job.price != 0:
        shown["dollars_at_most"] = "unknown" if job.price is None else round(job.dollars(job.hours * 3600), 2)
    if measured := figures(folder / job.folder):
        price = {"dollars": round(job.dollars(measured["eta_s"]), 2)} if job.price and "eta_s" in measured else {}
        shown["measured"] = measured | price  # for the whole run
    if job.ended:
        result = {k: v for k, v in job.ended.result.items() if k not in ("seal", "ok", "error")}
        shown |= {"seconds": job.seconds, "reason": job.ended.reason, "result": result}
    return shown | {"findings": [f.model_dump(include={"rule", "level", "what", "advice"}) for f in job.findings]}


def measured(score: Scored, folder: Path) -> dict[str, Any]:
    """A score, with a few failures when it is one of the dev split. `folder` is the session's."""
    shown = score.model_dump(include={"model", "split", "metric", "value", "low", "high", "n", "finished_share"})
    if score.split == "dev":
        wrong = [row for row in read_rows(folder / score.items) if not row["correct"]]
        shown["failures"] = [{k: row[k] for k in ("question", "output", "answer")} for row in wrong[:4]]
    return shown


def judged(fact: Promoted, best: str) -> dict[str, Any]:
    """A verdict, what is the best now, and how far off the forecast was."""
    shown = fact.model_dump(include={"model", "verdict", "against", "reason", "delta", "low", "high", "p"})
    said = hindsight(fact.expected, fact.delta)
    return shown | {"best": best} | ({"forecast": said} if said else {})
