"""The command line: `python -m agent run | demo | chat | list | pull | show | resume | replay | report | publish | stop | worker`."""

import argparse
import sys

PROG = "python -m agent"
EPILOG = """exit codes: 0 done, 2 a person must act, 3 budget or time is over, 4 the model's provider failed, 1 an error of ours.

Sessions live in ~/.ml-intern (set ML_INTERN_HOME to move them); the web page shows the same ones."""


def parser() -> argparse.ArgumentParser:
    """Every command and option. Imports nothing of ours, so that --help is quick."""
    top = argparse.ArgumentParser(PROG, description=__doc__, epilog=EPILOG, formatter_class=_Raw)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (("run", "make a model better at a task"), ("chat", "the same as run, and then talk on")):
        command = commands.add_parser(name, help=what, formatter_class=_Raw, epilog=EPILOG)
        command.add_argument(
            "text", nargs="?", default="", help="what you want, in your words; '-' reads it from stdin"
        )
        _goal_options(command)
    demo = commands.add_parser("demo", help="the whole job on the starter model: no key, no GPU, no network")
    demo.add_argument("--seed", type=int, default=0, help="of data and training (default 0)")
    commands.add_parser("list", help="every session, newest first")
    fetch = commands.add_parser("pull", help="fetch sessions that your mirror has and this machine has not")
    fetch.add_argument("session", nargs="?", default="", help="its id, or the beginning of it (default: all)")
    for name, what in (
        ("show", "where a session stands"),
        ("resume", "go on with a session, with a message if you have one"),
        ("replay", "print a session's facts again"),
        ("report", "print a session's report"),
        ("publish", "put a session's model, its training rows, report, curves or a demo on the Hub"),
        ("stop", "stop a session"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("session", help="its id, or the beginning of it")
    add = commands.choices["resume"].add_argument
    add("--say", default="", metavar="TEXT", help="a message for the agent")
    add("--from", type=int, dest="at", metavar="SEQ", help="go on in a copy that knows the facts up to this one")
    add = commands.choices["replay"].add_argument
    add("--speed", type=float, default=0.0, help="times real time; 0 is at once (default)")
    add = commands.choices["publish"].add_argument
    add(
        "--what",
        choices=("model", "dataset", "report", "demo", "curves"),
        default="model",
        help="what to publish (default model)",
    )
    add("--model", default="best", help="the best (default), or the job that trained it")
    add("--to", default="", metavar="USER/NAME", help="the repository; a name is made when left out")
    add("--public", action="store_true", help="let anybody see it (private by default)")
    for name in ("run", "demo", "resume", "replay", "chat"):
        commands.choices[name].add_argument(
            "--output", choices=("text", "jsonl"), default="text", help="text for people, jsonl for the log itself"
        )
    worker = commands.add_parser("worker", help="drive the sessions that the web page opens")
    worker.add_argument("--parent", type=int, help="leave when this process is gone")
    worker.add_argument("--keys-from-stdin", action="store_true", help="read keys as JSON, not from the environment")
    return top


class _Raw(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)


def _goal_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--task", help="chains, lists, gym:<family>, or table:<file or Hub dataset> for your own questions")
    add("--model", default="starter", help="a model's folder, a Hub id, or 'starter' (default)")
    add("--target", type=float, help="stop at this accuracy on held-out items, e.g. 0.9")
    add("--metric", help="what the target is measured in: accuracy")
    add("--data", metavar="FILE", help="your own training rows: JSON lines with prompt and completion")
    add("--hours", type=float, default=1.0, help="wall clock for all of it (default 1)")
    add("--job-hours", type=float, help="summed run time of jobs")
    add("--dollars", type=float, help="cap on model calls and paid jobs")
    add("--tokens", type=int, help="cap on tokens of the model")
    add("--calls", type=int, help="cap on calls of the model (default 300)")
    add("--driver", help="autopilot (a fixed policy, no LLM), or a model like anthropic/claude-sonnet-4-5")
    add(
        "--approval",
        choices=("auto", "ask", "always"),
        default="auto",
        help="auto: within the caps; ask: before each training; always: before every change",
    )
    add("--seed", type=int, default=0, help="of data and training (default 0)")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(argv)
    from agent import settings as env
    from agent import shroud
    from record.log import LogError

    try:
        settings = env.read()
        env.take_keys_out()
        env.quiet_libraries()
        shroud.redact_errors(settings.secrets)
        from agent import commands  # what it imports reads the environment

        return commands.COMMANDS[options.command](settings, options)
    except (env.SettingsError, LogError) as error:
        print(f"ml-intern: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except OSError as error:
        print(f"ml-intern: {error.filename or 'a file'} cannot be used ({error.strerror}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
