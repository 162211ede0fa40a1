"""The fixed policy: what it does next, given what it has seen."""

import json
from dataclasses import replace

import pytest

from agent.autopilot import NAME, Autopilot, decide, look_back
from agent.ideas import Idea, Trial, expected_gain, first_idea, next_idea
from recipes.grpo import Config

AUDIT = {"model_parameters": 900_000, "worked_solutions": True, "answer_tokens": 64, "sources": {"task": {"rows": 512}}}
TERMS = {
    "task": "chains",
    "target": 0.9,
    "own_rows": False,
    "model": "m",
    "metric": "accuracy",
    "budget": {},
    "seed": 0,
}


class Talk:
    """A session as messages: each call is answered at once."""

    def __init__(self, **terms):
        self.messages = [
            {"role": "system", "content": "…"},
            {"role": "user", "content": f"Do it.\n\n{json.dumps(TERMS | terms)}"},
        ]

    def answer(self, name: str, arguments: dict, result: dict | str) -> "Talk":
        call = f"c{len(self.messages)}"
        made = {"id": call, "function": {"name": name, "arguments": json.dumps(arguments)}}
        content = result if isinstance(result, str) else json.dumps(result)
        self.messages += [
            {"role": "assistant", "content": "", "tool_calls": [made]},
            {"role": "tool", "tool_call_id": call, "content": content},
        ]
        return self

    def score(self, model: str, split: str, value: float, finished: float = 1.0) -> "Talk":
        score = {"model": model, "split": split, "value": value, "low": value, "high": value, "n": 200}
        return self.answer("evaluate", {"model": model, "split": split}, score | {"finished_share": finished})

    def begun(self) -> "Talk":
        self.answer("plan", {"steps": []}, {"steps": 4}).answer("audit_data", {}, AUDIT)
        return self.score("base", "heldout", 0.0).score("base", "dev", 0.0)

    def trained(self, job: str, idea: Idea, value: float, verdict: str, findings: tuple = ()) -> "Talk":
        self.answer("prepare_data", {"name": job, **idea.data()}, {"file": f"data/{job}.jsonl"})
        config = {"data": f"data/{job}.jsonl", **idea.config()}
        self.answer("train", {"recipe": "sft", "config": config, "idea": idea.text}, {"job": job})
        state = {"job": job, "state": "done", "reason": "", "findings": list(findings)}
        self.answer("wait", {"job": job}, state).score(job, "dev", value)
        best = job if verdict == "keep" else "base"
        return self.answer("promote", {"model": job}, {"model": job, "verdict": verdict, "best": best})

    @property
    def next(self):
        return decide(look_back(self.messages))


def calls(move) -> list[str]:
    return [name for name, _ in move.calls]


def test_it_measures_the_base_before_it_trains():
    talk = Talk()
    assert calls(talk.next) == ["plan", "audit_data"]
    talk.answer("plan", {"steps": []}, {"steps": 4}).answer("audit_data", {}, AUDIT)
    assert talk.next.calls == (("evaluate", {"model": "base", "split": "heldout"}),)
    talk.score("base", "heldout", 0.0)
    assert talk.next.calls == (("evaluate", {"model": "base", "split": "dev"}),)
    talk.score("base", "dev", 0.0)
    assert calls(talk.next) == ["plan", "prepare_data", "train"]


def test_it_ends_on_held_out_items_when_dev_reaches_the_target():
    talk = Talk().begun().trained("sft-1", first_idea(AUDIT, False), 0.95, "keep")
    assert talk.next.calls[-1] == ("evaluate", {"model": "sft-1", "split": "heldout"})
    talk.score("sft-1", "heldout", 0.94)
    assert {step["state"] for step in talk.next.calls[0][1]["steps"]} == {"done"}
    talk.answer("plan", talk.next.calls[0][1], {"steps": 4})
    assert calls(talk.next) == ["final_answer"]
    answer = talk.next.calls[0][1]["answer"]
    assert "0.940" in answer and "missed" not in answer


