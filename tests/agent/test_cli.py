"""The command line, as a person meets it: in a process of its own."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from record.events import Closed, Said, parse
from tests.conftest import cli_environment


def run(settings, *arguments: str, stdin: str = "", timeout: float = 60, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        input=stdin, capture_output=True, text=True, timeout=timeout, env=cli_environment(settings), check=False, **options,
    )  # fmt: skip


def assert_one_sentence(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


def test_help_imports_nothing_of_ours(settings):
    code = "import sys; from agent.__main__ import parser; parser().format_help(); print([m for m in sys.modules if m.split('.')[0] in %r])"
    heavy = ("pydantic", "smolagents", "litellm", "torch", "gradio", "record", "lab", "tools")
    asked = subprocess.run(
        [sys.executable, "-c", code % (heavy,)],
        capture_output=True,
        text=True,
        check=True,
        env=cli_environment(settings),
    )
    assert asked.stdout.strip() == "[]"
    assert run(settings, "--help").returncode == 0


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("unknown model", ["--task", "chains", "--model", "no-such-model"], ("no-such-model", "starter")),
        ("a folder that is no model", ["--task", "chains", "--model", "/tmp"], ("/tmp", "config.json")),
        ("missing column", ["--task", "chains", "--data", "{rows}"], ("'prompt'", "question", "answer")),
        ("empty dataset", ["--task", "chains", "--data", "{empty}"], ("empty",)),
        ("a line that is not JSON", ["--task", "chains", "--data", "{torn}"], ("line 1",)),
        ("missing column of a task", ["--task", "table:{no_answer}"], ("answer",)),
        ("empty task", ["--task", "table:{empty}"], ("empty.jsonl",)),
        ("a target without a metric", ["--target", "0.9"], ("0.9", "--task")),
        ("an unknown metric", ["--task", "chains", "--target", "0.9", "--metric", "bleu"], ("bleu", "accuracy")),
        ("a target beyond 1", ["--task", "chains", "--target", "90"], ("90", "0.9")),
        ("a budget of 0 hours", ["--task", "chains", "--hours", "0"], ("hours", "0")),
        ("a budget of 0 dollars", ["--task", "chains", "--dollars", "0"], ("dollars", "0")),
        ("a budget of nan hours", ["--task", "chains", "--hours", "nan"], ("hours", "nan")),
        ("a seed beyond what trainers take", ["--task", "chains", "--seed", "99999999999"], ("99999999999",)),
        ("an unknown task", ["--task", "poetry"], ("poetry", "chains")),
        ("an unknown gym family", ["--task", "gym:nothing_like_this"], ("nothing_like_this",)),
        ("asking without a terminal", ["--task", "chains", "--approval", "ask"], ("terminal",)),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(settings, tmp_path: Path, name, arguments, words):
    files = {
        "rows": '{"question": "1 + 1", "answer": "2"}\n',
        "empty": "",
        "torn": "{not json\n",
        "no_answer": '{"question": "1 + 1", "reply": "2"}\n',
    }
    for stem, text in files.items():
        (tmp_path / f"{stem}.jsonl").write_text(text)
    paths = {stem: str(tmp_path / f"{stem}.jsonl") for stem in files}
    assert_one_sentence(run(settings, "run", "do it", *(a.format(**paths) for a in arguments)), *words)
    assert not list(settings.home.glob("sessions/*"))  # nothing half made is left


def test_a_home_that_cannot_be_made_is_one_sentence(settings):
    nowhere = replace(settings, home=Path("/proc/nowhere"))
    assert_one_sentence(run(nowhere, "run", "do it", "--task", "chains"), "/proc/nowhere", "ML_INTERN_HOME")


def test_an_unknown_session_is_one_sentence(settings):
    for command in ("show", "resume", "replay", "report", "stop"):
        assert_one_sentence(run(settings, command, "nothing-here"), "nothing-here", "list")


def test_a_disk_that_is_full_loses_nothing(settings, new_session):
    session, journal = new_session()
    log = journal.log.path
    facts = log.read_bytes()

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(facts), len(facts)))

    said = run(settings, "resume", session, "--say", "hello", preexec_fn=small_files)
    assert_one_sentence(said, "could not be written", "disk")
    assert log.read_bytes() == facts
    journal.append(Said(text="there is room again"))
    assert [f.kind for f in journal.log] == ["opened", "said"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_home_without_room_is_refused_at_the_start(settings):
    settings.home.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(settings.home)], check=True)
    try:
        assert_one_sentence(run(settings, "run", "do it", "--task", "chains"), "free", "512 MiB")
    finally:
        subprocess.run(["umount", str(settings.home)], check=True)


def test_the_budget_ends_a_session_with_exit_code_3_and_a_report(settings):
    ran = run(settings, "run", "be quick", "--task", "chains", "--hours", "0.0003", "--output", "jsonl", timeout=90)
    facts = [parse(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 3
    assert isinstance(facts[-1], Closed) or facts[-1].kind == "ended"
    session = facts[0].session  # type: ignore[union-attr]
    report = run(settings, "report", session)
    assert "ended by its budget" in report.stdout.lower() and "nothing is claimed" in report.stdout


def test_a_provider_that_fails_is_exit_code_4_and_the_log_can_be_shown(settings):
    ran = run(settings, "run", "do it", "--task", "chains", "--driver", "anthropic/claude-sonnet-4-5", timeout=90)
    assert ran.returncode == 4 and "ANTHROPIC_API_KEY" in ran.stdout
    session = next(settings.sessions.iterdir()).name
    assert session in run(settings, "list").stdout
    assert "provider_failed" in run(settings, "show", session[:15]).stdout
    replayed = [
        json.loads(line)["kind"] for line in run(settings, "replay", session, "--output", "jsonl").stdout.splitlines()
    ]
    assert replayed[0] == "opened" and replayed[-1] == "closed"


def test_ctrl_c_stops_the_session_answers_its_calls_and_lets_its_job_end(settings):
    command = [sys.executable, "-m", "agent", "demo", "--output", "jsonl"]
    kinds = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cli_environment(settings)) as demo:
        assert demo.stdout
        for line in demo.stdout:
            fact = parse(line)
            kinds.append(fact.kind)
            if fact.kind == "launched":
                demo.send_signal(signal.SIGINT)
    assert demo.returncode == 2
    after = kinds[kinds.index("halted") :]
    assert after[:2] == ["halted", "finished"] and "closed" in after and after[-1] == "ended"
