"""A script of one's own: its curve is watched, it saves when it is told to stop, and its model loads before it counts."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.errors import BadInput, Refused
from lab.integrity import Index
from lab.script import look
from lab.tasks import Vault
from recipes.job import ConfigError, Job, read_lines
from recipes.recorder import resume_point
from recipes.script import WHOLE, Config, Curve, Free, ScriptFailed, main
from recipes.seal import file_hash
from tests.recipes import rig
from tests.recipes.rig import STARTER, metric, start, with_rows
from tests.recipes.test_resume import stopped, weights
from tests.scripted import open_lab

ROWS: list[dict[str, Any]] = [{"sum": f"{n} + 1", "is": n + 1} for n in range(32)]
TRAINER = """
import json, os, sys
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

settings = json.load(open(sys.argv[1]))
tokenizer = AutoTokenizer.from_pretrained(os.environ["JOB_MODEL"])
tokenizer.pad_token = tokenizer.eos_token
rows = [json.loads(line) for line in open(os.environ["JOB_DATA"])]
fed = [tokenizer(f"{row['sum']} = {row['is']}{tokenizer.eos_token}") for row in rows]
arguments = TrainingArguments(
    os.environ["JOB_CHECKPOINTS"], max_steps=settings["max_steps"], learning_rate=settings["pace"], logging_steps=1,
    per_device_train_batch_size=4, disable_tqdm=True, report_to=settings["report_to"], dataloader_pin_memory=False,
)
model = AutoModelForCausalLM.from_pretrained(os.environ["JOB_MODEL"])
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
trainer = Trainer(model, arguments, train_dataset=fed, data_collator=collator, processing_class=tokenizer)
trainer.train(resume_from_checkpoint=os.environ["JOB_RESUME"] or None)
"""
SAVES = """
trainer.save_model(os.environ["JOB_OUTPUT"])
"""
HALF = """
import os, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(os.environ["JOB_MODEL"])
kept = {name: value for name, value in model.state_dict().items() if "layers.1." not in name}
model.save_pretrained(os.environ["JOB_OUTPUT"], state_dict=kept)
AutoTokenizer.from_pretrained(os.environ["JOB_MODEL"]).save_pretrained(os.environ["JOB_OUTPUT"])
"""
LOOP = """
import time, trackio
for step in range(1, 4):
    trackio.log({"train/loss": 3.0 - step, "eval/loss": 4.0 - step, "note": "no number"}, step=step)
trackio.log({"loss": float("nan")})
time.sleep(60)  # it is ended long before
"""
BREAKS = """
import trackio
trackio.log({"loss": 1.0}, step=1)
trackio.log({"train/loss": 2.0, "train/global_step": 2})  # as a Trainer does, whose curve is recorded by itself
raise ValueError('no column answer')
"""


@contextmanager
def alone() -> Iterator[None]:
    """A script has a process of its own; here it shares ours, which is to be left as it was."""
    import trackio
    from trackio.run import Run
    from transformers import trainer

    before, callbacks = (trackio.init, trackio.log, Run.log), list(trainer.DEFAULT_CALLBACKS)
    argv, environ = sys.argv, dict(os.environ)
    try:
        yield
    finally:
        trackio.init, trackio.log, Run.log = before
        trainer.DEFAULT_CALLBACKS[:] = callbacks
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environ)


def run(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The script in this process; returns what result.json would hold."""
    with alone():
        return rig.run("script", folder, ROWS, **config)