def test_it_goes_on_when_the_target_is_missed_and_says_so_at_the_end():
    talk = Talk().begun().trained("sft-1", first_idea(AUDIT, False), 0.3, "keep")
    assert "train" in calls(talk.next)
    talk.answer(
        "train", {"recipe": "sft", "config": {"data": "data/sft-1.jsonl"}, "idea": "x"}, "The job needs about 90 s."
    )
    assert talk.next.calls[-1] == ("evaluate", {"model": "sft-1", "split": "heldout"})
    talk.score("sft-1", "heldout", 0.31)
    talk.answer("plan", talk.next.calls[0][1], {"steps": 4})
    assert "The target of 0.9 is missed" in talk.next.calls[0][1]["answer"]


TOO_LONG = "The job does not fit into the time that is left: it needs … Use at most {} steps, or finish with the best."


def test_an_idea_that_does_not_fit_into_the_time_is_tried_with_fewer_steps_once():
    talk = Talk().begun().trained("sft-1", first_idea(AUDIT, False), 0.3, "keep")
    name, first = talk.next.calls[-1]
    talk.answer(name, first, TOO_LONG.format(60))
    name, smaller = talk.next.calls[-1]
    assert name == "train" and smaller["config"] == first["config"] | {"max_steps": 60}
    assert "In 60 steps instead of 100" in smaller["idea"]
    talk.answer(name, smaller, TOO_LONG.format(40))
    assert talk.next.calls[-1] == ("evaluate", {"model": "sft-1", "split": "heldout"})


def test_an_idea_that_fits_after_all_goes_its_way_and_is_not_cut_short_to_the_same_again():
    talk = Talk().begun().trained("sft-1", first_idea(AUDIT, False), 0.3, "keep")
    talk.answer("train", talk.next.calls[-1][1], TOO_LONG.format(60))
    talk.answer("train", talk.next.calls[-1][1], {"job": "sft-2"})
    assert talk.next.calls == (("wait", {"job": "sft-2"}),)
    talk.answer("wait", {"job": "sft-2"}, {"job": "sft-2", "state": "done", "reason": "", "findings": []})
    talk.score("sft-2", "dev", 0.2)
    talk.answer("promote", {"model": "sft-2"}, {"model": "sft-2", "verdict": "discard", "best": "sft-1"})
    name, again = talk.next.calls[-1]
    talk.answer(name, again, TOO_LONG.format(60))
    assert talk.next.calls[-1] == ("evaluate", {"model": "sft-1", "split": "heldout"})  # it was tried in 60 steps


@pytest.mark.parametrize("steps", [0, 24])
def test_too_few_steps_to_test_anything_end_it(steps):
    talk = Talk().begun().trained("sft-1", first_idea(AUDIT, False), 0.3, "keep")
    talk.answer("train", talk.next.calls[-1][1], TOO_LONG.format(steps))
    assert talk.next.calls[-1] == ("evaluate", {"model": "sft-1", "split": "heldout"})


def test_a_best_model_that_cannot_be_measured_on_held_out_items_is_said_and_ends_it():
    talk = Talk().begun().trained("sft-1", first_idea(AUDIT, False), 0.95, "keep")
    talk.answer("evaluate", {"model": "sft-1", "split": "heldout"}, "The evaluation evaluate-4 failed: no memory.")
    talk.answer("plan", talk.next.calls[0][1], {"steps": 4})
    ((name, arguments),) = talk.next.calls
    assert name == "final_answer"
    assert "sft-1 could not be measured on held-out items; the base has 0.000" in arguments["answer"]
    assert "missed" not in arguments["answer"]


def test_a_base_model_that_cannot_be_measured_ends_it_before_it_trains():
    talk = Talk().answer("plan", {"steps": []}, {"steps": 4}).answer("audit_data", {}, AUDIT)
    talk.answer("evaluate", {"model": "base", "split": "heldout"}, "The evaluation evaluate-1 failed: no memory.")
    ((name, arguments),) = talk.next.calls
    assert name == "final_answer" and "no memory. Nothing was trained." in arguments["answer"]


def test_its_forecasts_come_from_what_it_has_seen():
    talk = Talk().begun()
    assert talk.next.calls[-1][1]["expected_gain"] == 0.5  # nothing seen: half of the way from 0 to 1
    talk.trained("sft-1", first_idea(AUDIT, False), 0.25, "keep")
    assert talk.next.calls[-1][1]["expected_gain"] == 0.0  # its verdict named no change
    assert expected_gain([0.3, 0.0], 0.3) == 0.15
    assert expected_gain([0.6], 0.9) == 0.1  # more is not missing


