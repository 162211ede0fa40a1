"""Read, write and list files of the workspace."""

from lab.shown import as_text
from tools.base import Tool


class ReadFile(Tool):
    name = "read_file"
    effect = "read"
    together = True

    def forward(self, path: str, start: int = 0) -> str:
        """Read a text file of the workspace, up to 25,000 characters at a time.

        Args:
            path: The file, relative to the workspace.
            start: The character to start from.
        """
        return self.lab.workspace.read(path, start)


class WriteFile(Tool):
    name = "write_file"
    effect = "write"

    def forward(self, path: str, text: str) -> str:
        """Write a whole text file in the workspace, replacing what was there.

        Args:
            path: The file, relative to the workspace.
            text: Its new content.
        """
        self.lab.workspace.write(path, text)
        return as_text({"file": path, "characters": len(text)})


class ListFiles(Tool):
    name = "list_files"
    effect = "read"
    together = True

    def forward(self) -> str:
        """List the files of the workspace."""
        return as_text({"files": self.lab.workspace.names()})
