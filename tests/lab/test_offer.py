"""What a reward collapse offers is started by the name of its job: the same run with one change each, in one table."""

import json

import pytest

from agent import terminal
from lab.errors import NotThere, Refused
from lab.findings import Finding
from lab.offer import accept
from lab.supervisor import found, with_offer
from record.events import Finished
from record.views import Job
from tests.lab.test_sweep import ran
from tests.scripted import Script, script_session

COLLAPSED = Finding("stop", "reward_collapse", "The reward is 0, and its best was 0.4.", "Lower it.", {"step": 20})


def offered_on(job: Job) -> Finding:
    return with_offer(COLLAPSED, job)


@pytest.mark.slow
def test_a_run_whose_reward_collapses_offers_two_that_one_call_starts_and_compares(lab_of, settings):
    """A warm-up of the learning rate to 0.02: from step 10 on the model has forgotten what it knew."""
    lab, journal = lab_of()
    lab.prepare("worked", "task", 1600, 1.0)
    warm = {"data": "data/worked.jsonl", "batch_size": 32, "lr": 2e-3, "max_steps": 50, "max_length": 64}
    model = lab.train("sft", warm, 0.3, "", "c1", gain=0.1)["job"]
    lab.prepare("bare", "task", 400, 0.0)
    config = {"data": "data/bare.jsonl", "model": model, "lr": 0.02, "warmup_steps": 60, "max_steps": 60, "seed": 3}
    lab.wait(model, 600)
    given = config | {"batch_size": 32, "max_new_tokens": 24, "log_steps": 1}
    job = lab.train("grpo", given, 0.3, "", "c2", gain=0.2)["job"]
    while lab.views.jobs[job].running:
        lab.wait(job, 600)
    found = next(one for one in lab.views.jobs[job].findings if one.rule == "reward_collapse")
    assert found.evidence["ablation"] == [{"lr": 0.0067}, {"beta": 0.04}]
    assert f'sweep(offered="{job}")' in found.advice

    lab.workspace.write("data/bare.jsonl", "")  # the job's own rows are run, whatever became of the file
    script_session(settings, lab.folder.name, Script(("sweep", {"offered": job})))

    (answer,) = [fact for fact in journal.views.finished.values() if fact.name == "sweep"]
    table = json.loads(answer.output)["configs"]
    assert [row["config"] for row in table] == [
        {"lr": 0.0067, "beta": "default"},
        {"lr": 0.02, "beta": 0.04},
    ]
    assert [row["job"] for row in table] == ["grpo-2", "grpo-3"]
    first, *others = [journal.views.jobs[one] for one in (job, "grpo-2", "grpo-3")]
    changing = {"lr", "beta", "data", "trackio_run"}
    for other in others:
        assert {n: v for n, v in other.config.items() if n not in changing} == {
            n: v for n, v in first.config.items() if n not in changing
        }
        assert (other.expects.delta, other.recipe) == (0.2, "grpo")


def test_a_job_on_which_nothing_was_offered_is_refused_in_one_sentence(lab_of, settings):
    lab, journal = lab_of()
    journal.append(*ran("sft-1", 9.0))
    with pytest.raises(Refused, match=r"^Nothing was offered on sft-1; give config, and vary or configs, instead\.$"):
        accept(lab, "sft-1")
    with pytest.raises(NotThere, match="no job 'grpo-7'; there are: sft-1"):
        accept(lab, "grpo-7")
    calls = (
        ("sweep", {"offered": "sft-1"}),
        ("sweep", {"offered": "sft-1", "config": {"lr": 1}}),
        ("sweep", {"vary": {"lr": [1, 2]}}),
    )
    told = script_session(settings, lab.folder.name, Script(*calls))
    said = [fact.output for fact in told.log if isinstance(fact, Finished)]
    assert said[:2] == ["Nothing was offered on sft-1; give config, and vary or configs, instead."] * 2
    assert said[2] == "A sweep needs config, idea and expected_gain, or else the job of an offer."
    assert len(journal.views.jobs) == 1


def test_rows_that_are_not_those_of_the_launch_are_not_run(lab_of):
    lab, journal = lab_of()
    journal.append(*ran("sft-1", 9.0, data="jobs/sft-1/data.jsonl", data_sha256="0" * 64, lr=1e-3, model="m"))
    journal.append(found(offered_on(journal.views.jobs["sft-1"]), "sft-1"))
    folder = lab.folder / "jobs" / "sft-1"
    folder.mkdir(parents=True)
    (folder / "data.jsonl").write_text("{}\n")
    with pytest.raises(Refused, match="The data of sft-1 is not what it was launched with"):
        accept(lab, "sft-1")
    assert not lab.workspace.path("data/sft-1.jsonl").exists()


def test_a_script_is_offered_its_own_settings_only_and_none_offers_nothing():
    def job(**config) -> Job:
        return Job("script-1", "script", config, "cpu", 1.0, "", "jobs/script-1", "c1")

    assert offered_on(job(lr=3e-4)).evidence["ablation"] == [{"lr": 1e-4}]
    assert offered_on(job(rate=3e-4)) == COLLAPSED


def test_the_terminal_says_the_offer_in_words():
    job = Job("grpo-1", "grpo", {"lr": 3e-5}, "cpu", 1.0, "", "jobs/grpo-1", "c1")
    lines = terminal.lines(found(offered_on(job), "grpo-1"))
    assert lines[1:] == [
        "    offered 1: the same run with a learning rate of 1e-05",
        "    offered 2: the same run with a KL penalty (beta) of 0.04",
    ]
