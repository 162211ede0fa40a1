"""Put a model, its rows, the report, a demo or curves on the Hub: made from facts, private unless the person says public.

Everything here may be called again. What is there already is not committed twice, so a call after a crash only writes
down the fact that is missing; what has changed since becomes one more commit.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lab.dashboard import curve_files
from lab.demo import ABOUT, demo_files, mount
from lab.errors import BadInput, LabError, NotThere, Refused
from lab.grade import wilson
from lab.hub import Hub
from lab.integrity import NGRAM
from lab.preflight import TOLERATED
from lab.tasks import SIZES, Vault, read_rows
from lab.upload import Files, Kind, asked, put
from recipes.catalogue import RECIPES
from recipes.seal import MODEL_SUFFIXES, NOT_THE_MODEL, file_hash, model_hash
from record.card import CERTIFICATE, KINDS, dataset_card, lineage, model_card, report_card, settings
from record.curves import curves
from record.events import Closed, Ended, Event, Found, Noted, Promoted, Published, Scored
from record.journal import Journal
from record.paths import without_paths
from record.report import report
from record.views import Job, Views
from record.words import dataset_of

What = Literal["model", "dataset", "report", "demo", "curves"]
PLACES: dict[What, Kind] = {  # what kind of repository each goes to
    "model": "model", "dataset": "dataset", "report": "dataset", "demo": "space", "curves": "space",
}  # fmt: skip
SDKS = {"demo": "gradio", "curves": "static"}
RESULTS = (Scored, Promoted, Ended, Noted, Found, Closed)  # kinds of facts that a publication is made of
ENDINGS = {"model": "", "dataset": "-data", "report": "-report", "demo": "-demo", "curves": "-curves"}
CODE = ("recipes/", "assets/", "static/trackio/")  # folders of a Space that are the same for everybody


class Press:
    """What publishes things of one session."""

    def __init__(self, journal: Journal, session: Path, vault: Vault, hub: Hub, find: Callable[[str], Path | str]):
        """`session` is its folder; `find` says where a model's files are, and raises NotThere (Lab.model_path)."""
        self._journal = journal
        self._session = session
        self._vault = vault
        self._hub = hub
        self._find = find

    def publish(self, what: What, model: str, to: str, public: bool) -> dict[str, Any]:
        """Make or update a repository, and say where it is.

        Args:
            model: "best", or the job that trained it.
            to: "user/name", "name" of the person's own, or "" for a name made from base model, task and session.

        Raises:
            BadInput: Something that cannot be published, or a name that cannot be.
            Refused: Files or items are not those that were measured; or the Hub says no.
            NotThere: The model or its rows are gone.
            LabError: There is no token, or the Hub cannot be reached.
        """
        makers = {"model": self._model, "dataset": self._dataset, "report": self._report, "curves": self._curves}
        if what not in PLACES:
            raise BadInput(f"{what!r} cannot be published; publish one of {', '.join(PLACES)}.")
        name = self._journal.views.best if model == "best" else model
        job, of_a_model = self._journal.views.jobs.get(name), what not in ("report", "curves")
        if of_a_model and (job is None or job.recipe not in RECIPES):
            raise BadInput(f"{name!r} is no model that this session has trained; publish one of its jobs' models.")
        api = self._hub.writer()
        if what in ("model", "dataset"):
            self._certify(lineage(self._journal.views, name))
        facts = until_last_result(self._journal.log[:])
        repo = asked(f"the name {to!r}", lambda: _full_name(api, to or _default_name(Views(facts), what)))
        title = repo.partition("/")[2]
        files = self._demo(name, title, api, public) if what == "demo" else makers[what](facts, name, title)
        kind, about, done = PLACES[what], f"{what} {repo}", f"{what.capitalize()} of session {self._session.name}"
        more = {"space_sdk": SDKS[what]} if what in SDKS else {}
        commit, private = asked(about, lambda: put(api, repo, kind, files, done, _replaced, KINDS[what], **more))
        if what == "demo":
            asked(f"the mounts of {repo}", lambda: mount(api, repo, files[ABOUT], private))
        where = f"{api.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo}/commit/{commit}"
        fact = Published(what=what, where=where, model=name if of_a_model else "")
        told = (one for one in self._journal.log if isinstance(one, Published))
        if not any((one.what, one.where, one.model) == (fact.what, fact.where, fact.model) for one in told):
            self._journal.append(fact)
        if public and private:
            opening = f"to make {repo} public, which is there and private"
            asked(opening, lambda: api.update_repo_settings(repo, repo_type=kind, private=False))
        made = sorted(name for name in files if not name.startswith(CODE))
        return {"published": what, "where": where, "private": private and not public, "files": made}

    def _model(self, facts: Sequence[Event], name: str, title: str) -> Files:
        """The very files that were measured, the card, the report, the recipe and the curves."""
        views, folder = Views(facts), self._find(name)
        assert isinstance(folder, Path), "a job's model is a folder"
        weights = {file.name: file for file in sorted(folder.iterdir()) if _of_model(file)}
        self._check(views, name, folder)
        stages = lineage(views, name)
        recipe = [{"stage": job.id, "recipe": job.recipe, "settings": settings(job)} for job in stages]
        picture = curves(facts, [job.id for job in stages])
        card = model_card(facts, name, title, list(weights), picture is not None)
        made = {"README.md": card, "REPORT.md": _report_text(facts), "recipe.json": json.dumps(recipe, indent=1)}
        return {**weights, **_bytes(made), **({"curves.png": picture} if picture else {})}

    def _dataset(self, facts: Sequence[Event], name: str, title: str) -> Files:
        """The rows of every stage, those of the same content once."""
        rows: dict[str, Path] = {}
        files: dict[str, str] = {}
        for job in lineage(Views(facts), name):
            file = self._rows(job)
            known = next((path for path, other in rows.items() if file_hash(other) == file_hash(file)), None)
            files[job.id] = known or f"data/{job.id}.jsonl"
            rows.setdefault(files[job.id], file)
        schema = {path: _schema(read_rows(file)) for path, file in rows.items()}
        return {**rows, **_bytes({"README.md": dataset_card(facts, name, title, files, schema)})}

    def _report(self, facts: Sequence[Event], name: str, title: str) -> Files:
        return _bytes({"README.md": report_card(facts, _report_text(facts))})

    def _demo(self, name: str, title: str, api: Any, public: bool) -> Files:
        told = [fact for fact in self._journal.log if isinstance(fact, Published) and fact.what == "model"]
        return demo_files(self._journal.views, {fact.model: fact.where for fact in told}, name, title, api, public)

    def _curves(self, facts: Sequence[Event], name: str, title: str) -> Files:
        return curve_files(self._journal.log[:], self._journal.views, title)

    def _rows(self, job: Job) -> Path:
        """The rows that a job was checked and trained with. Raises NotThere, Refused."""
        file = self._session / job.folder / "data.jsonl"
        if file.is_symlink() or not file.is_file():
            raise NotThere(f"The rows of {job.id} are not in {job.folder}/data.jsonl; there is nothing to publish.")
        if file_hash(file) != job.config.get("data_sha256"):
            raise Refused(f"The rows of {job.id} have changed since its launch; they are not what it was trained on.")
        return file

    def _check(self, views: Views, name: str, folder: Path) -> None:
        """Raise Refused unless the model's files and the items behind its score and its base's are those that were sealed."""
        score = views.score(name, "heldout") or views.score(name, "dev")
        if score and model_hash(folder) != score.seal.model:
            raise Refused(f"The files of {name} have changed since they were measured; measure or train it again.")
        for one in (views.score("base", "heldout"), views.score(name, "heldout")):
            if one:
                self._recount(views, one)

    def _recount(self, views: Views, score: Scored) -> None:
        """Value, n and interval again, from the items. Raises Refused where they differ."""
        file, ended = self._session / score.items, views.jobs[score.job].ended
        rows = read_rows(file)
        n, right = len(rows), sum(float(row["correct"]) for row in rows)
        interval = wilson(right, n)
        again = (right / n, interval.low, interval.high, n) == (score.value, score.low, score.high, score.n)
        if not again or not ended or file_hash(file) != ended.result.get("items_sha256"):
            what = f"The items of {score.model} on {score.split} are not those that were scored"
            raise Refused(f"{what}; measure it again.")

    def _certify(self, stages: Sequence[Job]) -> None:
        """Look for every evaluation item in the rows of each stage, and note what was found; once while nothing changes."""
        task = self._journal.views.goal.task
        try:
            index = self._vault.index(task)
        except LabError:  # the person's own questions are gone: nothing to compare with
            return
        items = {split: self._vault.items(task, split) for split in SIZES}
        checked: dict[str, dict[str, Any]] = {}
        for job in stages:
            try:
                rows = read_rows(self._rows(job))
            except LabError as error:
                checked[job.id] = {"why": str(error)}
                continue
            texts = [RECIPES[job.recipe].SHAPE.model_validate(row).plain(False) for row in rows]
            hits = sum(bool(index.hits(f"{text['prompt']} {text['completion']}")) for text in texts)
            checked[job.id] = {"rows": len(rows), "hits": hits}
            if (script := self._session / job.folder / "script.py").is_file():
                checked[job.id] |= {"script_hits": len(index.hits(script.read_text(errors="replace")))}
        details = {"task": task, "stages": checked, "ngram": NGRAM, "tolerated": TOLERATED}
        details |= {"items": {split: len(read_rows(file)) for split, file in items.items()}}
        details |= {"sha256": {split: file_hash(file) for split, file in items.items()}}
        if not any(note.topic == CERTIFICATE and note.details == details for note in self._journal.views.notes):
            text = f"Looked for evaluation items in the rows of {', '.join(checked)}."
            self._journal.append(Noted(topic=CERTIFICATE, text=text, details=details))


