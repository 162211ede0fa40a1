"""The dataset viewer, at `{hub.url}/datasets-server`: splits, rows, sizes and parquet of parquet, JSON Lines, JSON and CSV files.

Splits are read off the card's `configs`, else off file names. Nothing is cached, truncated or converted ahead of time.
"""

import hashlib
import io
import json
from collections.abc import Callable
from fnmatch import fnmatch

import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import readable
from tests.hub.repos import front_matter
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Repo

MOST = 100  # rows of one answer
Splits = dict[tuple[str, str], list[str]]  # (config, split) -> paths


def _json(data: bytes) -> pyarrow.Table:
    return pyarrow.Table.from_pylist(json.loads(data))


READERS: dict[str, Callable[[bytes], pyarrow.Table]] = {
    "parquet": lambda data: pyarrow.parquet.read_table(io.BytesIO(data)),
    "jsonl": lambda data: pyarrow.json.read_json(io.BytesIO(data)),
    "json": _json,
    "csv": lambda data: pyarrow.csv.read_csv(io.BytesIO(data)),
}


def _kind(path: str) -> str:
    return path.rpartition(".")[2]


def splits_of(files: dict[str, bytes]) -> Splits:
    """Which files make up which split."""
    paths, found = [path for path in files if _kind(path) in READERS], Splits()
    card = front_matter(files.get("README.md", b"").decode(errors="replace"))
    for config in card.get("configs") or []:
        given = config.get("data_files", [])
        rows = given if isinstance(given, list) else [given]
        for row in rows:
            split, wanted = (row["split"], row["path"]) if isinstance(row, dict) else ("train", row)
            patterns = wanted if isinstance(wanted, list) else [wanted]
            chosen = [path for path in paths if any(fnmatch(path, pattern) for pattern in patterns)]
            found.setdefault((config.get("config_name", "default"), split), []).extend(chosen)
    if found:
        return found
    for path in paths:
        split = next((name for name in ("test", "validation", "train") if name in path.lower()), "train")
        found.setdefault(("default", split), []).append(path)
    return dict(sorted(found.items()))


def _feature(kind: pyarrow.DataType) -> dict | list:
    """An arrow type as `datasets` writes it."""
    if pyarrow.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}


def _column(name: str, column: pyarrow.ChunkedArray) -> dict:
    about: dict = {"nan_count": column.null_count, "nan_proportion": column.null_count / max(1, len(column))}
    kind = column.type
    if pyarrow.types.is_string(kind):
        about |= {"n_unique": len(column.unique())}
        column, what = pyarrow.compute.utf8_length(column), "string_text"
    elif pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        what = "int" if pyarrow.types.is_integer(kind) else "float"
    else:
        return {
            "column_name": name,
            "column_type": "list" if "list" in str(kind) else str(kind),
            "column_statistics": about,
        }
    for one in ("min", "max", "mean"):
        about[one] = getattr(pyarrow.compute, one)(column).as_py()
    return {"column_name": name, "column_type": what, "column_statistics": about}


class Viewed:
    """What a request asks about."""

    def __init__(self, hub: Hub, request: Request):
        query = request.query_params
        self.id, self.hub = query.get("dataset", ""), hub
        if self.id.count("/") != 1:
            raise Refusal(422, "Parameter 'dataset' is required")
        request.path_params["ns"], _, request.path_params["name"] = self.id.partition("/")
        self.repo: Repo = readable(hub, request, "dataset")
        self.files = hub.repos.files("dataset", self.id)
        self.splits = splits_of(self.files)
        self.config, self.split = query.get("config", "default"), query.get("split", "train")

    def names(self, config: str, split: str) -> dict:
        return {"dataset": self.id, "config": config, "split": split}

    def table(self, config: str, split: str) -> pyarrow.Table:
        """Raises Refusal: not there, or not to be read."""
        if (paths := self.splits.get((config, split))) is None:
            raise Refusal(404, "The split or the config does not exist.", "SplitNotFoundError")
        try:
            tables = [READERS[_kind(path)](self.files[path]) for path in paths]
            return pyarrow.concat_tables(tables, promote_options="default")
        except (pyarrow.ArrowException, ValueError) as error:
            raise Refusal(500, f"The dataset generation failed: {error}", "DatasetGenerationError") from error

    def rows(self, first: int, count: int, wanted: str = "") -> dict:
        table = self.table(self.config, self.split)
        kinds = [
            {"feature_idx": n, "name": field.name, "type": _feature(field.type)} for n, field in enumerate(table.schema)
        ]
        at = [n for n, row in enumerate(table.to_pylist()) if _says(row, wanted)] if wanted else range(table.num_rows)
        some = at[first : first + count]
        told = zip(some, table.take(list(some)).to_pylist(), strict=True) if some else []
        shown = [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in told]
        return {"features": kinds, "rows": json.loads(json.dumps(shown, default=str)), "num_rows_total": len(at)}


