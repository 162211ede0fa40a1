"""Facts as the cards of a published model and of its training rows, in Markdown. Pure. What is not known is said to be unknown.

A number about quality is a sealed held-out score, or is not there. How clean the rows are stands in a Noted fact of the
topic CERTIFICATE, which lab.publish makes from the rows themselves.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from record.events import Event, Published, Scored
from record.paths import without_paths
from record.report import as_table, cell, driven_by
from record.views import Job, Views
from record.words import dataset_of, duration, task_text

CERTIFICATE = "contamination"  # topic of the note
TAG = "ml-intern"  # on every card
# And one of its kind: what carries it may be written over by a later one of that kind, and by nothing else.
KINDS = {kind: f"{TAG}-{kind}" for kind in ("model", "report", "space", "demo", "curves")} | {"dataset": f"{TAG}-data"}
PIPELINES = {"reward": "text-classification", "prm": "token-classification"}
GIVEN = ("chatml", "plain")  # chat templates of ours, by their names in recipes.template
LONGEST = 60  # columns of a schema that are shown
# Settings that name files and services of the machine.
OF_A_MACHINE = ("data", "model", "teacher", "script", "trackio_project", "trackio_run")


def lineage(views: Views, model: str) -> list[Job]:
    """The jobs that made a model, the first one first: each began with the model of the one before."""
    stages = [views.jobs[model]]
    while before := next((job for job in views.jobs.values() if _made(job, stages[0]) and job not in stages), None):
        stages.insert(0, before)
    return stages


def _made(job: Job, later: Job) -> bool:
    return Path(str(later.config.get("model", ""))).parts[-3:] == (*Path(job.folder).parts, "model")


def base_model(views: Views) -> tuple[str | None, str]:
    """The base model's id on the Hub, None where it has none; and how it is called in a sentence."""
    name = views.goal.model
    if name == "starter":
        return None, "ML Intern's starter model, which its repository makes (0.9M parameters, not on the Hub)"
    if Path(name).is_absolute():
        return None, f"a model in a folder of the machine it was made on (`{Path(name).name}`), of no known Hub id"
    return name, f"[{name}](https://huggingface.co/{name})"


def settings(job: Job) -> dict[str, Any]:
    """A job's settings as others may use them: without files and services of the machine that it ran on."""
    return {name: value for name, value in job.config.items() if name not in OF_A_MACHINE}


def model_card(facts: Sequence[Event], model: str, title: str, weights: Sequence[str], pictured: bool) -> str:
    """The README of a model's repository. `weights` are names of its files; `pictured` says that curves.png is one."""
    from huggingface_hub import ModelCardData

    views = Views(facts)
    stages, (base, _), score = lineage(views, model), base_model(views), views.score(model, "heldout")
    adapter = "adapter_config.json" in weights and not any(name.startswith("model") for name in weights)
    rows = _rows_repo(facts)
    metadata = ModelCardData(
        base_model=base, eval_results=[_result(score)] if score else None, model_name=title if score else None,
        datasets=[rows[0]] if rows else None, metrics=[score.metric] if score else None, tags=_tags("model", views, stages),
        library_name="peft" if adapter else "transformers", pipeline_tag=PIPELINES.get(stages[-1].recipe, "text-generation"),
    )  # fmt: skip
    if base:
        metadata["base_model_relation"] = "adapter" if adapter else "finetune"
    parts = [
        f"# {title}",
        _summary(views, stages),
        _scores(views, model, score),
        _lineage(views, stages),
        _data(facts, views, stages),
        _certificate(views, stages, score),
        f"## Recipe\n\n{_recipe(stages)}",
        "## Curves\n\n![Training curves](curves.png)" if pictured else "",
        _cost(views, facts, stages),
        _provenance(views, facts),
    ]
    return _joined(metadata, parts)


