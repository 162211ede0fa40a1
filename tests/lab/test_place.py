"""Where a job runs: here, or on which rented machine."""

import pytest

from lab.backend import Machine
from lab.errors import BadInput, Refused
from lab.place import Wait, choose

GIB = 2**30
HERE = Machine("local CPU, 2 cores", "cpu", 16 * GIB, 0.0)


OFFERS = {
    one.name: one
    for one in (
        Machine("hf-jobs cpu-basic", "cpu", 16 * GIB, 0.01),
        Machine("hf-jobs t4-small", "cuda", 16 * GIB, 0.4),
        Machine("hf-jobs l4x1", "cuda", 24 * GIB, 0.8),
        Machine("hf-jobs a10g-largex2", "cuda", 24 * GIB, 3.0, 2),
        Machine("hf-jobs a100-large", "cuda", 80 * GIB, 4.0),
        Machine("hf-jobs mystery", "cuda", 900 * GIB, None),
    )
}


@pytest.mark.parametrize(
    "asked, needs, capped, name",
    [
        ("auto", 4 * GIB, True, "local CPU, 2 cores"),
        ("auto", 0, True, "local CPU, 2 cores"),  # nobody knows
        ("auto", 15 * GIB, False, "local CPU, 2 cores"),  # nothing is rented that nobody has allowed
        ("auto", 15 * GIB, True, "hf-jobs l4x1"),
        ("auto", 100 * GIB, True, "local CPU, 2 cores"),  # it fits nowhere at a known price: preflight will say it
        ("local", 100 * GIB, True, "local CPU, 2 cores"),
        ("t4-small", 0, True, "hf-jobs t4-small"),
        ("hf-jobs t4-small", 0, True, "hf-jobs t4-small"),
    ],
)
def test_a_job_runs_here_or_where_it_fits_for_the_least(asked: str, needs: int, capped: bool, name: str):
    assert choose(asked, lambda machine: needs, HERE, lambda: OFFERS, 9.0 if capped else None).name == name


@pytest.mark.parametrize(
    ("gibs", "name"), [(30, "a10g-largex2"), (60, "a100-large")]  # 30 in two halves fits into 24, and 60 does not
)  # fmt: skip
def test_several_gpus_are_rented_where_they_are_the_cheapest_that_hold_it(gibs: int, name: str):
    def needs(machine: Machine) -> int:
        return gibs * GIB // machine.accelerators

    found = choose("auto", needs, HERE, lambda: OFFERS, 9.0)
    assert found.name == f"hf-jobs {name}" and "a job may have 14.4 GiB here" in found.why


@pytest.mark.parametrize(
    ("queue", "takes", "left", "dollars", "name"),
    [
        (600.0, 1200.0, 1500.0, 9.0, "hf-jobs t4-small"),
        (600.0, 1200.0, 1800.0, 9.0, "local CPU, 2 cores"),  # it just comes in time
        (1600.0, None, 1500.0, 9.0, "hf-jobs t4-small"),  # it would not even begin
        (600.0, None, 1500.0, 9.0, "local CPU, 2 cores"),
        (0.0, 1200.0, 600.0, 9.0, "local CPU, 2 cores"),  # nobody is before it: no other machine is said to be faster
        (None, 1200.0, 600.0, 9.0, "local CPU, 2 cores"),
        (600.0, 1200.0, None, 9.0, "local CPU, 2 cores"),
        (600.0, 1200.0, 1500.0, 0.1, "local CPU, 2 cores"),  # 20 min at $0.4 an hour are $0.13
        (600.0, 1200.0, 1500.0, None, "local CPU, 2 cores"),
    ],
)
def test_a_job_that_would_come_too_late_here_goes_where_it_begins_at_once(queue, takes, left, dollars, name):
    found = choose("auto", lambda machine: 4 * GIB, HERE, lambda: OFFERS, dollars, 1.0, Wait(queue, takes, left))
    assert found.name == name
    if takes and not found.here:
        assert found.why == (
            "it would wait about 10.0 min for the machine here and then takes about 20.0 min, "
            "and 25.0 min of the session are left"
        )


def test_a_machine_that_is_not_there_or_not_paid_for_is_refused():
    with pytest.raises(BadInput, match=r"no machine 't5'; use auto, local, or one of cpu-basic, t4-small"):
        choose("t5", lambda machine: 0, HERE, lambda: OFFERS, 9.0)
    with pytest.raises(Refused, match="no cap of dollars"):
        choose("t4-small", lambda machine: 0, HERE, lambda: OFFERS, None)
