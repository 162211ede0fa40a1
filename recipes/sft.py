"""Supervised fine-tuning with TRL: `python -m recipes.sft FOLDER/config.json`. Run again after a kill, it resumes."""

from dataclasses import replace
from math import ceil
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from recipes.faster import FLASH, keeps_apart
from recipes.job import ConfigError, Job, run
from recipes.limit import Limited
from recipes.preflight import look_at_feed, sample, token_count
from recipes.rows import Completion
from recipes.training import Parts, fit, read_rows
from recipes.weights import nf4

# What one more pass through the model costs, in tokens. cpu: 18 ms at 0.15 ms a token, the starter on two cores, and
# twice that, since four passes of rows of 38 to 62 tokens were 5 % slower than one; larger models pay less. cuda: [H].
A_PASS = {"cpu": 256, "cuda": 4096}


class Config(Limited):
    SHAPE = Completion
    METHOD = "SFT"
    PROBED = "cut"
    PACKS: ClassVar[str] = "bfd"  # what is longer than max_length loses its end, as it does without packing

    packing: bool = False
    padding_free: bool | None = None  # each batch as one sequence; None: where that is faster (see recipes.faster)
    completion_only: bool = True  # a prompt is given, so there is nothing to learn in it
    quantize: Literal["none", "nf4"] = "none"  # of the weights under an adapter (QLoRA); needs bitsandbytes

    @model_validator(mode="after")
    def only_under_an_adapter(self) -> "Config":
        if self.quantize != "none" and not self.lora_rank:
            raise ValueError(f"quantize = {self.quantize} cannot be trained by itself: give a lora_rank, such as 16")
        return self

    @model_validator(mode="after")
    def one_way_without_padding(self) -> "Config":
        if self.packing and self.padding_free is not None:
            raise ValueError("packed rows have no padding: leave padding_free out")
        return self

    def sized(self, rows: list[dict[str, Any]], tokenizer: Any, context: int | None) -> Self:
        sized = super().sized(rows, tokenizer, context)
        if self.padding_free and sized.flat(rows, tokenizer) is None:
            longest, most = sized.longest(rows, tokenizer), sized.max_length
            raise ConfigError(
                f"padding_free cuts no row, and one has {longest} tokens where {most} are allowed; leave it out."
            )
        return sized

    def loss(self) -> dict[str, Any]:
        """Which tokens are learned, as SFTConfig says it."""
        return {"completion_only_loss": self.completion_only}

    def lengths(self, rows: list[dict[str, Any]], tokenizer: Any) -> list[int]:
        assert self.max_length, "sized"
        return [] if self.packing else [min(token_count(row, tokenizer), self.max_length) for row in sample(rows)]

    def flat(self, rows: list[dict[str, Any]], tokenizer: Any) -> int | None:
        longest = None if self.packing else self.longest(rows, tokenizer)
        fits = longest and longest <= (self.max_length or 0)  # or it would cut rows
        return self.batch_size * longest if longest and fits and self.batch_size > 1 else None

    def passes(self, lengths: list[int], device: str) -> int:
        if self.padding_free:
            return 1
        cut = passes(lengths, self.batch_size, device)
        return cut if cut * self.grad_accumulation <= len(lengths) else 1  # or all the rows would be filled up


def main(config: Config, job: Job) -> dict[str, Any]:
    """Train, and leave model/ and preflight.json in the job's folder."""
    return train(config, job, read_rows(config))


def train(config: Config, job: Job, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """SFT on these rows, and a look at what TRL feeds before step 1."""
    return fit(config, job, build, rows, look_at_feed)


def build(parts: Parts) -> Any:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    parts = in_passes(parts)
    config: Config = parts.config
    args = SFTConfig(
        **parts.arguments,
        max_length=None if config.padding_free else config.max_length,  # which cuts no row then
        packing=config.packing,
        packing_strategy=config.PACKS,
        padding_free=bool(config.padding_free),
        **config.loss(),
    )
    model = parts.load(**nf4(parts.device) if config.quantize == "nf4" else {})
    flat = config.padding_free or (config.packing and config.PACKS == "bfd")
    if flat and config.attention != FLASH["attention"] and not keeps_apart(model):
        raise ConfigError("This model does not keep rows apart in one sequence; leave packing and padding_free out.")
    trainer = SFTTrainer(model=model, args=args, **parts.common())
    args.max_length = config.max_length
    trainer.model_accepts_loss_kwargs = (
        True  # TRL's own loss does; Gemma 3 says no of its own, and passes would weigh alike
    )
    return trainer


def in_passes(parts: Parts) -> Parts:
    """Each batch as several passes of rows of like length: the same gradient with less padding and less memory.

    The loss is a mean over the tokens of the whole batch, whatever pass they are in (TRL 1.16), and the rows of a batch
    are drawn at random all the same. An epoch's last batch that has fewer rows than passes is filled up, one row a pass.
    In the probe, which says the order of the rows, each step's are sorted.
    """
    batch, given = parts.config.batch_size, parts.arguments
    cut = parts.config.passes(parts.lengths, parts.device)
    times = given["gradient_accumulation_steps"]
    train, order = parts.train, given.get("train_sampling_strategy", "batch_rebalance")
    if cut == 1:
        return parts
    if order == "sequential":
        steps = (train[at : at + batch * times] for at in range(0, len(train), batch * times))
        train = [row for step in steps for row in sorted(step, key=lambda row: len(str(row)))]
    changed = {
        "per_device_train_batch_size": batch // cut,
        "per_device_eval_batch_size": batch // cut,  # a whole batch may not fit where its passes do
        "gradient_accumulation_steps": times * cut,
        "train_sampling_strategy": order,
    }
    return replace(parts, train=train, arguments=given | changed)


def passes(lengths: list[int], batch: int, device: str) -> int:
    """Into how many passes a batch of rows that are as long as these is cut: where padding and A_PASS cost least."""
    ordered = sorted(lengths)

    def cost(cut: int) -> float:
        size = ceil(len(ordered) / cut)
        chunks = [ordered[at : at + size] for at in range(0, len(ordered), size)]
        padded = sum(chunk[-1] * len(chunk) for chunk in chunks)
        return batch * padded / len(ordered) + cut * A_PASS[device]

    return min((cut for cut in range(1, batch + 1) if batch % cut == 0), key=cost) if ordered else 1


if __name__ == "__main__":
    run(main, Config)
