"""What each command does. Every one reads the log; those that drive a session do so in this process."""

import json
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import fields, replace
from math import inf
from typing import Any

from agent import shroud, terminal
from agent.aside import begin
from agent.kept import kept
from agent.managed import check_capped
from agent.mirroring import fetch, mirrored
from agent.sessions import DEMO, Request, find, open_session, state_of, summaries
from agent.settings import Settings, SettingsError
from agent.steering import decide, fork, halt, say
from agent.wallet import Wallet
from agent.webhook import watching
from lab.backends.local import LocalBackend
from lab.errors import LabError
from lab.lab import Lab
from lab.tasks import Vault
from record.events import Asked, Closed, Event
from record.journal import Journal
from record.log import Log, LogError
from record.report import report as write_report
from record.report import score_text

SLOWEST = 0.01  # times real time
GO_ON = "Go on where you stopped."
EXIT = {"done": 0, "needs_person": 2, "stopped": 2, "out_of_budget": 3, "provider_failed": 4, "failed": 1}


def run(settings: Settings, options: Namespace) -> int:
    """Open a session and drive it to its end. Where nobody watches, a language model must have a cap."""
    request = _request(options)
    if request.approval == "auto" and _alone(options):
        check_capped(settings, request, "--dollars or --tokens")
    return _drive(settings, open_session(settings, request), options.output)


def _alone(options: Namespace) -> bool:
    """Whether nobody watches who could stop it."""
    return options.output == "jsonl" or not sys.stdin.isatty()


def demo(settings: Settings, options: Namespace) -> int:
    """The whole job on the starter model."""
    return _drive(settings, open_session(settings, replace(DEMO, seed=options.seed)), options.output)


def chat(settings: Settings, options: Namespace) -> int:
    """Run, and then read messages until the person has no more."""
    session = open_session(settings, _request(options))
    code = _drive(settings, session, options.output)
    while text := _ask("\nyou> "):
        log = find(settings, session)
        after = len(log)
        say(log, text)
        code = _drive(settings, session, options.output, after)
    return code


def resume(settings: Settings, options: Namespace) -> int:
    """Go on with a session where it stands."""
    log = find(settings, options.session)
    if options.at is not None:
        log = find(settings, fork(settings, log, at=options.at))
    views = Journal(log).views
    if _alone(options) and views.approval == "auto":
        request = Request(driver=views.driver, dollars=views.budget.dollars, tokens=views.budget.tokens)
        check_capped(settings, request, "it a cap on the page")
    after = min([len(log), *(asked.seq - 1 for asked in views.waiting)])  # an open question is asked again
    if options.say or options.at is not None:
        say(log, options.say or GO_ON)
    elif views.settled and views.closed:
        if views.closed.outcome == "done":
            raise SettingsError("The session has done what it was asked; give it more to do with --say.")
        say(log, GO_ON)
    return _drive(settings, log.path.parent.name, options.output, after)


def list_(settings: Settings, options: Namespace) -> int:
    """Every session, a line each."""
    for s in summaries(settings):
        best = f"{s.best:.3f}" if s.best is not None else "unknown"
        print(f"{s.id}  {s.state:<16} best held-out {best:<8} {s.title[:70]}")
    return 0


def pull(settings: Settings, options: Namespace) -> int:
    """Fetch sessions from the mirror that are not here."""
    print("Looking for sessions in the mirror; large models take a while.", file=sys.stderr, flush=True)
    pulled = fetch(settings, options.session)
    for session in pulled.fetched:
        print(f"{session}: fetched. Go on with it: python -m agent resume {session}")
    for session, why in pulled.left.items():
        print(f"{session}: left, {why}.")
    if not pulled.fetched and not pulled.left:
        print("Nothing is in the mirror that is not here.")
    return 2 if pulled.left and not pulled.fetched else 0


def show(settings: Settings, options: Namespace) -> int:
    """Where a session stands."""
    log = find(settings, options.session)
    views = Journal(log).views
    print(f"{views.goal.text}\n{log.path.parent.name}: {state_of(views)}, {len(log)} facts, {log.path.parent}")
    there = kept(settings, log.path.parent)
    print(f"{there.said} {there.where}".rstrip())
    for step in views.plan:
        print(f"  {terminal.MARKS[step.state]} {step.text}")
    for job in views.jobs.values():
        state = job.ended.state if job.ended else f"running, step {job.step} of {job.steps or 'unknown'}"
        print(f"  {job.id}: {state}. {job.idea}")
    for score in views.scores:
        print(f"  {score.model} on {score.split}: {score_text(score)}")
    if views.closed:
        print(f"{views.closed.outcome}: {views.closed.reason}")
    return 0


def replay(settings: Settings, options: Namespace) -> int:
    """Print a session's facts again, at once or at a multiple of their own pace."""
    if options.speed != 0 and not SLOWEST <= options.speed < inf:
        raise SettingsError(f"The speed is {options.speed:g}; give 0 for at once, or {SLOWEST:g} or more.")
    before = None
    for fact in find(settings, options.session):
        if options.speed and before:
            time.sleep((fact.at - before.at).total_seconds() / options.speed)
        _print(fact, options.output)
        before = fact
    return 0


def report(settings: Settings, options: Namespace) -> int:
    """Print a session's report, made from its log now."""
    print(write_report(find(settings, options.session)), end="")
    return 0


