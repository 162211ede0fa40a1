"""On-policy distillation with TRL: the student writes, and learns the teacher's next-token probabilities on what it wrote.

`python -m recipes.distill FOLDER/config.json`. Reverse KL on the student's own samples (GKD, 2306.13649). With a
`teacher_prefix` only the teacher reads it: a student then learns to do without its examples (context distillation,
2209.15189), and may be its own teacher.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from recipes.job import ConfigError, Job, run
from recipes.prefix import Prefix, prefix_of
from recipes.rows import Asked
from recipes.sampler import Sampled, decided, settings_of, settled
from recipes.training import Parts, fit, load_model, read_rows, resume_point


class Config(Sampled):
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
    config = decided(config)
    if resume_point(job.folder / "checkpoints") is None:
        job.rewind(-1)  # of an attempt that was killed before its first save: step 0 is evaluated again
    rows = [{"prompt": row["prompt"]} for row in read_rows(config)]
    return fit(config, job, build, rows) | {"engine": config.engine}


def build(parts: Parts) -> Any:
    from trl.trainer.distillation_config import DistillationConfig

    config: Config = parts.config
    args = DistillationConfig(
        **parts.arguments | settings_of(parts),
        eval_on_start=bool(parts.held) and resume_point(Path(parts.arguments["output_dir"])) is None,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        beta=config.divergence,
    )
    model, teacher = parts.load(), load_model(config.teacher or config.model, parts.frozen)
    if model.config.vocab_size != teacher.config.vocab_size:
        sizes = f"{teacher.config.vocab_size} and {model.config.vocab_size}"
        raise ConfigError(f"Teacher and student have vocabularies of {sizes} tokens; they must share one.")
    prefix = prefix_of(config.teacher_prefix, parts.tokenizer) if config.teacher_prefix else Prefix([])
    kind = trainer_type(prefix)
    return settled(kind(model=model, teacher_model=teacher, args=args, **parts.common()), config)


def trainer_type(prefix: Prefix) -> Any:
    """TRL's DistillationTrainer, whose teacher reads the prefix in every prompt."""
    from trl.trainer.distillation_trainer import DistillationTrainer

    class Prefixed(DistillationTrainer):
        def _get_last_hidden_state(self, unwrapped_model, input_ids, attention_mask, logits_to_keep, **images):
            if unwrapped_model is self.accelerator.unwrap_model(self.teacher_model):
                input_ids, attention_mask = prefix.before(input_ids, attention_mask)
            return super()._get_last_hidden_state(unwrapped_model, input_ids, attention_mask, logits_to_keep, **images)

    return Prefixed


if __name__ == "__main__":
    run(main, Config)
