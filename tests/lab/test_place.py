"""Where a job runs: here, or on which rented machine."""

import pytest

from lab.backend import Machine
from lab.errors import BadInput, LabError, Refused
from lab.place import Wait, choose, larger

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


@pytest.mark.parametrize(
    ("starved", "needs", "dollars", "name"),
    [
        ({HERE.name}, 1 * GIB, 9.0, "hf-jobs l4x1"),  # it would fit here by its estimate; a T4 has no more memory
        ({HERE.name, "hf-jobs l4x1"}, 1 * GIB, 9.0, "hf-jobs a100-large"),
        ({"hf-jobs cpu-basic"}, 1 * GIB, 9.0, "hf-jobs l4x1"),  # and it has as much as the one here
        ({"a machine of old"}, 1 * GIB, 9.0, HERE.name),
        ({HERE.name}, 100 * GIB, 9.0, HERE.name),  # nothing holds it: preflight and the guards will say it
        ({HERE.name}, 1 * GIB, None, HERE.name),
    ],
)
def test_what_ran_out_of_memory_is_not_sent_to_a_machine_with_no_more(starved, needs, dollars, name):
    found = choose("auto", lambda machine: needs, HERE, lambda: OFFERS, dollars, starved=starved)
    assert found.name == name
    assert found.here or found.why.startswith("such a job has run out of memory on ")


@pytest.mark.parametrize(
    ("than", "dollars", "hours", "name", "says"),
    [
        (HERE.name, 9.0, 1.0, "hf-jobs l4x1", 'machine = "l4x1": 24.0 GiB for $0.8 an hour.'),
        (HERE.name, 0.5, 0.5, "hf-jobs l4x1", 'machine = "l4x1"'),
        ("hf-jobs l4x1", 9.0, 1.0, "hf-jobs a100-large", "80.0 GiB for $4"),
        ("hf-jobs small", 9.0, 1.0, HERE.name, 'machine = "local": 16.0 GiB for $0 an hour.'),
        (HERE.name, 0.5, 1.0, None, "hf-jobs l4x1 (24.0 GiB for $0.8 an hour), is too dear: it may run for 60.0 min"),
        ("hf-jobs a100-large", 9.0, 1.0, None, "None that can be rented has more than 80.0 GiB"),
        (HERE.name, None, 1.0, None, "Nothing is rented without a cap of dollars"),
    ],
)
def test_after_the_last_setting_comes_the_cheapest_machine_with_more_memory(than, dollars, hours, name, says):
    offers = OFFERS | {"hf-jobs small": Machine("hf-jobs small", "cpu", GIB, 0.001)}
    found, said = larger(than, lambda machine: 0, HERE, lambda: offers, dollars, hours)
    assert (found and found.name) == name and says in said


def test_no_processor_follows_a_gpu_and_nothing_that_the_estimate_rules_out():
    more = {"hf-jobs cpu-xl": Machine("hf-jobs cpu-xl", "cpu", 900 * GIB, 1.0)}
    assert (
        larger(HERE.name, lambda machine: 30 * GIB, HERE, lambda: OFFERS | more, 9.0, 1.0)[0] == more["hf-jobs cpu-xl"]
    )
    found, _ = larger("hf-jobs l4x1", lambda machine: 30 * GIB, HERE, lambda: OFFERS | more, 9.0, 1.0)
    assert found == OFFERS["hf-jobs a100-large"]
    assert larger("hf-jobs l4x1", lambda machine: 79 * GIB, HERE, lambda: OFFERS | more, 9.0, 1.0)[0] is None


def test_auto_is_here_where_a_job_has_starved_and_nobody_can_say_what_is_larger():
    """The guard warns of it all the same; a session without a token must not end for that."""

    def nobody():
        raise LabError("No HF_TOKEN is set.")

    assert choose("auto", lambda machine: 1, HERE, nobody, 5.0, starved={HERE.name}) == HERE


def test_where_the_hub_names_no_machine_the_reason_is_its_own():
    def none() -> dict[str, Machine]:
        raise LabError("No HF_TOKEN is set; set one that may write.")

    assert larger(HERE.name, lambda machine: 0, HERE, none, 9.0, 1.0) == (
        None,
        "None can be rented: No HF_TOKEN is set; set one that may write.",
    )