def until_last_result(facts: Sequence[Event]) -> list[Event]:
    """The facts up to the last that a publication is made of: those about publishing itself would change it each time."""
    last = max((n for n, fact in enumerate(facts) if isinstance(fact, RESULTS)), default=0)
    ours = [fact for fact in facts[last + 1 :] if isinstance(fact, Published) and fact.what == "dataset"]
    return [*facts[: last + 1], *ours]


def _of_model(file: Path) -> bool:
    """Whether it is one of the files that a seal covers. A trainer made the folder: a link may lead anywhere."""
    kept = file.suffix in MODEL_SUFFIXES and file.name not in NOT_THE_MODEL
    if kept and (file.is_symlink() or not file.is_file()):
        raise Refused(f"{file.name} of the model is a link or no file; train it again.")
    return kept


def _report_text(facts: Sequence[Event]) -> str:
    """The report without links to files that stay here."""
    return without_paths(re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", report(facts)))


def _schema(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The types that each column has."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).add(type(value).__name__)
    return {name: " or ".join(sorted(found)) for name, found in kinds.items()}


def _bytes(texts: Mapping[str, str]) -> Files:
    return {name: text.encode() for name, text in texts.items()}


def _default_name(views: Views, what: What) -> str:
    session = views.opened.session.rpartition("-")[2] if views.opened else ""
    kind, _, file = views.goal.task.partition(":")
    source, _ = dataset_of(views.goal.task) or (file, "")
    parts = (Path(views.goal.model).name, Path(source).stem if source else kind, session)
    return re.sub(r"[^\w.-]+|--+|\.\.+", "-", "-".join(parts))[: 96 - len("-report")].strip("-.") + ENDINGS[what]


def _full_name(api: Any, to: str) -> str:
    name = to if "/" in to else f"{api.whoami()['name']}/{to}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise BadInput(f"The name {to!r} cannot be a repository; give one like user/name.")
    return name


def _replaced(name: str) -> bool:
    """Whether a file of an earlier publication would be taken for a part of this one. A person's other files stay."""
    return name.startswith(("data/", *CODE)) or ("/" not in name and Path(name).suffix in MODEL_SUFFIXES)