def script(folder: Path, source: str, **config: Any) -> dict[str, Any]:
    """What a job of this script reads."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(source)
    return {"script": str(folder / "train.py"), "pace": 1e-3, "max_steps": 4, "report_to": "none"} | config


@pytest.mark.slow
def test_a_trainers_curve_is_the_jobs_and_sigterm_saves_what_a_resume_goes_on_from(tmp_path):
    whole = run(tmp_path / "whole", script(tmp_path / "whole", TRAINER + SAVES, max_steps=16))
    cut = script(tmp_path / "cut", TRAINER + SAVES, max_steps=16)
    with alone():
        stopped("script", Job(tmp_path / "cut"), with_rows(tmp_path / "cut", ROWS, **cut))
    assert resume_point(tmp_path / "cut" / "checkpoints") is not None
    assert not (tmp_path / "cut" / "model").exists()
    again = run(tmp_path / "cut", cut)
    assert (whole["steps"], whole["resumed_from"], again["steps"]) == (16, 0, 16)
    assert 0 < again["resumed_from"] < 16
    for folder in (tmp_path / "whole", tmp_path / "cut"):
        lines = [line for line in read_lines(folder / "metrics.jsonl") if "loss" in line]
        assert [line["step"] for line in lines] == list(range(1, 17)) and lines[0]["steps"] == 16
    one, other, untrained = weights(tmp_path / "whole"), weights(tmp_path / "cut"), weights(STARTER.parent)
    assert any((one[name] != untrained[name]).any() for name in one)
    assert all((one[name] == other[name]).all() for name in one)
    first = metric(tmp_path / "whole", "learning_rate")[0]
    assert (first, whole["loss"]) == (1e-3, metric(tmp_path / "whole", "loss")[-1])  # pace is the script's own setting


@pytest.mark.slow
def test_an_error_of_the_script_is_its_last_line_and_its_traceback_is_in_the_log(tmp_path):
    with alone():
        os.environ["TRACKIO_DIR"] = str(tmp_path / "trackio")
        process = start("script", with_rows(tmp_path, ROWS, **script(tmp_path, BREAKS)))
    _, log = process.communicate(timeout=120)
    result = json.loads((tmp_path / "result.json").read_text())
    assert process.returncode == 1
    assert result == {"ok": False, "error": "ValueError: no column answer", "kind": "crash"}
    assert "train.py\", line 5, in <module>\n    raise ValueError('no column answer')" in log
    assert metric(tmp_path, "loss") == [1.0]


@pytest.mark.slow
def test_a_plain_loop_that_logs_to_trackio_is_watched_and_its_nan_ends_it(settings, new_session):
    lab, supervisor, journal = open_lab(settings, new_session()[0])
    (settings.home / "trackio").mkdir()  # a trainer may write there, but not make it
    lab.workspace.write("loop.py", LOOP)
    lab.workspace.write("rows.jsonl", "\n".join(map(json.dumps, ROWS)))
    supervisor.start()
    try:
        config = {"data": "rows.jsonl", "script": "loop.py", "width": 7}
        job = lab.train("script", config, 0.1, "a loop of my own", "c1", gain=0.1)["job"]
        lab.workspace.write("loop.py", "raise SystemExit('another one')")
        while (status := lab.wait(job, 120))["state"] == "running":
            pass
    finally:
        lab.cancel_all()
        supervisor.stop()
    assert (status["state"], status["reason"]) == ("failed", "loss is nan at step 4.")
    assert status["metrics"] == {"loss": "nan", "eval_loss": 1.0}
    kept = journal.views.jobs[job].config
    assert (kept["width"], Path(kept["script"])) == (7, lab.folder / "jobs" / job / "script.py")
    assert Path(kept["script"]).read_text() == LOOP and file_hash(kept["script"]) == kept["script_sha256"]
    assert (settings.home / "trackio" / f"{journal.views.opened.session}.db").exists()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (TRAINER, "has left no model: there is no config.json in .*output .but nothing."),
        (HALF, r"lacks \d+ weights, e.g. model.layers.1."),
    ],
)
def test_a_script_that_leaves_no_whole_model_has_failed(tmp_path, source, words):
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, script(tmp_path, source, max_steps=1))
    assert not (tmp_path / "model").exists()


def test_a_trainers_nan_is_not_hidden_by_the_mean_before_it(tmp_path):
    with pytest.raises(ConfigError):  # it saves nothing
        run(tmp_path, script(tmp_path, TRAINER, pace=1e30))
    assert "nan" in metric(tmp_path, "loss")


def test_a_script_that_ends_itself_or_was_changed_has_failed(tmp_path):
    with pytest.raises(ScriptFailed, match="ended itself with 'no time'"):
        run(tmp_path, script(tmp_path, "raise SystemExit('no time')"))
    with pytest.raises(ConfigError, match="has left no model"):  # 0 is no failure
        run(tmp_path, script(tmp_path, "raise SystemExit(0)"))
    config = Config(model="m", data=str(tmp_path / "data.jsonl"), script=str(tmp_path / "train.py"), script_sha256="0")
    with pytest.raises(ConfigError, match=r"train\.py is not the file that was checked before the launch"):
        main(config, Job(tmp_path))


def test_a_script_is_told_when_its_time_is_up(tmp_path):
    (tmp_path / "job.json").write_text('{"hours": 0.5}')
    source = "import os, time\nraise SystemExit(float(os.environ['JOB_DEADLINE']) - time.time())"
    with pytest.raises(ScriptFailed) as caught:
        run(tmp_path, script(tmp_path, source))
    assert 1700 < float(str(caught.value).split()[-1].rstrip(".")) <= 1800


def test_what_cannot_be_is_refused_before_the_launch(settings, new_session):
    lab, _, journal = open_lab(settings, new_session()[0])
    held = Vault(settings.vault).items("chains", "heldout")
    items = [json.loads(line)["question"] for line in held.read_text().splitlines()]
    lab.workspace.write("rows.jsonl", "\n".join(map(json.dumps, ROWS)))
    lab.workspace.write("leak.jsonl", "\n".join(json.dumps({"talk": [{"said": [f"{q}?"]}]}) for q in items[:4]))
    lab.workspace.write("train.py", "print(1)")
    lab.workspace.write("typo.py", "x = 1\nfor x in")
    lab.workspace.write("cheat.py", f"LEARN = {items[:4]!r}\n")

    def train(data: str = "rows.jsonl", **config: Any) -> None:
        lab.train("script", {"data": data, **config}, 1.0, "", "c", gain=0.1)

    with pytest.raises(BadInput, match="script: Field required"):
        train()
    with pytest.raises(BadInput, match="leads out"):
        train(script="../../x.py")
    with pytest.raises(BadInput, match=r"The script 'none.py' cannot be read \(No such file"):
        train(script="none.py")
    with pytest.raises(BadInput, match=r"Line 2 of typo.py is no Python"):
        train(script="typo.py")
    with pytest.raises(Refused, match="4 of 4 rows contain an item of the evaluation"):
        train("leak.jsonl", script="train.py")
    with pytest.raises(Refused, match="The script contains 4 items of the evaluation"):
        train(script="cheat.py")
    assert not journal.views.jobs


def test_a_script_that_does_not_know_where_its_model_goes_is_warned_of_before_the_launch():
    assert look(None, Index([])) == look(TRAINER + SAVES, Index([])) == look(HALF, Index([])) == []
    (said,) = look(TRAINER, Index([]))
    assert (said.level, said.rule) == ("warn", "no_output") and "never names JOB_OUTPUT" in said.what


def test_every_key_and_value_of_a_row_is_looked_through():
    row = {"id": 3, "turns": [{"role": "user", "text": "1 + 2"}], "extra": {"three": None}}
    text = Free.model_validate(row).plain()["completion"]
    assert text.split("\n;\n") == ["id", "3", "turns", "role", "user", "text", "1 + 2", "extra", "three", "None"]


def test_a_curve_never_goes_back_keeps_what_is_not_finite_and_gets_thinner(tmp_path):
    curve = Curve(Job(tmp_path), 10)
    for step in (1, 2, 2):
        curve.add(step, 10, {"loss": float(step), "step": 5, "name": "x", "train_runtime": 3.0})
    curve.begin(0)  # a second training
    curve.add(1, 10, {"loss": 3.0})
    curve.add(None, 0, {"reward": 0.5})
    curve.add(0, 0, {"loss": 4.0})  # a loop that counts anew
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["steps"]) for line in lines] == [(1, 10), (2, 10), (2, 10), (3, 12), (4, 0), (4, 0)]
    assert all(set(line) <= {"step", "steps", "at", "loss", "reward"} for line in lines)
    for step in range(5, 10 * WHOLE + 5):
        curve.add(None, 0, {"loss": float("nan") if step == 9 * WHOLE + 7 else 1.0})
    losses = metric(tmp_path, "loss")
    assert 3 * WHOLE < len(losses) < 4.5 * WHOLE and losses.count("nan") == 1 and curve.last == 10 * WHOLE + 4


def test_a_new_attempt_forgets_the_curve_that_it_will_write_again(tmp_path):
    job = Job(tmp_path)
    for step in (1, 2, 3):
        job.log(step, 5, loss=1.0)
    curve = Curve(job, 5)
    curve.begin(2)  # from a checkpoint
    curve.add(3, 5, {"loss": 2.0})
    assert metric(tmp_path, "loss") == [1.0, 1.0, 2.0]
    Curve(job, 5).add(1, 5, {"loss": 9.0})  # a plain loop that begins anew
    assert metric(tmp_path, "loss") == [9.0]
