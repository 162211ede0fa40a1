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

from lab.processes import alive
from record.events import Closed, Said, parse
from tests.chat.server import chat_server
from tests.chat.turns import fails, says
from tests.conftest import begun, cli_environment, free_port
from tests.scripted import open_lab


def run(
    settings, *arguments: str, stdin: str = "", timeout: float = 60, env: dict | None = None, **options
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        input=stdin, capture_output=True, text=True, timeout=timeout, env=cli_environment(settings) | (env or {}),
        check=False, **options,
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
        ("a budget of inf hours", ["--task", "chains", "--hours", "inf"], ("hours", "inf", "10,000")),
        ("more tokens than there are", ["--task", "chains", "--tokens", "9" * 400], ("tokens", "999")),
        ("a driver without its key", ["--task", "chains", "--driver", "anthropic/x"], ("ANTHROPIC_API_KEY",)),
        ("an unknown provider", ["--task", "chains", "--driver", "nobody/x"], ("nobody/x", "known provider")),
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


@pytest.mark.slow
def test_a_provider_that_fails_is_exit_code_4_and_resume_goes_on_when_it_is_back(settings):
    script = [fails(401, "bad key"), says("I am back."), says("Still here.")]
    with chat_server(script) as server:
        base = {"ML_INTERN_API_BASE": server.base}
        asked = ("run", "do it", "--task", "chains", "--driver", "openai/m")
        assert_one_sentence(run(settings, *asked, env=base), "openai/m", "--dollars", "--tokens")
        ran = run(settings, *asked, "--tokens", "100000", timeout=90, env=base)
        assert ran.returncode == 4 and "refused the key" in ran.stdout
        session = next(settings.sessions.iterdir()).name
        assert "provider_failed" in run(settings, "show", session[:15]).stdout
        again = run(settings, "resume", session, timeout=90, env=base)
        assert again.returncode == 2 and "I am back." in again.stdout
        assert server.requests[1]["messages"][-1]["content"] == "Go on where you stopped."


def test_a_session_can_be_listed_shown_and_replayed(settings, new_session):
    session, journal = new_session()
    journal.append(Closed(outcome="provider_failed", reason="nobody there"))
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


@pytest.mark.parametrize("speed", ["nan", "inf", "-1", "1e-300"])
def test_a_speed_that_is_none_is_one_sentence(settings, new_session, speed):
    assert_one_sentence(run(settings, "replay", new_session()[0], "--speed", speed), "speed", speed[:2])


def test_an_empty_log_is_one_sentence(settings):
    (settings.sessions / "20260101-000000-abcdef").mkdir(parents=True)
    (settings.sessions / "20260101-000000-abcdef" / "events.jsonl").touch()
    for command in ("show", "report", "replay", "resume", "stop"):
        assert_one_sentence(run(settings, command, "20260101"), "20260101-000000-abcdef", "nothing")


def test_a_hub_model_that_cannot_be_had_is_one_sentence(settings):
    nobody = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HOME": str(settings.home / "hf")}
    asked = run(settings, "run", "do it", "--task", "chains", "--model", "org/none", env=nobody)
    assert_one_sentence(asked, "org/none", "cannot be asked")


def test_a_stop_ends_a_session_that_nobody_drives_and_its_job(settings, new_session):
    session, journal = new_session()
    lab, supervisor, _ = open_lab(settings, session)
    supervisor.start()
    lab.prepare("rows", "task", 100, 0.5)
    job = lab.train("sft", {"data": "data/rows.jsonl", "max_steps": 5000}, 1.0, "", "c1", gain=0.1)["job"]
    trainer = begun(settings.sessions / session / "jobs" / job)
    supervisor.stop()  # as if its worker had died
    assert run(settings, "stop", session).returncode == 0
    views = journal.views
    assert views.settled and views.closed.outcome == "stopped" and views.jobs[job].ended.state == "cancelled"
    assert not alive(trainer)


@pytest.mark.slow
def test_chat_prints_each_fact_once(settings):
    with chat_server([says("Hello."), says("What now?")]) as server:
        base = {"ML_INTERN_API_BASE": server.base}
        options = ("--task", "chains", "--driver", "openai/m", "--output", "jsonl")
        ran = run(settings, "chat", "hi", *options, stdin="more\n", env=base, timeout=90)
    seqs = [
        parse(line.removeprefix("\nyou> ").removeprefix("you> ")).seq for line in ran.stdout.splitlines() if "{" in line
    ]
    assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) > 6
