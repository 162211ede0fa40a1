"""SFT on conversations, learning the assistant's turns: `python -m recipes.chat FOLDER/config.json`.

It needs a chat template that marks these turns, or one of those that TRL 1.16 can mark (Qwen, Llama 3, Gemma and others).
"""

from typing import Any

from recipes import sft
from recipes.job import ConfigError, Job, run
from recipes.preflight import look_at_feed
from recipes.rows import Conversation
from recipes.training import fit, load_tokenizer, read_rows


class Config(sft.Config):
    SHAPE = Conversation
    METHOD = "SFT on conversations"

    completion_only: bool = True  # every turn of the assistant, and nothing else; False learns all turns

    def loss(self) -> dict[str, Any]:
        return {"assistant_only_loss": self.completion_only}


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    rows = read_rows(config)
    check_template(config)
    return fit(config, job, sft.build, rows, look_at_feed)


def check_template(config: Config) -> None:
    """Raises ConfigError where the model's template cannot tell who speaks."""
    from trl.chat_template_utils import get_training_chat_template

    tokenizer = load_tokenizer(config.model)
    if not tokenizer.chat_template:
        raise ConfigError(f"The model {config.model!r} has no chat template; train sft on prompt and completion.")
    try:
        get_training_chat_template(tokenizer)
    except ValueError as error:
        if config.completion_only:
            what = (
                f"The chat template of {config.model!r} does not mark the assistant's turns, and TRL does not know it"
            )
            raise ConfigError(f"{what}; set completion_only to false to learn all turns.") from error


if __name__ == "__main__":
    run(main, Config)
