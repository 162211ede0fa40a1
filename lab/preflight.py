"""Say what is wrong with a training job before it starts. Pure. A `stop` finding refuses the launch."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from lab.clock import MARGIN, Count, Estimate, Room
from lab.demand import Space, tokens_of
from lab.diagnose import TRUNCATED_STOP, TRUNCATED_WARN
from lab.findings import Finding
from lab.integrity import Index
from lab.wording import Wording, given_template, template_mismatch
from recipes import sft
from recipes.memory import USABLE, rungs
from recipes.rows import leaves
from recipes.training import TrainingConfig
from record.words import duration

TOLERATED = 3  # rows that share an item with the evaluation; PostTrainBench v1.1 calls 4 contamination
REPEATED_WARN = 0.30  # share of rows that are copies of another [H]
CONFLICTING_INFO = 0.05  # share of rows whose prompt has several completions [H]
DISK_WARN, DISK_STOP = 2**30, 256 * 2**20  # bytes free
TOO_LONG = "does not fit into the time that is left"  # how a refusal for time reads
UNSURE = 1.15  # how far off an estimate of memory may be
LORA = {"lora_rank": 16}
LR_RANGE = (1e-7, 3e-2)  # outside it nothing is learned, or nothing stays finite [H]


def preflight(
    rows: Sequence[dict[str, Any]],
    config: dict[str, Any],
    index: Index,
    count_tokens: Count | None,
    free_bytes: int,
    room: Room | None,
    estimate: Estimate | None,
    recipe: type[TrainingConfig] = sft.Config,
    space: Space | None = None,
    hours: float | None = None,
    asked: Wording | None = None,
) -> list[Finding]:
    """Everything wrong, worst first.

    Args:
        count_tokens: Token counts of texts by the model's own tokenizer; None where it is not on this disk.
        room: The time that is left; None without a cap.
        estimate: The time that the job will take; None when nobody knows.
        recipe: Whose rows they are.
        space: What the job has to fit into; None where nobody knows how large the model is.
        hours: Run time after which the job is ended.
        asked: How the session's evaluation asks this model.
    """
    shape = no_rows(rows) or wrong_columns(rows, config, recipe)
    typed = [] if shape else [recipe.SHAPE.model_validate(row) for row in rows]
    plain, longest = ([row.plain(longest) for row in typed] for longest in (False, True))
    found = [shape] if shape else [
        repeated_rows(plain),
        contaminated(plain, index),
        truncated_share(longest, config, count_tokens),
        no_memory(longest, config, count_tokens, recipe, space),
        template_mismatch(plain, recipe, asked, count_tokens) if asked else None,
        given_template(config, recipe, asked) if asked else None,
    ]  # fmt: skip
    if not shape and recipe.SHAPE is sft.Completion:
        found += [empty_completions(rows), conflicting_answers(rows)]
    found += [
        contaminated_settings(config, index),
        no_disk(free_bytes),
        no_time(room, estimate),
        few_hours(hours, estimate),
        odd_learning_rate(config),
    ]
    return sorted((f for f in found if f), key=lambda finding: finding.severity, reverse=True)


def no_rows(rows: Sequence[dict[str, Any]]) -> Finding | None:
    if rows:
        return None
    return Finding("stop", "no_rows", "The training file has no rows.", "Prepare one with at least a few hundred rows.")


def wrong_columns(
    rows: Sequence[dict[str, Any]], config: dict[str, Any], recipe: type[TrainingConfig]
) -> Finding | None:
    what = recipe.misfit(rows, config)
    advice = "Change the rows or the settings, or use another recipe."
    return Finding("stop", "wrong_columns", what, advice) if what else None


def empty_completions(rows: Sequence[dict[str, Any]]) -> Finding | None:
    empty = sum(not row["completion"].strip() or not row["prompt"].strip() for row in rows)
    if not empty:
        return None
    what = f"{empty} of {len(rows)} rows have an empty text."
    return Finding("stop", "empty_completions", what, "Take them out.", {"rows": empty})


def repeated_rows(rows: Sequence[dict[str, Any]]) -> Finding | None:
    repeated = len(rows) - len(Counter((row["prompt"], row["completion"]) for row in rows))
    if repeated <= REPEATED_WARN * len(rows):
        return None
    what = f"{repeated} of {len(rows)} rows are copies of another."
    return Finding("warn", "repeated_rows", what, "Take the copies out, or make more rows.", {"rows": repeated})


def conflicting_answers(rows: Sequence[dict[str, Any]]) -> Finding | None:
    """Only information: a worked and a bare answer to one prompt are both right, and we cannot tell."""
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        answers[row["prompt"]].add(row["completion"].strip())
    several = sum(len(answers[row["prompt"]]) > 1 for row in rows)
    if several <= CONFLICTING_INFO * len(rows):
        return None
    what = f"{several} of {len(rows)} rows share their prompt with a row that has another completion."
    advice = "Fine for a worked and a bare answer; take them out where the answers contradict each other."
    return Finding("info", "conflicting_answers", what, advice, {"rows": several})


def contaminated(rows: Sequence[dict[str, Any]], index: Index) -> Finding | None:
    hits = [i for i, row in enumerate(rows) if index.hits(f"{row['prompt']} {row['completion']}")]
    if not hits:
        return None
    what = f"{len(hits)} of {len(rows)} rows contain an item of the evaluation."
    advice = "Make the file with prepare_data, which takes them out."
    level = "stop" if len(hits) > TOLERATED else "warn"
    return Finding(level, "contaminated", what, advice, {"rows": [i + 1 for i in hits[:20]]})


def contaminated_settings(config: dict[str, Any], index: Index) -> Finding | None:
    """A teacher's examples, a pattern to reward, whatever a script reads: one item there is no accident."""
    hits = [name for name, value in config.items() if any(index.hits(text) for text in leaves(value))]
    if not hits:
        return None
    what = f"An item of the evaluation stands in the settings ({', '.join(hits)})."
    return Finding("stop", "contaminated_settings", what, "Use items of the training split.", {"settings": hits})


