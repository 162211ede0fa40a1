"""Write a remark down for the person and for the report."""

from lab.shown import as_text
from record.events import Noted
from tools.base import Tool


class Note(Tool):
    name = "note"
    effect = "read"

    def forward(self, topic: str, text: str) -> str:
        """Note something that the person should find in the report: a decision and its reason, a limit, a surprise.

        Args:
            topic: One or two words.
            text: The remark.
        """
        self.lab.tell(Noted(topic=topic, text=text))
        return as_text({"noted": topic})