def publish(settings: Settings, options: Namespace) -> int:
    """Put what a session has made on the Hub, with the person's token. Typing the command is the consent."""
    log = find(settings, options.session)
    backend = LocalBackend(settings.queue, settings.job_env, settings.machine_price)
    token = settings.keys.get("HF_TOKEN")
    lab = Lab(log, log.path.parent, backend, Vault(settings.vault), settings.job_env, lambda: None, token)
    print(f"Publishing the {options.what}; large models take a while.", file=sys.stderr, flush=True)
    try:
        made = lab.publish(options.what, options.model, options.to, options.public)
    except LabError as error:
        raise SettingsError(str(error)) from error
    print(f"{made['published']}, {'private' if made['private'] else 'public'}: {made['where']}")
    return 0


def stop(settings: Settings, options: Namespace) -> int:
    """Stop a session, whoever drives it; one that nobody drives is ended here, and its jobs with it."""
    log = find(settings, options.session)
    halt(log)
    if not Journal(log).views.settled:
        from agent.session import Busy, Session

        with suppress(Busy):  # its owner does the same
            Session(settings, log.path.parent.name).run()
    return 0


def _drive(settings: Settings, session: str, output: str, after: int = 0) -> int:
    """Drive a session in this process while its facts are printed; Ctrl-C stops it, as the page's button does."""
    from agent.session import Busy, Session  # smolagents: 1 s that listing and showing need not wait for

    driven = Session(settings, session)
    if output == "text":
        print(settings.guard, file=sys.stderr)
        if settings.mirror:
            where = settings.shelf or f"{settings.mirror.replace('{user}', 'YOU')} on the Hub, private"
            print(f"mirror: {where}; ML_INTERN_MIRROR=off ends it", file=sys.stderr)
    ended = threading.Event()
    printer = threading.Thread(target=_follow, args=(driven.log, after, output, ended), daemon=True)
    printer.start()
    try:
        with watching(settings, session), mirrored(settings):
            closed = _run(driven.run, driven.log)
    except Busy as error:
        raise SettingsError(f"{error} Watch it with `python -m agent replay {session}`, or on the page.") from error
    except OSError as error:
        raise SettingsError(f"{driven.folder} cannot be used ({error.strerror}); free some disk and resume.") from error
    finally:
        ended.set()
        printer.join(timeout=5)
    if output == "text":
        print(f"\nreport: {driven.folder / 'report.md'}")
        if settings.mirror:
            print(kept(settings, driven.folder).said)
    return EXIT[closed.outcome]


def _run(work: Callable[[], Closed], log: Log) -> Closed:
    """Run the session in a thread, so that Ctrl-C is heard at once and becomes a fact like any other stop."""
    ending = begin(work)
    while not ending.done():
        try:
            wait([ending])
        except KeyboardInterrupt:
            halt(log, reason="Ctrl-C")
    return ending.result()


def _follow(log: Log, after: int, output: str, ended: threading.Event) -> None:
    """Print each fact as it comes, until the session is over and everything is printed."""
    reader = Log(log.path)
    with suppress(LogError, BrokenPipeError):
        for fact in reader.follow(after, ended.is_set):
            _print(fact, output)
            if not isinstance(fact, Asked) or fact.call not in {asked.call for asked in Journal(reader).views.waiting}:
                continue
            if output == "jsonl" or not sys.stdin.isatty():
                print(f"ml-intern: {fact.name} waits for your decision; decide on the web page.", file=sys.stderr)
            else:
                allowed = _ask("  allow? [y/N] ").lower() in ("y", "yes")
                with suppress(SettingsError):  # somebody else decided meanwhile
                    decide(reader, fact.call, allowed)


def _print(fact: Event, output: str) -> None:
    if output == "jsonl":
        print(fact.model_dump_json(), flush=True)
        return
    for line in terminal.lines(fact):
        print(line, flush=True)


def _request(options: Namespace) -> Request:
    text = sys.stdin.read() if options.text == "-" else options.text
    if options.approval != "auto" and not sys.stdin.isatty():
        raise SettingsError(
            f"--approval {options.approval} needs a terminal to answer in; use auto with caps, or the web page."
        )
    given: dict[str, Any] = {
        field.name: getattr(options, field.name) for field in fields(Request) if field.name in options
    }
    return replace(Request(**given), text=text)


def _ask(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def worker(settings: Settings, options: Namespace) -> int:
    """Drive the sessions that the page opens, with keys that no environment holds."""
    from agent import worker as driving  # smolagents, too

    if not options.keys_from_stdin:
        return driving.main(Wallet(settings), options.parent)
    lines = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  (a lock of sys.stdin held by a thread breaks the exit)
    settings = replace(settings, keys=settings.keys | json.loads(lines.readline()))
    shroud.redact_errors(settings.secrets)
    wallet = Wallet(settings)
    threading.Thread(target=wallet.listen, args=(lines,), name="sign-ins", daemon=True).start()
    return driving.main(wallet, options.parent)


ALL = (run, demo, chat, list_, pull, show, resume, replay, report, publish, stop, worker)
COMMANDS: dict[str, Callable[[Settings, Namespace], int]] = {one.__name__.rstrip("_"): one for one in ALL}
