"""The intern as a managed agent of somebody else's smolagents agent.

    CodeAgent(tools=[], model=…, managed_agents=[Intern(task="chains", target=0.9, hours=0.5)])

smolagents asks a managed agent for a name, a description and a call with `task`; it sets `inputs` and `output_type`
itself. Nothing here imports smolagents. A CodeAgent waits 30 s for its Python unless it is made with
executor_kwargs={"timeout_seconds": None}; and the code that it runs is in a process that has the keys of its owner.
"""

from dataclasses import fields, replace
from typing import Any

from agent.providers import check_driver
from agent.sessions import Request, open_session
from agent.settings import Settings, SettingsError, read_settings
from agent.steering import halt
from record.report import report

NAME = "ml_intern"
DESCRIPTION = (
    "A research engineer who makes a small language model better at a task by training it, and measures the result on "
    "held-out items. Tell it in words what to make better. It works alone for as long as it was given, and answers with "
    "its report: every score in it is a sealed measurement."
)
ASKABLE = ("task", "model", "target")  # what the managing agent may choose; caps are the person's alone
LONGEST = 20_000  # characters of the report


class Intern:
    """Each call opens a session, drives it to its end in this process, and returns its outcome and report."""

    def __init__(
        self, settings: Settings | None = None, name: str = NAME, description: str = DESCRIPTION, **terms: Any
    ):
        """`terms` are fields of agent.Request: task, model, target, hours, dollars, tokens, driver … They hold for each call.

        Raises:
            SettingsError: A term that there is not, or a language model as the driver without a cap.
        """
        names = {field.name for field in fields(Request)} - {"text", "approval"}
        if strange := sorted(set(terms) - names):
            raise SettingsError(f"There is no term {strange[0]!r} of an Intern; there are {', '.join(sorted(names))}.")
        self.name = name
        self.description = description
        self.inputs: dict[str, Any] = {}  # smolagents' to set
        self.output_type = "string"
        self._settings = settings or read_settings()
        self._request = Request(**terms)
        check_capped(self._settings, self._request, "dollars= or tokens=")

    def __call__(self, task: str, additional_args: dict[str, Any] | None = None, **_: Any) -> str:
        """Do it. `additional_args` may hold a task, a model and a target; nothing else.

        Raises:
            SettingsError: The request cannot be met. smolagents shows its sentence to the managing agent.
        """
        chosen = additional_args or {}
        if strange := sorted(set(chosen) - set(ASKABLE)):
            raise SettingsError(f"{strange[0]!r} is not yours to choose; in additional_args give {', '.join(ASKABLE)}.")
        request = replace(self._request, text=task, **chosen)
        from agent.session import Session  # smolagents: 1 s, which the caller has paid already

        session = Session(self._settings, open_session(self._settings, request))
        try:
            closed = session.run()
        except KeyboardInterrupt:
            halt(session.log, reason="interrupted")
            session.run()
            raise
        session.log.refresh()
        said = report(session.log)
        cut = "\n[… the rest is in the report's file …]" if len(said) > LONGEST else ""
        where = f"The session is {session.id}; its files lie in {session.folder}."
        return f"{closed.outcome}: {closed.reason}\n{where}\n\n{said[:LONGEST]}{cut}"


def check_capped(settings: Settings, request: Request, options: str) -> None:
    """Raise SettingsError for a language model that nobody watches and that no cap would end. Autopilot costs nothing."""
    driver = request.driver or settings.driver
    check_driver(driver, settings.keys, settings.api_base)
    if driver != "autopilot" and request.dollars is None and request.tokens is None:
        what = f"{driver} would spend without a cap while nobody watches"
        raise SettingsError(f"{what}; give {options}, or use the driver autopilot, which costs nothing.")
