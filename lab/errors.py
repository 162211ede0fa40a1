"""What can go wrong in the lab.

LabError                 the model reads it as a tool's output and chooses another way
├── BadInput             an argument, a path or a dataset cannot be used
├── Refused              the lab will not do it: a stop finding, no budget, a sealed thing
└── NotThere             a job, a score or a file does not exist
Stopped (BaseException)  a person said stop: leave at once
├── NeedsPerson          a person has to say what to do next: leave, and say why
└── OutOfBudget          a cap is used up: leave at once, and say which
"""


class LabError(Exception):
    """One sentence: what was wrong, the value seen, what to do next."""


class BadInput(LabError):
    """An argument, a path or a dataset cannot be used."""


class Refused(LabError):
    """The lab will not do it."""


class NotThere(LabError):
    """A job, a score or a file does not exist."""


class Stopped(BaseException):
    """A person said stop. Not an Exception, so that no tool boundary can swallow it."""


class NeedsPerson(Stopped):
    """The driver cannot go on without a person."""


class OutOfBudget(Stopped):
    """A cap of the session is used up."""
