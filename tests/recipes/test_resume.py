"""Every recipe saves when it is told to stop, and goes on to the weights of a run that nobody stopped."""

import json
import os
import signal
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from recipes.benchmarks import load
from recipes.catalogue import RECIPES
from recipes.job import Job, Stopped
from recipes.recorder import resume_point
from tests.recipes.rig import STARTER, metric, run, start, with_rows

ITEMS = load("chains").items("train", 48, seed=2)
TEXTS = [(load("chains").prompt(item), load("chains").completion(item, worked=True)) for item in ITEMS]
METHODS = [name for name in RECIPES if name != "script"]  # whose rows have no shape: see test_script.py
SMALL = {"max_steps": 6, "batch_size": 8, "log_steps": 1, "save_steps": 100, "warmup_steps": 1, "eval_steps": 4}
WRITES = {"max_new_tokens": 8, "rewards": [{"kind": "format", "pattern": "[2468]"}]}  # some of what the starter writes

ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [{"prompt": asked, "completion": said} for asked, said in TEXTS],
    "dpo": [{"prompt": asked, "chosen": said, "rejected": "Answer: 99"} for asked, said in TEXTS],
    "kto": [{"prompt": asked, "completion": said, "label": at % 2 == 0} for at, (asked, said) in enumerate(TEXTS)],
    "grpo": [{"prompt": asked} for asked, _ in TEXTS],
    "rejection": [{"prompt": asked} for asked, _ in TEXTS],
    "distill": [{"prompt": asked} for asked, _ in TEXTS],
    "reward": [{"prompt": asked, "chosen": said, "rejected": "Answer: 99"} for asked, said in TEXTS],
    "prm": [{"prompt": asked, "steps": said.split(", "), "labels": [at % 2 == 0] * len(said.split(", "))} for at, (asked, said) in enumerate(TEXTS)],
    "cpt": [{"text": said} for _, said in TEXTS],
    "chat": [{"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]} for asked, said in TEXTS],
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": WRITES | {"generations": 4},
    "rejection": WRITES | {"accept": -1.0, "max_new_tokens": 48},
    "distill": {"teacher_prefix": "Answer: 1\n", "max_new_tokens": 8, "lora_rank": 2},
    "kto": {"lora_rank": 2},
    "reward": {"lora_rank": 2},
    "prm": {"lora_rank": 2, "lora_dropout": 0.1},
    "cpt": {"max_length": 64, "batch_size": 2},
}


def stopped(recipe: str, job: Job, config: Path) -> None:
    """Run a recipe in this process, and send SIGTERM when its first loss is there. It must answer with Stopped."""
    module, over = import_module(f"recipes.{recipe}"), threading.Event()

    def send() -> None:
        while not over.wait(0.002):
            if metric(job.folder, "loss"):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    before = signal.signal(signal.SIGTERM, job.on_sigterm)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Stopped):
            module.main(module.Config.model_validate_json(config.read_bytes()), job)
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGTERM, before)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [name for name in METHODS if name not in ("sft", "chat")]
)  # test_killed.py kills it; chat is the same on other rows
def test_sigterm_saves_and_a_resume_ends_in_the_same_weights(recipe, tmp_path):
    settings = SMALL | SETTINGS.get(recipe, {})
    run(recipe, tmp_path / "whole", ROWS[recipe], **settings)
    config = with_rows(tmp_path / "cut", ROWS[recipe], **settings)
    stopped(recipe, Job(tmp_path / "cut"), config)
    assert resume_point(tmp_path / "cut" / "checkpoints") is not None
    assert not (tmp_path / "cut" / "model").exists()
    again = run(recipe, tmp_path / "cut", ROWS[recipe], **settings)
    assert again["resumed_from"] > 0
    one, other, untrained = weights(tmp_path / "whole"), weights(tmp_path / "cut"), weights(STARTER.parent)
    assert any((one[name] != untrained[name]).any() for name in one.keys() & untrained.keys())
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    assert not any("lora" in name or "modules_to_save" in name for name in one)  # a whole model, nothing beside it
    steps = [
        line["step"]
        for line in map(json.loads, (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines())
        if "loss" in line
    ]
    assert steps == sorted(set(steps))


def test_answers_that_are_on_disk_are_not_sampled_again(tmp_path):
    from recipes.rejection import Config, as_line, sample
    from recipes.training import read_rows

    path = with_rows(tmp_path / "whole", ROWS["rejection"], **WRITES, samples=2, sample_batch=16)
    config = Config.model_validate_json(path.read_bytes())
    whole = sample(config, Job(tmp_path / "whole"), read_rows(config))
    lines = (tmp_path / "whole" / "samples.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == whole
    (tmp_path / "cut").mkdir()
    marked = [line | {"scores": [7.0, 7.0]} for line in whole[:16]]
    cut = "".join(map(as_line, marked)) + "".join(lines[16:19]) + lines[19][:30]  # killed in its third batch of eight
    (tmp_path / "cut" / "samples.jsonl").write_text(cut)
    assert sample(config, Job(tmp_path / "cut"), read_rows(config)) == marked + whole[16:]
    assert metric(tmp_path / "cut", "sampled") == [2.0 * len(whole)]  # a step is logged once, and tells all of them


@pytest.mark.parametrize("recipe", METHODS)
def test_rows_of_another_shape_are_one_sentence_and_exit_code_2(recipe, tmp_path):
    config = with_rows(tmp_path, [{"question": "1 + 1", "is": "2"}], **SETTINGS.get(recipe, {}))
    process = start(recipe, config)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Line 1 of " in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "config"


@pytest.mark.parametrize("recipe", METHODS)
def test_the_lab_is_told_what_a_row_has_and_what_the_method_needs(recipe):
    config = SMALL | SETTINGS.get(recipe, WRITES)
    assert RECIPES[recipe].misfit(ROWS[recipe], config) is None
    other = ROWS["prm" if recipe == "cpt" else "cpt"]
    why = RECIPES[recipe].misfit([*ROWS[recipe], *other], config)
    assert why is not None
    assert why.startswith(
        f"Row 49 has the columns {', '.join(other[0])}; {RECIPES[recipe].METHOD} needs {RECIPES[recipe].SHAPE.NEEDS}"
    )
    assert "\n" not in why


@pytest.mark.parametrize(("recipe", "fewest"), [("grpo", 32), ("distill", 65)])  # of which one is held out
def test_fewer_rows_than_a_step_takes_are_refused(recipe, fewest):
    rows, config = ROWS["grpo"] * 2, SETTINGS[recipe]
    config = config | {"generations": 8} if recipe == "grpo" else config
    assert RECIPES[recipe].misfit(rows[:fewest], config) is None
    why = RECIPES[recipe].misfit(rows[: fewest - 1], config)
    asks = f"takes {fewest - 1} prompts, and {fewest - 2}" if recipe == "distill" else "takes 32 prompts, and 31"
    assert why is not None and asks in why and "a batch_size below" in why
    assert RECIPES[recipe].misfit(rows[: fewest - 1], config | {"batch_size": 8}) is None


def test_shapes_say_what_their_types_cannot():
    same = [{"prompt": "p", "chosen": "a", "rejected": "a"}]
    short = [{"prompt": "p", "steps": ["a", "b"], "labels": [True]}]
    assert "chosen and rejected are the same text" in str(RECIPES["dpo"].misfit(same, {}))
    assert "there are 2 steps and 1 labels" in str(RECIPES["prm"].misfit(short, {}))
    assert "label: Input should be a valid boolean" in str(
        RECIPES["kto"].misfit([{"prompt": "p", "completion": "c", "label": "yes"}], {})
    )


@pytest.mark.parametrize(
    ("recipe", "settings", "says"),
    [
        ("dpo", {"loss_type": "magic"}, "loss_type: Input should be 'sigmoid', 'hinge'"),
        ("grpo", {"generations": 7, "benchmark": "chains"}, "256 is no multiple of generations = 7"),
        ("grpo", {}, "There is no benchmark ''"),
        ("distill", {}, "give a teacher or a teacher_prefix"),
        ("kto", {"batch_size": 1}, "batch_size: Input should be greater than or equal to 2"),
        ("prm", {"packing": True}, "packing: Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_are_named(recipe, settings, says):
    from pydantic import ValidationError

    from recipes.job import problems

    with pytest.raises(ValidationError) as caught:
        RECIPES[recipe].model_validate({"model": "m", "data": "d"} | settings)
    assert says in problems(caught.value)