def _says(row: dict, wanted: str) -> bool:
    """The Hub ranks words by BM25; here a text has to hold them as they are."""
    return any(wanted.lower() in value.lower() for value in row.values() if isinstance(value, str))


def _parquet(table: pyarrow.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def _size(viewed: Viewed, config: str, split: str) -> dict:
    table = viewed.table(config, split)
    about = {"num_rows": table.num_rows, "num_columns": table.num_columns, "num_bytes_memory": table.nbytes}
    return viewed.names(config, split) | about | {"num_bytes_parquet_files": len(_parquet(table))}


def _answers(hub: Hub) -> dict[str, Callable[[Request, Viewed], dict]]:
    def valid(_: Request, viewed: Viewed) -> dict:
        return dict.fromkeys(("preview", "viewer", "search", "statistics"), bool(viewed.splits)) | {"filter": False}

    def splits(_: Request, viewed: Viewed) -> dict:
        return {"splits": [viewed.names(*key) for key in viewed.splits], "pending": [], "failed": []}

    def first(_: Request, viewed: Viewed) -> dict:
        found = viewed.rows(0, MOST)
        del found["num_rows_total"]
        return viewed.names(viewed.config, viewed.split) | found | {"truncated": False}

    def rows(request: Request, viewed: Viewed) -> dict:
        offset, length = (int(request.query_params.get(name, n)) for name, n in (("offset", 0), ("length", MOST)))
        if not 0 <= length <= MOST or offset < 0:
            raise Refusal(422, f"Parameter 'length' must not be greater than {MOST}")
        found = viewed.rows(offset, length, request.query_params.get("query", ""))
        return found | {"num_rows_per_page": MOST, "partial": False}

    def size(_: Request, viewed: Viewed) -> dict:
        each = [_size(viewed, *key) for key in viewed.splits]
        summed = {
            name: sum(one[name] for one in each) for name in ("num_rows", "num_bytes_memory", "num_bytes_parquet_files")
        }
        whole = {"dataset": {"dataset": viewed.id} | summed, "splits": each}
        return {"size": whole, "pending": [], "failed": [], "partial": False}

    def parquet(_: Request, viewed: Viewed) -> dict:
        at = f"{hub.url}/datasets/{viewed.id}/resolve/refs%2Fconvert%2Fparquet"
        found = [
            viewed.names(config, split) | {
                "url": f"{at}/{config}/{split}/0000.parquet", "filename": "0000.parquet",
                "size": len(_parquet(viewed.table(config, split))),
            }
            for config, split in viewed.splits
        ]  # fmt: skip
        return {"parquet_files": found, "pending": [], "failed": [], "partial": False}

    def statistics(_: Request, viewed: Viewed) -> dict:
        table = viewed.table(viewed.config, viewed.split)
        columns = [_column(name, table.column(name)) for name in table.column_names]
        return {"num_examples": table.num_rows, "statistics": columns, "partial": False}

    named = {"is-valid": valid, "first-rows": first, "search": rows}
    return named | {one.__name__: one for one in (splits, rows, size, parquet, statistics)}


def routes(hub: Hub) -> list[Route]:
    def told(answer: Callable[[Request, Viewed], dict]) -> Callable[[Request], Response]:
        def tell(request: Request) -> Response:
            viewed = Viewed(hub, request)
            oid = hub.repos.resolve(viewed.repo, "main")
            return JSONResponse(answer(request, viewed), headers={"x-revision": oid})

        return tell

    def converted(request: Request) -> Response:
        id = f"{param(request, 'ns')}/{param(request, 'name')}"
        request.scope["query_string"] = f"dataset={id}".encode()
        table = Viewed(hub, request).table(param(request, "config"), param(request, "split"))
        data = _parquet(table)
        name = hashlib.sha1(data).hexdigest()
        return Response(
            data, headers={"etag": f'"{name}"', "x-repo-commit": name}, media_type="application/octet-stream"
        )

    at = "/datasets/{ns}/{name}/resolve/refs%2Fconvert%2Fparquet/{config}/{split}/0000.parquet"
    return [
        Route(at, converted),
        *(Route(f"/datasets-server/{name}", told(answer)) for name, answer in _answers(hub).items()),
    ]