def truncated_share(
    rows: Sequence[dict[str, Any]], config: dict[str, Any], count_tokens: Count | None
) -> Finding | None:
    limit = config.get("max_length")
    if not limit or count_tokens is None:
        return None
    lengths = count_tokens([row["prompt"] + row["completion"] for row in rows])
    share = sum(length >= limit for length in lengths) / len(lengths)
    if share <= TRUNCATED_WARN:
        return None
    what = f"{share:.0%} of the rows do not fit into max_length = {limit}; the longest has {max(lengths)} tokens."
    level = "stop" if share > TRUNCATED_STOP else "warn"
    return Finding(level, "truncated_share", what, "Raise max_length, or leave the long rows out.", {"share": share})


def no_disk(free_bytes: int) -> Finding | None:
    if free_bytes >= DISK_WARN:
        return None
    level = "stop" if free_bytes < DISK_STOP else "warn"
    what = f"{free_bytes >> 20} MiB of disk are free."
    return Finding(level, "no_disk", what, "Free some: checkpoints need room.", {"bytes": free_bytes})


def no_memory(
    rows: Sequence[dict[str, Any]],
    config: dict[str, Any],
    count_tokens: Count | None,
    recipe: type[TrainingConfig],
    space: Space | None,
) -> Finding | None:
    """By lab.demand. Refused is only what one row at a time with gradient checkpointing cannot mend."""
    if space is None:
        return None
    full = recipe.full(config)
    length, on = tokens_of(rows, full, count_tokens), space.machine

    def needs(**settings: Any) -> int:
        return space.needs(recipe, full | settings, length)

    room, choices = on.bytes * USABLE, list(rungs(full, recipe.LEAST))
    fit = next((choice for choice in choices if needs(**choice) <= room), None)
    if fit == choices[0]:
        return None
    many = f"{on.accelerators} × " if on.accelerators > 1 else ""
    what = (
        f"Training takes about {many}{gib(needs())} with rows of {length} tokens, "
        f"and this machine has {many}{gib(on.bytes)} of {'GPU memory' if on.device == 'cuda' else 'memory'}."
    )
    evidence = {"needs_bytes": needs(), "has_bytes": on.bytes, "length": length}
    estimated, peak = space.corrected(recipe, full, length)
    if peak:
        what += (
            f" Estimated were {gib(estimated)}, times {peak.factor:.2f}: "
            f"{peak.job} of {peak.session} took {gib(peak.measured)}, estimated {gib(peak.estimated)}."
        )
        evidence |= {"estimated_bytes": estimated, "corrected_by": peak.model_dump(include={"session", "job"})}
    if fit:
        changed = ", ".join(f"{name} = {value}" for name, value in fit.items() if value != full[name])
        advice = f"Use {changed}: the same rows a step in about {gib(needs(**fit))}."
        return Finding("warn", "no_memory", what, advice, evidence | {"fits": fit})
    least = needs(**choices[-1])
    level = "stop" if least > room * UNSURE else "warn"
    rows_each = choices[-1]["batch_size"]
    what += f" Even {rows_each} row{'s' * (rows_each > 1)} at a time with gradient checkpointing takes {gib(least)}."
    if not full["lora_rank"] and needs(**choices[-1], **LORA) <= room:
        small = next(choice for choice in choices if needs(**choice, **LORA) <= room)
        changed = ", ".join(f"{name} = {value}" for name, value in (LORA | small).items() if value != full[name])
        return Finding(level, "no_memory", what, f"Train an adapter: {changed}.", evidence | {"fits": LORA | small})
    return Finding(level, "no_memory", what, "Use a smaller model, shorter rows or a larger machine.", evidence)


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def no_time(room: Room | None, estimate: Estimate | None) -> Finding | None:
    """A job of unknown length is refused only where no time at all is left: its hours end it."""
    if room is None or (room.free > 0 and (estimate is None or estimate.seconds * MARGIN <= room.free)):
        return None
    needs = f"about {duration(estimate.seconds)} × {MARGIN:g}" if estimate else "an unknown time"
    taken = f" and {duration(room.taken)} may still be used by other jobs" if room.taken else ""
    what = (
        f"The job {TOO_LONG}: it needs {needs}, and {duration(max(0.0, room.left))} are left, "
        f"of which {duration(room.kept)} are kept for the final evaluation{taken}."
    )
    steps = estimate.steps_in(room.free) if estimate else 0
    smaller = "Wait for the other jobs, or finish" if taken else "Finish"
    if steps:
        smaller = f"Use at most {steps} steps, or finish"
    evidence = {"left_s": room.left, "kept_s": room.kept, "taken_s": room.taken, "steps": steps}
    evidence |= {"needs_s": estimate.seconds} if estimate else {}
    return Finding("stop", "no_time", what, f"{smaller} with the best model so far.", evidence)


def few_hours(hours: float | None, estimate: Estimate | None) -> Finding | None:
    """Said of a launch, and before it to a person who is asked."""
    if hours is None or estimate is None or estimate.seconds <= hours * 3600:
        return None
    what = f"The job takes about {duration(estimate.seconds)} and is ended after {duration(hours * 3600)}."
    steps = estimate.steps_in(hours * 3600)
    advice = f"Give it {estimate.seconds * MARGIN / 3600:.2g} hours{f', or at most {steps} steps' if steps else ''}."
    return Finding("warn", "few_hours", what, advice, {"needs_s": estimate.seconds, "hours": hours, "steps": steps})


def odd_learning_rate(config: dict[str, Any]) -> Finding | None:
    lr = config.get("lr")
    if lr is None or LR_RANGE[0] <= lr <= LR_RANGE[1]:
        return None
    what = f"The learning rate is {lr:g}."
    return Finding("warn", "odd_learning_rate", what, "Usual ones lie between 1e-6 and 1e-2.", {"lr": lr})
