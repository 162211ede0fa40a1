"""What jobs have taken is kept, and corrects the estimates of those that follow."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lab import demand, peaks
from lab.backend import Machine
from lab.demand import Space
from lab.integrity import Index
from lab.lab import Lab
from lab.models import STARTER, parameters, sizes, token_counter
from lab.peaks import Peak
from lab.preflight import preflight
from lab.shown import figures
from lab.tasks import read_rows
from recipes import sft
from recipes.catalogue import RECIPES
from record.events import Found
from record.views import Job

MIB, GIB = 2**20, 2**30
HERE = Machine("local CPU, 2 cores", "cpu", 2 * GIB, 0.0)
SHAPE = sizes(json.loads((STARTER / "config.json").read_text()))
ROWS = [{"prompt": f"{i} + 1 =", "completion": " 1" * 200} for i in range(64)]
CONFIG = {"model": str(STARTER), "batch_size": 64, "max_length": 128}


@pytest.fixture
def session(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions" / "one"
    folder.mkdir(parents=True)
    return folder


def ran(
    session: Path,
    name: str = "sft-1",
    peak_mb: object = None,
    rss: int | None = None,
    findings=(),
    fitted=None,
    **config,
) -> list[Peak]:
    """What is known after a job that left these figures."""
    folder = session / "jobs" / name
    folder.mkdir(parents=True)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "preflight.json").write_text(json.dumps({"peak_mb": peak_mb, "fitted": fitted or {}}))
    recipe, full = name.partition("-")[0], CONFIG | {"data": str(folder / "data.jsonl")} | config
    job = Job(name, recipe, full, HERE.name, 1.0, "", f"jobs/{name}", "")
    demand.learn(session, job, HERE, {"peak_rss_mb": rss}, findings)
    return peaks.look(session.with_name("two"))  # every session of the person reads one list


def needs(past=(), kind=sft.Config, length=128, machine=HERE, **config) -> int:
    assert SHAPE
    full = {name: field.default for name, field in kind.model_fields.items()} | CONFIG | config
    return Space(machine, SHAPE, parameters(STARTER), past).needs(kind, full, length)


def test_what_a_job_took_corrects_the_estimate_of_its_kind_and_of_no_other(session):
    alone = needs()
    measured = int(alone * 1.3 / MIB)
    past = ran(session, peak_mb=measured)
    assert needs(past) == pytest.approx(measured * MIB, rel=0.01)
    assert needs(past, batch_size=128) == pytest.approx(1.3 * needs(batch_size=128), rel=0.01)
    gpu = replace(HERE, device="cuda")
    assert needs(past, machine=gpu) == needs(machine=gpu)
    assert needs(past, lora_rank=8) == needs(lora_rank=8)
    assert needs(past, RECIPES["cpt"]) == needs(kind=RECIPES["cpt"])


def test_one_number_stands_in_the_finding_the_queue_and_the_choice_of_a_machine(session):
    past = ran(session, peak_mb=int(needs() * 1.4 / MIB))
    file = session / "jobs" / "sft-1" / "data.jsonl"
    queued = demand.demand("sft", CONFIG | {"data": str(file)}, past)(HERE)
    assert SHAPE
    small = replace(HERE, bytes=int(queued / 1.1))
    found = preflight(
        ROWS, CONFIG, Index([]), token_counter(str(STARTER)), GIB, None, None, sft.Config,
        Space(small, SHAPE, parameters(STARTER), past),
    )  # fmt: skip
    (short,) = [one for one in found if one.rule == "no_memory"]
    assert short.evidence["needs_bytes"] == queued and short.evidence["corrected_by"] == {
        "session": "one",
        "job": "sft-1",
    }
    assert short.evidence["estimated_bytes"] * 1.4 == pytest.approx(queued, rel=0.01)
    assert "times 1.40: sft-1 of one took " in short.what


def test_the_job_whose_estimate_is_nearest_corrects_and_of_equals_the_last():
    made = [
        Peak(session="s", job=f"sft-{at}", kind="k", estimated=size, measured=size)
        for at, size in enumerate((8, 64, 64), 1)
    ]
    chosen = [peaks.nearest(made, "k", size) for size in (1, 20, 25, 900)]
    assert [peak.job for peak in chosen if peak] == ["sft-1", "sft-1", "sft-3", "sft-3"]
    assert peaks.nearest(made, "another", 8) is None


@pytest.mark.parametrize(("off", "factor"), [(0.1, 0.5), (0.8, 0.8), (1.6, 1.6), (40.0, 2.0)])
def test_no_measurement_moves_an_estimate_further_than_half_or_twice(off, factor):
    peak = Peak(session="s", job="j", kind="k", estimated=1000 * MIB, measured=int(off * 1000 * MIB))
    assert peak.factor == pytest.approx(factor)


def test_what_the_trainer_fitted_is_what_was_measured(session):
    (peak,) = ran(session, peak_mb=600, fitted={"batch_size": 16, "grad_accumulation": 4, "max_length": 10**9})
    assert peak.estimated == needs(batch_size=16, grad_accumulation=4)


def test_a_job_whose_longest_rows_were_not_tried_first_corrects_upwards_alone(session):
    estimated = needs() // MIB
    assert ran(session, "sft-1", rss=estimated // 2) == []
    (peak,) = ran(session, "sft-2", rss=estimated * 2)
    assert peak.factor > 1.9
    assert ran(session, "cpt-1", peak_mb=300, rss=400)[-1].measured == 400 * MIB  # the whole job, where both are known


@pytest.mark.parametrize(
    "left",
    [{"peak_mb": "much"}, {"peak_mb": -1}, {"peak_mb": float("nan")}, {"rss": 10**400}, {"peak_mb": 500, "fitted": ["batch_size"]},
     {"peak_mb": 500, "fitted": {"batch_size": "x"}}, {"peak_mb": 500, "model": "nowhere"}, {}],
)  # fmt: skip
def test_nothing_is_learned_of_what_a_trainer_may_write_and_nobody_falls(session, left):
    assert ran(session, **left) == []


def test_nothing_is_learned_of_one_that_starved_and_each_job_is_kept_once(session):
    starved = [Found(rule="out_of_memory", level="stop", what="", advice="")]
    assert ran(session, "sft-1", peak_mb=500, findings=starved) == []
    assert ran(session, "script-1", peak_mb=500) == []
    (peak,) = ran(session, "sft-2", peak_mb=500)
    peaks.keep(session, peak)
    assert len((session.parent.parent / "peaks.jsonl").read_text().splitlines()) == 1


def measured(lab: Lab, call: str, **config) -> tuple[int, int, int]:
    """Bytes of a real job: estimated by the formula alone, as the lab said before its launch, and taken."""
    full = lab.checked("sft", {"data": "data/mixed.jsonl", "max_steps": 30, "log_steps": 30, "save_steps": 30} | config)
    said = [demand.demand("sft", full, past)(lab.place("local", "sft", full)) for past in ([], peaks.look(lab.folder))]
    job = lab.train("sft", full | {"data": "data/mixed.jsonl", "model": "base"}, 1.0, "", call, gain=0.1)["job"]
    while (status := lab.wait(job, 120))["state"] == "running":
        pass
    assert status["state"] == "done", status
    taken = max(figures(lab.folder / "jobs" / job)["peak_mb"], status["result"]["peak_rss_mb"])
    return said[0], said[1], int(taken * MIB)


@pytest.mark.slow
def test_the_second_estimate_of_real_jobs_is_nearer_than_the_first(lab_of):
    """The formula knows nothing of SFT's passes: of rows of unlike length it says far too much."""
    lab, _ = lab_of()
    rows = read_rows(lab.workspace.path("data/rows.jsonl"))
    for at, row in enumerate(rows):
        row["completion"] += " 1+1=2" * (20 if at % 8 == 0 else 0)
    lab.workspace.path("data/mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone, first, taken = measured(lab, "c1", batch_size=32)
    assert alone == first and abs(first / taken - 1) > 0.25
    alone, second, taken_then = measured(lab, "c2", batch_size=48)
    assert second < alone and abs(second / taken_then - 1) < abs(alone / taken_then - 1) / 2
    assert abs(second / taken_then - 1) < abs(first / taken - 1)
