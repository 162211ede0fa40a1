"""Only what was measured as it was asked for becomes a score."""

from pathlib import Path

import pytest

from lab.backend import write_json
from lab.errors import LabError, NotThere, Refused
from lab.judge import score_of, seal_of, verdict_on
from lab.tasks import read_rows, write_rows
from recipes.seal import file_hash
from record.events import Ended, Expectation, Launched, Scored, Seal
from record.views import Job, Views

ITEMS = [{"id": str(i), "question": f"{i} + 1", "answer": str(i + 1)} for i in range(4)]
SEAL = Seal(judge="j", split="s", model="m")


def evaluated(session: Path, state: str = "done", **result) -> Job:
    """A job whose folder says that three of the four items were right."""
    folder = session / "jobs" / "evaluate-1"
    write_rows(session / "dev.jsonl", ITEMS)
    write_rows(folder / "items.jsonl", ({**item, "correct": item["id"] != "0"} for item in ITEMS))
    about = {"ok": True, "seal": SEAL.model_dump(), "items_sha256": file_hash(folder / "items.jsonl")}
    write_json(folder / "result.json", about | result)
    config = {"benchmark": "chains", "split": "dev", "items": str(session / "dev.jsonl")}
    launched = Launched(
        job="evaluate-1", recipe="evaluate", config=config, machine="m", hours=1, folder="jobs/evaluate-1"
    )
    return Views([launched, Ended(job="evaluate-1", state=state, seconds=1, reason="why")]).jobs["evaluate-1"]


def test_an_evaluation_whose_seal_holds_is_a_score(tmp_path: Path):
    score = score_of(evaluated(tmp_path), tmp_path, "sft-1", "accuracy", SEAL)
    assert (score.value, score.n, score.split, score.items) == (0.75, 4, "dev", "jobs/evaluate-1/items.jsonl")
    assert score.low < 0.75 < score.high and score.seal == SEAL


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates"])
def test_a_model_that_would_quote_the_items_is_not_measured(tmp_path: Path, name: str):
    items, model = tmp_path / "vault" / "chains" / "heldout.jsonl", tmp_path / "sft-1" / "model"
    write_rows(items, ITEMS)
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").symlink_to(model / "config.json")  # as the Hub's cache does it
    seal_of("chains", items, model)
    (model / name).symlink_to(items if "." in name else tmp_path)
    with pytest.raises(Refused, match="has a link to"):
        seal_of("chains", items, model)


def test_the_model_of_a_hub_id_is_what_the_judge_loaded(tmp_path: Path):
    asked = SEAL.model_copy(update={"model": ""})
    assert score_of(evaluated(tmp_path), tmp_path, "base", "accuracy", asked).seal.model == "m"
    assert seal_of("chains", tmp_path / "dev.jsonl", "org/name").model == ""


@pytest.mark.parametrize("changed", ["judge", "split", "model"])
def test_another_judge_other_items_or_another_model_break_the_seal(tmp_path: Path, changed):
    with pytest.raises(Refused, match="seal of evaluate-1 does not hold"):
        score_of(evaluated(tmp_path), tmp_path, "sft-1", "accuracy", SEAL.model_copy(update={changed: "x"}))


def test_items_that_were_changed_after_judging_break_the_seal(tmp_path: Path):
    job, path = evaluated(tmp_path), tmp_path / "jobs" / "evaluate-1" / "items.jsonl"
    write_rows(path, ({**row, "correct": True} for row in read_rows(path)))
    with pytest.raises(Refused, match="does not hold"):
        score_of(job, tmp_path, "sft-1", "accuracy", SEAL)


def test_an_evaluation_of_fewer_items_than_were_given_is_no_score(tmp_path: Path):
    job = evaluated(tmp_path)
    write_rows(tmp_path / "dev.jsonl", [*ITEMS, {"id": "4", "question": "", "answer": ""}])
    with pytest.raises(Refused, match="not those of the dev split"):
        score_of(job, tmp_path, "sft-1", "accuracy", SEAL)


def test_an_evaluation_that_failed_is_no_score(tmp_path: Path):
    with pytest.raises(LabError, match="evaluation evaluate-1 failed: why"):
        score_of(evaluated(tmp_path, state="failed"), tmp_path, "sft-1", "accuracy", SEAL)
    with pytest.raises(LabError, match="failed"):
        score_of(evaluated(tmp_path, ok=False), tmp_path, "sft-1", "accuracy", SEAL)


@pytest.mark.parametrize(
    ("state", "verdict", "reason"),
    [
        ("failed", "crash", "out of memory"),
        ("timeout", "discard", "timeout before it was done, and not measured"),
        ("cancelled", "discard", "cancelled before it was done, and not measured"),
    ],
)
def test_a_job_that_did_not_come_to_its_end_is_judged_by_how_it_ended(tmp_path: Path, state, verdict, reason):
    expects = Expectation(delta=0.2)
    facts = [
        Launched(
            job="sft-1", recipe="sft", config={}, machine="m", hours=1, idea="try", expects=expects, folder="jobs/sft-1"
        ),
        Ended(job="sft-1", state=state, seconds=1, reason="out of memory"),
    ]
    views = Views(facts)
    judged = verdict_on(views.jobs["sft-1"], "", views, tmp_path)
    assert (judged.verdict, judged.reason, judged.idea, judged.expected) == (verdict, reason, "try", 0.2)
    assert judged.delta is None and judged.against == "base"


def test_a_job_that_was_stopped_and_measured_all_the_same_is_judged_by_its_score(tmp_path: Path):
    facts = [
        Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=1, folder="jobs/sft-1"),
        Ended(job="sft-1", state="timeout", seconds=1),
    ]
    write_rows(tmp_path / "new.jsonl", [{"correct": True}] * 20)
    write_rows(tmp_path / "old.jsonl", [{"correct": False}] * 20)
    new, old = (
        Scored(
            model=model, benchmark="chains", split="dev", metric="accuracy", value=0, low=0, high=0, n=20,
            items=items, seal=SEAL, job="e",
        )
        for model, items in (("sft-1", "new.jsonl"), ("base", "old.jsonl"))
    )  # fmt: skip
    with pytest.raises(NotThere, match="base has no dev score yet"):
        verdict_on((views := Views([*facts, new])).jobs["sft-1"], "", views, tmp_path)
    judged = verdict_on((views := Views([*facts, new, old])).jobs["sft-1"], "", views, tmp_path)
    assert (judged.verdict, judged.delta, judged.p) == ("keep", 1.0, 2 * 0.5**20)