@pytest.mark.parametrize(
    ("trial", "changed"),
    [
        (Trial("sft-1", first_idea(AUDIT, False), "keep", set(), 1.0), "lr"),
        (Trial("sft-1", first_idea(AUDIT, False), "crash", {"not_finite"}, None), "lr"),
        (Trial("sft-1", first_idea(AUDIT, False), "keep", {"truncated"}, 1.0), "max_length"),
        (Trial("sft-1", first_idea(AUDIT, False), "keep", {"overfit"}, 1.0), "rows"),
        (Trial("sft-1", first_idea(AUDIT, False), "keep", set(), 0.5), "max_steps"),
    ],
)
def test_the_next_idea_changes_one_thing_for_a_reason_in_the_last_result(trial, changed):
    idea = next_idea([trial], AUDIT)
    before, after = trial.idea.settings(), idea.settings()
    assert [name for name in before if before[name] != after[name]] == [changed]
    if "not_finite" in trial.findings:
        assert after["lr"] < before["lr"]


def test_an_idea_that_did_not_fit_into_memory_is_tried_in_smaller_batches_and_learns_the_same():
    first = replace(first_idea(AUDIT, False), batch_size=2)
    tried = [first]
    while idea := next_idea([Trial("sft-1", tried[-1], "crash", {"out_of_memory"}, None)], AUDIT):
        assert idea.batch_size * idea.grad_accumulation == 2
        assert replace(idea, batch_size=2, grad_accumulation=1, gradient_checkpointing=False, text=first.text) == first
        tried.append(idea)
    assert [(idea.batch_size, idea.gradient_checkpointing) for idea in tried] == [(2, False), (1, False), (1, True)]


def test_after_a_reward_collapse_what_was_offered_comes_next_one_after_the_other():
    sft = Trial("sft-1", first_idea(AUDIT, False), "keep", set(), 1.0, 0.5)
    rl = next(idea for idea in ideas_after(sft) if idea.recipe == "grpo")
    fell = Trial("grpo-1", rl, "crash", {"reward_collapse"}, None)
    slower = next_idea([sft, fell], AUDIT)
    assert slower.settings() == rl.settings() | {"lr": 1e-5}
    good = Trial("grpo-2", slower, "keep", set(), 1.0, 0.6)  # and the other is tried all the same
    bound = next_idea([sft, fell, good], AUDIT)
    assert bound.settings() == rl.settings() | {"beta": 0.04}
    assert bound.config()["beta"] == 0.04 and "beta" not in slower.config() | sft.idea.config()
    Config.model_validate({"data": "d", "benchmark": "chains"} | bound.config())
    assert Idea.of(bound.text, bound.data(), {"data": "d"} | bound.config(), "grpo") == bound
    after = next_idea([sft, fell, good, Trial("grpo-3", bound, "discard", set(), 1.0, 0.5)], AUDIT)
    assert after.lr == good.idea.lr * 3 or after.beta == 0.0  # from the one that was kept, by the usual order


def test_it_launches_what_was_offered_as_any_other_idea():
    talk = Talk().begun().trained("sft-1", replace(first_idea(AUDIT, False), worked=1.0), 0.5, "keep")
    while "grpo" not in str(talk.next.calls[-1]):
        job, (_, given) = f"sft-{len(talk.messages)}", talk.next.calls[-1]
        for name, arguments in talk.next.calls[:-1]:
            talk.answer(name, arguments, {"file": "f"})
        talk.answer("train", given, {"job": job})
        talk.answer("wait", {"job": job}, {"job": job, "state": "done", "reason": "", "findings": []})
        talk.score(job, "dev", 0.4)
        talk.answer("promote", {"model": job}, {"model": job, "verdict": "discard", "best": "sft-1"})
    *first, (_, rl) = talk.next.calls
    for name, arguments in first:
        talk.answer(name, arguments, {"file": "f"})
    talk.answer("train", rl, {"job": "grpo-1"})
    found = [{"rule": "reward_collapse", "level": "stop", "what": "It fell.", "advice": "Lower it."}]
    talk.answer(
        "wait", {"job": "grpo-1"}, {"job": "grpo-1", "state": "failed", "reason": "It fell.", "findings": found}
    )
    assert calls(talk.next) == ["promote"]
    talk.answer("promote", {"model": "grpo-1"}, {"model": "grpo-1", "verdict": "crash", "best": "sft-1"})
    ((name, tried),) = talk.next.calls  # on the same rows: none are prepared
    assert (name, tried["config"]) == ("train", rl["config"] | {"lr": 1e-5})
    assert tried["idea"] == "GRPO of grpo-1 with lr 1e-05 instead of 3e-05: its reward fell."


