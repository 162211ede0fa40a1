"""Start a training job."""

from lab.lab import as_text
from tools.base import Tool


class Train(Tool):
    name = "train"
    effect = "spend"

    def forward(self, config: dict, idea: str, recipe: str = "sft", hours: float = 1.0) -> str:
        """Start a training job and return its id at once. A preflight runs first and refuses what cannot work. Use `wait` to follow it.

        Args:
            config: The recipe's settings: data (a file of the workspace), model ("base", "best" or a job), and those to change, e.g. lr, max_steps, batch_size, max_length, packing, lora_rank.
            idea: The hypothesis in one sentence: what is changed, and what it should do to the score.
            recipe: Which recipe to run: "sft".
            hours: Stop the job after this many hours of run time.
        """
        return as_text(self.lab.train(recipe, config, hours, idea, self.call))