def _result(score: Scored) -> Any:
    """A score as the Hub reads it."""
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-generation", dataset_type=_task_id(score.benchmark), dataset_name=_task_id(score.benchmark),
        dataset_split=score.split, metric_type=score.metric, metric_value=score.value,
        metric_name=f"{score.metric}, sealed held-out items",
        dataset_revision=(dataset_of(score.benchmark) or ("", ""))[1] or None,
        metric_args={"n": score.n, "low": score.low, "high": score.high, "interval": "Wilson 95 %"},
    )  # fmt: skip


def dataset_card(
    facts: Sequence[Event], model: str, title: str, files: Mapping[str, str], schema: Mapping[str, Mapping[str, str]]
) -> str:
    """The README of the rows that a model was trained on. `files`: job -> file; `schema`: file -> column -> its types."""
    from huggingface_hub import DatasetCardData

    views = Views(facts)
    stages = lineage(views, model)
    names = list(dict.fromkeys(files.values()))
    configs = [{"config_name": Path(name).stem, "data_files": [{"split": "train", "path": name}]} for name in names]
    metadata = DatasetCardData(pretty_name=title, tags=_tags("dataset", views, stages), configs=configs)
    columns = [(f"`{name}`", f"`{c}`", kind) for name in names for c, kind in list(schema[name].items())[:LONGEST]]
    parts = [
        f"# {title}",
        f"The rows that `{model}` was trained on for the task {_task(views.goal.task)}, as the trainer read them.",
        f"## Schema\n\n{as_table('file | column | type', columns)}",
        _data(facts, views, stages),
        _certificate(views, stages, views.score(model, "heldout")),
        "## Licence\n\nNone is declared: what the rows were made from decides, and nobody has checked it.",
        _provenance(views, facts),
    ]
    return _joined(metadata, parts)


def report_card(facts: Sequence[Event], text: str) -> str:
    """The README of a published report, which is `text`."""
    from huggingface_hub import DatasetCardData

    return _joined(DatasetCardData(tags=_tags("report", Views(facts), ()), viewer=False), [text])


def space_card(views: Views, kind: str, title: str, models: Sequence[str], parts: Sequence[str], **more: Any) -> str:
    """The README of a Space that shows `models`; `more` is what it runs on."""
    from huggingface_hub import SpaceCardData

    tags = _tags(kind, views, ()) + (["trackio"] if kind == "curves" else [])
    metadata = SpaceCardData(title=title, models=list(models) or None, tags=tags, **more)
    made = f"Made in session `{views.opened.session if views.opened else ''}` of ML Intern."
    return _joined(metadata, [f"# {title}", *parts, made])


def _joined(metadata: Any, parts: Sequence[str]) -> str:
    text = "\n\n".join(part.strip() for part in parts if part)
    return without_paths(f"---\n{metadata.to_yaml()}\n---\n\n{text}\n")


def _summary(views: Views, stages: Sequence[Job]) -> str:
    how = ", then ".join(dict.fromkeys(job.recipe for job in stages))
    return (
        f"Made from {base_model(views)[1]} by {how}, for the task {_task(views.goal.task)}, in a session of ML Intern "
        f"driven by {driven_by(views)}."
    )


def _scores(views: Views, model: str, score: Scored | None) -> str:
    if score is None:
        return "## Score\n\nThis model has no sealed score on held-out items. Nothing is claimed of how good it is."
    base, rows = views.score("base", "heldout"), []
    for name, one in (("base model", base), ("**this model**", score)):
        if one and (one.seal.judge, one.seal.split) == (score.seal.judge, score.seal.split):
            interval = f"{one.low:.3f} to {one.high:.3f}"
            rows.append((name, f"{one.value:.3f}", interval, f"{one.value * one.n:g}", one.n))
    alone = "" if len(rows) == 2 else "\n\nThe base model was not measured by the same judge on the same items."
    seal = f"judge `{score.seal.judge}`, items `{score.seal.split}`, model `{score.seal.model}`"
    scores = as_table(f"model | {score.metric} | 95 % Wilson interval | right | n", rows)
    return (
        f"## Score\n\n{scores}{alone}\n\nHeld-out items of the task {_task(score.benchmark)}, which chose nothing: "
        f"candidates were compared on other items. The score belongs to these very files; sha256 of its {seal}."
    )


