"""The tools that an agent of ours holds, in the order that a session uses them."""

from lab.lab import Lab
from tools.base import Tool
from tools.data import AuditData, PrepareData
from tools.files import ListFiles, ReadFile, WriteFile
from tools.jobs import Cancel, JobLog, Wait
from tools.plan import FinalAnswer, Note, Plan
from tools.publish import Publish
from tools.scores import Evaluate, Promote
from tools.shell import Shell
from tools.skill import ReadSkill
from tools.sweep import Sweep
from tools.train import Train

TOOLS = (
    Plan, AuditData, PrepareData, Train, Sweep, Wait, Evaluate, Promote, Publish, Cancel, JobLog,
    Shell, ReadFile, WriteFile, ListFiles, ReadSkill, Note, FinalAnswer,
)  # fmt: skip


def all_tools(lab: Lab) -> list[Tool]:
    """One of each, on a session's lab."""
    return [tool(lab) for tool in TOOLS]
