"""Put what a session has made on the Hub."""

from typing import Literal

from lab.shown import as_text
from tools.base import Tool


class Publish(Tool):
    name = "publish"
    effect = "publish"

    def forward(
        self,
        what: Literal["model", "dataset", "report", "demo", "curves"] = "model",
        model: str = "best",
        to: str = "",
        public: bool = False,
    ) -> str:
        """Put a trained model with its card, the rows it was trained on, the report, a Space to try the model in, or one with the training curves on the Hub. Only where the person wants it: the session waits until they have allowed it. Called again, it updates what is there.

        Args:
            what: "model"; "dataset" for its training rows; "report"; "demo" for a Space that asks the published model and its base; or "curves" for a Trackio Space of all jobs.
            model: "best", or the id of the job that trained it.
            to: The repository, as user/name; left out, a name is made from base model, task and session.
            public: Whether anybody may see it. Only where the person asked for that: private by default.
        """
        return as_text(self.lab.publish(what, model, to, public))