def starved(talk: Talk, job: str, advice: str) -> Talk:
    """The move that the policy makes next is launched as this job, which runs out of memory."""
    *prepared, (name, given) = talk.next.calls
    for before, arguments in prepared:
        talk.answer(before, arguments, {"file": f"data/{arguments.get('name')}.jsonl"})
    talk.answer(name, given, {"job": job})
    found = [{"rule": "out_of_memory", "level": "stop", "what": "It has none.", "advice": advice}]
    talk.answer("wait", {"job": job}, {"job": job, "state": "failed", "reason": "no memory", "findings": found})
    return talk.answer("promote", {"model": job}, {"model": job, "verdict": "crash", "best": "base"})


def last_words(talk: Talk) -> str:
    talk.answer("plan", talk.next.calls[0][1], {"steps": 4})
    return talk.next.calls[0][1]["answer"]


def test_after_the_last_setting_it_takes_the_machine_that_the_lab_names_once_and_changes_nothing_else():
    named, talk = 'It needs a bigger machine. Train it again as it is with machine = "l4x1": 24.0 GiB for $0.8.', Talk()
    launches, talk = [], talk.begun()
    while "train" in calls(talk.next):
        launches.append(talk.next.calls[-1][1])
        starved(talk, f"sft-{len(launches)}", named)
    settings = [launch["config"] | {"machine": launch.get("machine", "auto")} for launch in launches]
    fits = ("batch_size", "grad_accumulation", "gradient_checkpointing", "machine")
    rungs = [tuple(config.pop(name) for name in fits) for config in settings]
    assert rungs == [
        (64, 1, False, "auto"), (32, 2, False, "auto"), (16, 4, False, "auto"), (8, 8, False, "auto"), (4, 16, False, "auto"),
        (2, 32, False, "auto"), (1, 64, False, "auto"), (1, 64, True, "auto"), (1, 64, True, "l4x1"),
    ]  # fmt: skip
    assert settings == [settings[0]] * 9  # length, learning rate, steps, model and the very file of rows
    assert {launch["recipe"] for launch in launches} == {"sft"}
    first = launches[0]["idea"]
    assert launches[-1]["idea"] == f"{first} To fit into memory: on l4x1, which has more of it."
    assert "No idea is left" in last_words(talk)


def test_where_the_lab_names_no_machine_it_ends():
    talk = Talk().begun()
    while "train" in calls(talk.next):
        assert "machine" not in talk.next.calls[-1][1]
        starved(talk, f"sft-{len(talk.messages)}", "It needs a bigger machine. Nothing is rented without a cap.")
    assert "No idea is left" in last_words(talk)


def test_what_follows_from_an_idea_on_a_larger_machine_runs_there():
    kept = Trial("sft-1", replace(first_idea(AUDIT, False), machine="l4x1"), "keep", set(), 1.0, 0.5)
    assert {idea.machine for idea in ideas_after(kept)} == {"l4x1"}


def test_no_idea_is_tried_twice_and_a_discarded_one_is_not_built_on():
    trials, seen = [Trial("sft-1", first_idea(AUDIT, False), "keep", set(), 1.0)], []
    while (idea := next_idea(trials, AUDIT)) and len(trials) < 20:
        assert idea.settings() not in seen
        seen.append(idea.settings())
        trials.append(Trial("sft-9", idea, "discard", set(), 1.0))
    assert len(seen) == 7  # each of the usual moves once, all from the one that was kept


def ideas_after(trial: Trial) -> list[Idea]:
    """Every idea that follows one trial when all of them are discarded."""
    trials = [trial]
    while idea := next_idea(trials, AUDIT):
        trials.append(Trial("sft-9", idea, "discard", set(), 1.0, trial.score))
    return [later.idea for later in trials[1:]]


