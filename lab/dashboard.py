"""Training curves as a Space: Trackio's own page, with the data of a session beside it.

It is a static Space: no server, no cost, no token. Trackio 0.43 makes such Spaces too, but only public ones, from a public
bucket (deploy.sync refuses private=True), because its page asks huggingface.co for the data; a script of ours (near.js)
turns these requests to the Space itself. The tables are those of SQLiteStorage.export_for_static_space, which writes the
time of its call into them: a call after a crash would commit again.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from lab.errors import NotThere
from lab.parcel import ROOT
from lab.upload import Files
from recipes.catalogue import RECIPES
from record.card import settings, space_card
from record.curves import points
from record.events import Event
from record.paths import without_paths
from record.views import Views

SCRIPT = ROOT / "templates" / "curves" / "near.js"
Row = dict[str, Any]


def curve_files(facts: Sequence[Event], views: Views, title: str) -> Files:
    """All files of the Space: a run for each training job, with its settings. Raises NotThere where nothing was logged."""
    runs = {name: job for name, job in views.jobs.items() if job.recipe in RECIPES}
    logged = [(job, step, at, values) for (job, step), (at, values) in points(facts, runs).items() if values]
    if not logged:
        raise NotThere("No job has logged anything yet; publish the curves when one has taken a step.")
    metrics = [
        {**values, "id": n, "timestamp": at.isoformat(), "run_id": job, "run_name": job, "step": step}
        for n, (job, step, at, values) in enumerate(logged, start=1)
    ]
    own: dict[str, list[Row]] = {}
    for row in metrics:
        own.setdefault(row["run_id"], []).append(row)
    about = [
        {"id": name, "name": name, "created_at": min(row["timestamp"] for row in rows), "last_step": rows[-1]["step"], "log_count": len(rows)}
        for name, rows in own.items()
    ]  # fmt: skip
    configs = [
        {"recipe": runs[run["id"]].recipe, **settings(runs[run["id"]])}
        | {"id": n, "run_id": run["id"], "run_name": run["id"], "created_at": run["created_at"]}
        for n, run in enumerate(about, start=1)
    ]
    config = {"mode": "static", "project": title, "version": version("trackio")}
    made = {"config.json": config, "data/runs.json": about, "data/settings.json": {}}
    tables = {"data/metrics.parquet": _table(metrics), "data/aux/configs.parquet": _table(configs)}
    return {**_page(), **tables, **{name: json.dumps(of).encode() for name, of in made.items()}, "README.md": _card(views, title, list(own))}  # fmt: skip


def _page() -> Files:
    """Trackio's page, with our script before its own."""
    spec = find_spec("trackio")
    assert spec and spec.origin, "it is pinned"
    package = Path(spec.origin).parent
    files: Files = {}
    for folder, place in ((package / "frontend" / "dist", ""), (package / "assets", "static/trackio/")):
        files |= {place + str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    page = (package / "frontend" / "dist" / "index.html").read_text()
    ours = page.replace("<head>", '<head>\n    <script src="/near.js"></script>', 1)
    return {**files, "index.html": ours.encode(), "near.js": SCRIPT}


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet. A column that does not hold numbers alone becomes text."""
    from pyarrow import Table, parquet

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    file = BytesIO()
    parquet.write_table(Table.from_pydict(columns), file)
    return file.getvalue()


def _column(values: Sequence[Any]) -> list[Any]:
    if all(value is None or type(value) is int for value in values):
        return list(values)
    if all(value is None or type(value) in (int, float) for value in values):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else without_paths(str(value)) for value in values]


def _card(views: Views, title: str, runs: Sequence[str]) -> bytes:
    what = f"Training curves of {', '.join(f'`{run}`' for run in runs)}, shown by Trackio {version('trackio')}."
    apart = "Page and data are files of this Space: who may see it sees them, and nothing runs."
    return space_card(views, "curves", title, [], [what, apart], sdk="static", emoji="📈").encode()