def _lineage(views: Views, stages: Sequence[Job]) -> str:
    base, called = base_model(views)
    known = ", ".join(f"`{revision}`" for revision in base_revisions(views)) or "not recorded"
    lines = [f"1. {called}, revision {known}" if base else f"1. {called}"]
    for place, job in enumerate(stages, start=2):
        teacher = f", with `{_called(job.config['teacher'])}` as its teacher" if job.config.get("teacher") else ""
        given = job.ended.result.get("template") if job.ended else None
        template = f", given the chat template `{given}`" if given in GIVEN else ""  # its trainer may say anything
        idea = f": {cell(job.idea)}" if job.idea else ""
        lines.append(f"{place}. `{job.id}` ({job.recipe}, {job.step} steps{teacher}{template}){idea}")
    return "## Lineage\n\n" + "\n".join(lines)


def base_revisions(views: Views) -> list[str]:
    """The base model's commits on the Hub, where a job had it mounted, or was given it as a folder of the Hub's cache."""
    model = views.goal.model
    folder = f"models--{model.replace('/', '--')}/snapshots/"
    paths = (str(job.config.get("model", "")).partition(folder)[2][:40] for job in views.jobs.values())
    mounted = (job.revisions.get(model) for job in views.jobs.values())
    return list(dict.fromkeys(filter(None, (*mounted, *paths))))


def published(where: str) -> tuple[str, str] | None:
    """Repository and commit of a Published fact's place; None where that is not on the Hub."""
    found = re.search(r"/([^/]+/[^/]+)/commit/(\w+)$", where)
    return (found[1], found[2]) if found else None


def _called(model: str) -> str:
    """The name of a model that a job was given as a path: a job's, one of the Hub's cache, or a Hub id."""
    if cached := re.search(r"/models--([^/]+)/snapshots/", model):
        return cached[1].replace("--", "/")
    path = Path(model)
    return model if not path.is_absolute() else path.parent.name if path.name == "model" else path.name


def _data(facts: Sequence[Event], views: Views, stages: Sequence[Job]) -> str:
    """Files, rows and hashes of what each stage was trained on, and where the rows came from."""
    noted = {n.details["sha256"]: n.details for n in views.notes if n.topic == "data" and "sha256" in n.details}
    checked, rows = _checked(views).get("stages", {}), []
    for job in stages:
        digest = str(job.config.get("data_sha256", ""))
        made = noted.get(digest, {})
        count = checked.get(job.id, {}).get("rows") or made.get("rows") or "unknown"
        file = f"`{made['file']}`" if made else "unknown"
        rows.append((job.id, file, count, f"`{digest or 'unknown'}`", _source(made, views)))
    text = f"## Data\n\n{as_table('stage | file | rows | sha256 | made from', rows)}"
    if repo := _rows_repo(facts):
        text += f"\n\nThe rows are published as [{repo[0]}](https://huggingface.co/datasets/{repo[0]}), revision `{repo[1]}`."
    return text


def _source(made: Mapping[str, Any], views: Views) -> str:
    if not made:
        return "written by the driver; not recorded"
    own, task = "the person's own rows", f"the training split of {_task(views.goal.task)}"
    source = made.get("source") or ("own" if made.get("worked_share") is None else "")
    words = {"own": own, "task": task, "both": f"{own}, and {task}"}.get(source, "not recorded")
    data = dataset_of(views.goal.task)
    return f"{words}, revision not recorded" if source != "own" and data and not data[1] else words


