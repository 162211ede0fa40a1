"""On-policy distillation with TRL: the student writes, and learns the teacher's next-token probabilities on what it wrote.

`python -m recipes.distill FOLDER/config.json`. Reverse KL on the student's own samples (GKD, 2306.13649). With a
`teacher_prefix` only the teacher reads it: a student then learns to do without its examples (context distillation,
2209.15189), and may be its own teacher.
"""

from typing import Any

from pydantic import Field, PositiveInt, model_validator

from recipes.job import ConfigError, Job, run
from recipes.rows import Asked
from recipes.training import Parts, TrainingConfig, fit, load_model, read_rows


class Config(TrainingConfig):
    SHAPE = Asked
    METHOD = "distillation"
    PROBED = "sampled"
    SHOWN = ("entropy", "completions/clipped_ratio")  # loss and eval_loss are the divergence, in nats a token

    teacher: str | None = None  # a folder or a Hub id, same vocabulary; None: the model as it was at the start
    teacher_prefix: str = ""  # text before the teacher's prompt: instructions, or examples of question and answer
    lr: float = Field(3e-4, gt=0)  # for the starter; TRL's 1e-6 is for models of 1B and more
    batch_size: PositiveInt = 64  # prompts, one answer each
    max_new_tokens: PositiveInt = 64
    temperature: float = Field(1.0, gt=0)  # of the samples and of both distributions
    divergence: float = Field(1.0, ge=0, le=1)  # 1 reverse KL, 0 forward KL, between them Jensen-Shannon
    warmup_steps: int = Field(3, ge=0)
    log_steps: PositiveInt = 1

    @model_validator(mode="after")
    def teacher_knows_more(self) -> "Config":
        if not self.teacher and not self.teacher_prefix:
            raise ValueError("a model cannot learn from itself alone: give a teacher or a teacher_prefix")
        return self


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ in the job's folder. The held-out divergence is measured before step 1, too."""
    return fit(config, job, build, [{"prompt": row["prompt"]} for row in read_rows(config)])


def build(parts: Parts) -> Any:
    from trl.trainer.distillation_config import DistillationConfig

    config: Config = parts.config
    args = DistillationConfig(
        **parts.arguments,
        eval_on_start=bool(parts.held),
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        beta=config.divergence,
    )
    model, teacher = parts.load(), load_model(config.teacher or config.model, parts.device == "cuda")
    if model.config.vocab_size != teacher.config.vocab_size:
        sizes = f"{teacher.config.vocab_size} and {model.config.vocab_size}"
        raise ConfigError(f"Teacher and student have vocabularies of {sizes} tokens; they must share one.")
    kind = trainer_type(prefix_tokens(config.teacher_prefix, parts.tokenizer), parts.tokenizer.bos_token_id)
    return kind(model=model, teacher_model=teacher, args=args, **parts.common())


def prefix_tokens(prefix: str, tokenizer: Any) -> list[int]:
    """The tokens that only the teacher reads: plain text, or a system's turn where there is a chat template.

    Raises ConfigError for a template that does not put a system's turn before the user's.
    """
    if prefix and tokenizer.chat_template:
        user = {"role": "user", "content": "x"}
        alone, after = (
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            for turns in ([user], [{"role": "system", "content": prefix}, user])
        )
        start = tokenizer.bos_token or ""
        alone, after = alone.removeprefix(start), after.removeprefix(start)
        if not after.endswith(alone):
            raise ConfigError(
                "The chat template has no place for a system's turn before the user's; leave teacher_prefix out."
            )
        prefix = after.removesuffix(alone)
    return tokenizer(prefix, add_special_tokens=False)["input_ids"]


def trainer_type(prefix: list[int], bos: int | None) -> Any:
    """TRL's DistillationTrainer, whose teacher reads the prefix before every prompt."""
    import torch
    from trl.trainer.distillation_trainer import DistillationTrainer

    class Prefixed(DistillationTrainer):
        def _get_last_hidden_state(self, unwrapped_model, input_ids, attention_mask, logits_to_keep, **images):
            if prefix and unwrapped_model is self.accelerator.unwrap_model(self.teacher_model):
                input_ids, attention_mask = with_prefix(input_ids, attention_mask)
            return super()._get_last_hidden_state(unwrapped_model, input_ids, attention_mask, logits_to_keep, **images)

    def with_prefix(ids: Any, mask: Any) -> tuple[Any, Any]:
        """Rows padded on the left, with the prefix after padding and BOS: (batch, length + prefix) each."""
        told = torch.tensor(prefix, device=ids.device)
        rows, masks = [], []
        for row, seen in zip(ids, mask, strict=True):
            start = int(seen.argmax())
            start += int(row[start] == bos) if bos is not None else 0
            rows.append(torch.cat([row[:start], told, row[start:]]))
            masks.append(torch.cat([seen[:start], torch.ones_like(told, dtype=seen.dtype), seen[start:]]))
        return torch.stack(rows), torch.stack(masks)

    return Prefixed


if __name__ == "__main__":
    run(main, Config)