def test_a_model_that_is_right_now_and_then_is_reinforced_on_its_own_answers():
    rl = next(
        idea
        for idea in ideas_after(
            Trial("sft-1", replace(first_idea(AUDIT, False), source="own"), "keep", set(), 1.0, 0.5)
        )
        if idea.recipe == "grpo"
    )
    assert (rl.model, rl.source, rl.worked) == (
        "sft-1",
        "task",
        0.0,
    )  # the task's rows can be marked, a person's cannot
    config = rl.config()
    assert config["max_new_tokens"] == 64 and "max_length" not in config  # as many as the evaluation lets it write
    Config.model_validate({"data": "d", "benchmark": "chains"} | config)
    assert Idea.of(rl.text, rl.data(), {"data": "d"} | config, "grpo") == rl
    again = next_idea([Trial("grpo-1", rl, "keep", set(), 1.0, 0.7)], AUDIT)
    assert again is not None and (again.recipe, again.model, again.lr) == ("grpo", "grpo-1", rl.lr)


@pytest.mark.parametrize("score", [0.0, 0.05, 0.99, None])
def test_where_answers_are_all_wrong_or_all_right_there_is_nothing_to_reinforce(score):
    assert {
        idea.recipe for idea in ideas_after(Trial("sft-1", first_idea(AUDIT, False), "keep", set(), 1.0, score))
    } == {"sft"}


def test_it_launches_the_recipe_of_its_idea_and_knows_it_again():
    talk = Talk().begun()
    best = replace(first_idea(AUDIT, False), worked=1.0)
    talk.trained("sft-1", best, 0.5, "keep")
    seen = []
    while "train" in calls(talk.next):
        given = talk.next.calls[-1][1]
        seen.append(given["recipe"])
        for name, arguments in talk.next.calls[:-1]:
            talk.answer(name, arguments, {"file": f"data/{arguments.get('name')}.jsonl"})
        job = f"{given['recipe']}-{len(seen) + 1}"
        talk.answer("train", given, {"job": job})
        talk.answer("wait", {"job": job}, {"job": job, "state": "done", "reason": "", "findings": []})
        talk.score(job, "dev", 0.4).answer(
            "promote", {"model": job}, {"model": job, "verdict": "discard", "best": "sft-1"}
        )
    assert seen.count("grpo") == 1 and seen[2] == "grpo"


def test_it_takes_over_from_another_driver_whatever_that_one_has_done():
    def gone() -> Talk:
        return (
            Talk().answer("plan", {"steps": []}, {"steps": 1}).score("base", "heldout", 0.0).score("base", "dev", 0.0)
        )

    assert calls(gone().next) == ["plan", "audit_data"]
    config = {"data": "data/pairs.jsonl", "beta": 0.1}
    talk = gone().answer("train", {"recipe": "dpo", "config": config}, {"job": "dpo-1"})
    talk.answer("wait", {"job": "dpo-1"}, {"job": "dpo-1", "state": "done", "reason": "", "findings": []})
    talk.score("dpo-1", "dev", 0.1)
    talk.answer("promote", {"model": "dpo-1"}, {"model": "dpo-1", "verdict": "keep", "best": "dpo-1"})
    talk.answer("audit_data", {}, AUDIT)
    assert "train" in calls(talk.next)
    told = TOO_LONG.format(40)
    assert calls(talk.answer("train", {"recipe": "dpo", "config": config}, told).next) == ["plan", "evaluate"]


def test_the_same_messages_give_the_same_answer_and_it_says_what_it_is():
    talk = Talk().begun()
    first, second = Autopilot().generate(talk.messages), Autopilot().generate(talk.messages)
    assert first.tool_calls == second.tool_calls
    assert first.raw["model"] == NAME and "no LLM" in NAME
    assert "no language model" in decide(look_back(Talk().messages)).text


def test_what_a_person_says_is_not_ignored_silently():
    talk = Talk().begun()
    talk.messages.append({"role": "user", "content": "try DPO"})
    assert "cannot act on “try DPO”" in Autopilot().generate(talk.messages).content