def _certificate(views: Views, stages: Sequence[Job], score: Scored | None) -> str:
    """What was looked for in what, how, and what was found."""
    about, rows = _checked(views), []
    if not about:
        return "## Contamination\n\nThe rows were not compared with the evaluation's items for this card."
    for job in stages:
        one = about["stages"].get(job.id, {"why": "not looked at"})
        found = one["why"] if "why" in one else f"{one['hits']} of {one['rows']} rows"
        rows.append((job.id, found, one.get("script_hits", "no script")))
    items = " and ".join(f"{about['items'][split]} {split}" for split in ("dev", "heldout"))
    same = score and about["sha256"]["heldout"] == score.seal.split
    which = "; the held-out ones are those of the score above" if same else ""
    return (
        f"## Contamination\n\n{as_table('stage | rows with an evaluation item | items in its script', rows)}\n\n"
        f"Every row was compared with {items} questions ({_task(about['task'])}{which}), as a whole question, or in prose "
        f"any {about['ngram']} words in a row that are an item's own. Before its launch a job with more than "
        f"{about['tolerated']} such rows is refused. This finds copies, not paraphrases or translations, and says "
        "nothing of what the base model was trained on."
    )


def _recipe(stages: Sequence[Job]) -> str:
    rows = [
        (job.id, job.recipe, f"`{name}`", cell(str(value))) for job in stages for name, value in settings(job).items()
    ]
    return f"{as_table('stage | recipe | setting | value', rows)}\n\nWhat is not named has its default; `recipe.json` is the same for programs."


def _cost(views: Views, facts: Sequence[Event], stages: Sequence[Job]) -> str:
    """Of the model, and of the whole session that found it."""
    spent, at = views.spent, facts[-1].at
    jobs = sum(job.dollars(job.seconds) for job in stages)
    unknown = any(job.price is None for job in stages)
    price = "unknown" if unknown else f"${jobs:.2f}" if jobs else "$0.00 (its machine counts as free)"
    machine = ", ".join(dict.fromkeys(job.machine for job in stages))
    unpriced = f", and {spent.unpriced} model calls of unknown price" if spent.unpriced else ""
    free = ", and jobs of unknown price" if any(job.price is None for job in views.jobs.values()) else ""
    rows = [
        ("training this model", duration(sum(job.seconds for job in stages)), price),
        (
            "all jobs of the session",
            duration(spent.job_seconds),
            f"${spent.dollars:.2f} with model calls{unpriced}{free}",
        ),
    ]
    clock = duration(views.elapsed_s(at))
    return f"## Cost\n\n{as_table('what | run time | dollars', rows)}\n\nMachine: {machine}. Wall clock of the session: {clock}."


def _provenance(views: Views, facts: Sequence[Event]) -> str:
    opened = views.opened
    assert opened, "a session's first fact is Opened"
    return (
        f"## How this was made\n\nSession `{opened.session}` of ML Intern, opened {opened.at:%Y-%m-%d %H:%M} UTC, seed "
        f"{opened.seed}, driven by {driven_by(views)}. Everything here is folded from its log, up to fact {facts[-1].seq}."
    )


def _checked(views: Views) -> dict[str, Any]:
    """What the latest certificate says; {} where there is none."""
    return next((note.details for note in reversed(views.notes) if note.topic == CERTIFICATE and note.details), {})


def _rows_repo(facts: Sequence[Event]) -> tuple[str, str] | None:
    """Name and commit of the training rows where they were published."""
    where = [fact.where for fact in facts if isinstance(fact, Published) and fact.what == "dataset"]
    return published(where[-1]) if where else None


def _tags(kind: str, views: Views, stages: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys([TAG, KINDS[kind], _task_id(views.goal.task), *(job.recipe for job in stages)]))


def _task_id(task: str) -> str:
    """A task as a dataset id: of the Hub where it is one, else the benchmark's name without a path."""
    kind, data = task.partition(":")[0], dataset_of(task)
    return data[0] if data else kind if kind == "table" else task


def _task(task: str) -> str:
    """With a Hub dataset's commit, and without a file's folder."""
    kind, _, source = task.partition(":")
    return f"`{kind}:{Path(source).name}`" if kind == "table" and not dataset_of(task) else task_text(task)
