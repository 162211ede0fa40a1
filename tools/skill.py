"""Short curated texts on how to do this work well, in `tools/skills/`: read on demand, or shown with a tool's first use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from lab.errors import NotThere
from tools.base import Tool

FOLDER = Path(__file__).parent / "skills"


@dataclass(frozen=True)
class Skill:
    """One text. `when` names the tools after whose first use it is shown; without any it is read on demand only."""

    name: str
    title: str
    when: tuple[str, ...]
    text: str  # Markdown, the title included


@cache
def skills() -> Mapping[str, Skill]:
    """Every text by its name, in the order of names. Read once.

    Raises:
        ValueError: A file that does not begin with `when:` and a title.
    """
    return MappingProxyType({path.stem: parse(path.stem, path.read_text()) for path in sorted(FOLDER.glob("*.md"))})


@cache
def shown_after() -> Mapping[str, tuple[Skill, ...]]:
    """A tool's name -> the texts that are shown after its first use."""
    tools = {tool for skill in skills().values() for tool in skill.when}
    return {tool: tuple(skill for skill in skills().values() if tool in skill.when) for tool in tools}


def parse(name: str, content: str) -> Skill:
    """A file's content: `when: tool, tool`, `# Title`, then the text. Raises ValueError."""
    first, _, text = content.partition("\n")
    if not first.startswith("when:") or not text.startswith("# "):
        raise ValueError(f"The skill {name} begins with {content[:60]!r}; it needs a line when: and a line # Title.")
    tools = tuple(tool.strip() for tool in first.removeprefix("when:").split(",") if tool.strip())
    return Skill(name, text.partition("\n")[0].removeprefix("# "), tools, text.strip())


class ReadSkill(Tool):
    name = "read_skill"
    effect = "read"

    def forward(self, name: str) -> str:
        """Read a short curated text on one part of the work, with sources.

        Args:
            name: budget, choose-a-method, clean-data, evaluation-traps, grpo-rewards, lora-or-full, noise, persistence, recipes, reward-hacking, rl-curves, sft-curves, training-format.
        """
        skill = skills().get(name)
        if skill is None:
            raise NotThere(f"There is no skill {name!r}; there are: {', '.join(skills())}.")
        return skill.text
