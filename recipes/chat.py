"""SFT on conversations, learning the assistant's turns: `python -m recipes.chat FOLDER/config.json`.

A model without a chat template is given one (see recipes.template). Its own must mark these turns, or be one of those
that TRL 1.16 can mark (Qwen, Llama 3, Gemma and others).
"""

from typing import Any

from recipes import sft
from recipes.job import ConfigError, Job, run
from recipes.preflight import look_at_feed
from recipes.rows import Conversation
from recipes.template import Template, chosen, dressed
from recipes.training import fit, load_tokenizer, read_rows


class Config(sft.Config):
    SHAPE = Conversation
    METHOD = "SFT on conversations"

    completion_only: bool = True  # every turn of the assistant, and nothing else; False learns all turns

    template: Template = "auto"  # the model's own; of one without: chatml where it knows its tokens, else plain text

    def loss(self) -> dict[str, Any]:
        return {"assistant_only_loss": self.completion_only}

    def with_template(self, tokenizer: Any) -> Any:
        return dressed(tokenizer, chosen(self.template, tokenizer, self.lora_rank > 0))


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    rows, tokenizer = read_rows(config), load_tokenizer(config.model)
    told = {"template": chosen(config.template, tokenizer, config.lora_rank > 0)}
    check_template(config, dressed(tokenizer, told["template"]))

    def look(trainer: Any, fed: list[dict[str, Any]], steps: int) -> dict[str, Any]:
        return look_at_feed(trainer, fed, steps) | told

    return fit(config, job, sft.build, rows, look) | told


def check_template(config: Config, tokenizer: Any) -> None:
    """Raises ConfigError where the model's template cannot tell who speaks."""
    from trl.chat_template_utils import get_training_chat_template

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
