"""What a file looks like, made from a bounded part of it: never more than a few MiB are read, however long it is."""

import csv
import io
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import prod
from typing import Any, BinaryIO

from ui.files import Opened

EDGE = 64 * 2**10  # bytes of text shown from the beginning, and as many from the end
WHOLE = 2**20  # bytes of JSON or Markdown that are shown as what they are; longer ones as text
HEAD = 4 * 2**20  # bytes of a table that are read for its first rows
ROWS, COLUMNS, CELL = 100, 40, 300
IMAGE = 8 * 2**20  # bytes
HEADER = 16 * 2**20  # bytes of a safetensors header that we read; the format allows 100 MB
TENSORS = 500
TYPES = 12  # kinds of tensors that a note names
LARGEST = 2**63  # parameters: no file holds a tensor of as many
PARQUET = 256 * 2**20  # bytes, uncompressed, of the row group that is opened
MAGIC = {  # an image is what its first bytes say, whatever its name says
    "image/png": (b"\x89PNG\r\n\x1a\n", 0),
    "image/jpeg": (b"\xff\xd8\xff", 0),
    "image/gif": (b"GIF8", 0),
    "image/webp": (b"WEBP", 8),
}


class Unreadable(Exception):
    """The file is not what its name says: one sentence."""


def preview(opened: Opened) -> dict[str, Any]:
    """The kind of a file and what to show of it, as plain JSON values. `note` says what is left out, or wrong with it."""
    name = opened.name.lower()
    note = ""
    for endings, reader in READERS.items():
        if name.endswith(endings):
            try:
                return reader(opened)
            except Unreadable as error:
                note = str(error)
    if image_type(opened):
        return _image(opened)
    return text(opened) | ({"note": note} if note else {})


def text(opened: Opened) -> dict[str, Any]:
    """The beginning and the end of a text; {"kind": "none"} for anything else."""
    start = _part(opened.file, 0, EDGE)
    if b"\0" in start[:8192]:
        return {"kind": "none"}
    if opened.size <= 2 * EDGE:
        return {"kind": "text", "head": _part(opened.file, 0, opened.size).decode(errors="replace")}
    end = tail(opened, EDGE)
    start = start[: start.rfind(b"\n") + 1] or start  # a key that is cut in two would not be recognised as one
    skipped = opened.size - len(start) - len(end)
    return {
        "kind": "text",
        "head": start.decode(errors="replace"),
        "tail": end.decode(errors="replace"),
        "skipped": skipped,
    }


def tail(opened: Opened, length: int) -> bytes:
    """The last whole lines within `length` bytes."""
    end = _part(opened.file, max(0, opened.size - length), length)
    return end if opened.size <= length else end[end.find(b"\n") + 1 :]


def image_type(opened: Opened) -> str | None:
    """The exact type of a picture that a browser may be given, by its first bytes."""
    start = _part(opened.file, 0, 16)
    return next((kind for kind, (magic, at) in MAGIC.items() if start[at : at + len(magic)] == magic), None)


def _image(opened: Opened) -> dict[str, Any]:
    kind = image_type(opened)
    if kind is None:
        raise Unreadable("It is named as a picture but does not begin as one.")
    if opened.size > IMAGE:
        return {"kind": "none", "note": f"A picture over {IMAGE // 2**20} MiB is not shown."}
    return {"kind": "image", "type": kind}


def _markdown(opened: Opened) -> dict[str, Any]:
    if opened.size > WHOLE:
        raise Unreadable("It is too long to be set; here it is as text.")
    return {"kind": "markdown", "text": _part(opened.file, 0, WHOLE).decode(errors="replace")}


def _json(opened: Opened) -> dict[str, Any]:
    if opened.size > WHOLE:
        raise Unreadable("It is too long to be set; here it is as text.")
    try:
        value = json.loads(_part(opened.file, 0, WHOLE))
        return {"kind": "json", "text": json.dumps(value, indent=2, ensure_ascii=False)}
    except (ValueError, RecursionError) as error:
        raise Unreadable("It is not valid JSON; here it is as text.") from error


def _jsonl(opened: Opened) -> dict[str, Any]:
    lines, whole = _lines(opened)
    try:
        rows = [json.loads(line) for line in islice((line for line in lines if line.strip()), ROWS + 1)]
    except (ValueError, RecursionError) as error:
        raise Unreadable("Not every line is JSON; here it is as text.") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise Unreadable("Its lines are not all objects; here it is as text.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _table(names, [[row.get(name) for name in names] for row in rows], whole)


def _csv(opened: Opened) -> dict[str, Any]:
    lines, whole = _lines(opened)
    try:
        rows = list(islice(csv.reader(lines, delimiter="\t" if opened.name.lower().endswith("tsv") else ","), ROWS + 2))
    except csv.Error as error:
        raise Unreadable("It is not a table; here it is as text.") from error
    if not rows or any("\0" in cell for row in rows for cell in row):
        raise Unreadable("It is not a table; here it is as text.")
    return _table(rows[0], rows[1:], whole)


def _parquet(opened: Opened) -> dict[str, Any]:
    import pyarrow  # only here: it takes 100 MiB of memory
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(opened.file)
        about, schema = table.metadata, table.schema_arrow
        shown = schema.names[:COLUMNS]
        rows = []
        if about.num_row_groups and about.row_group(0).total_byte_size <= PARQUET:
            batch = next(table.iter_batches(batch_size=ROWS, row_groups=[0], columns=shown), None)
            rows = [list(row.values()) for row in batch.to_pylist()] if batch else []
    except (pyarrow.ArrowException, OSError, ArithmeticError, ValueError, KeyError) as error:
        raise Unreadable("It does not read as Parquet.") from error
    made = _table(shown, rows, about.num_rows <= len(rows))
    types = [str(schema.field(i).type)[:CELL] for i in range(len(shown))]
    note = f"{about.num_rows:,} rows, {len(schema.names)} columns" + (
        "" if rows or not about.num_rows else "; its rows are too big to be shown"
    )
    return made | {"types": types, "note": note}


def _safetensors(opened: Opened) -> dict[str, Any]:
    """Names, types and shapes from the header: 8 bytes of length, then JSON (the format's README)."""
    start = _part(opened.file, 0, 8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= opened.size - 8:
        raise Unreadable("It does not read as safetensors.")
    if length > HEADER:
        return {
            "kind": "none",
            "note": f"Its header has {length / 2**20:.0f} MiB; one of up to {HEADER // 2**20} MiB is shown.",
        }
    try:
        header = json.loads(_part(opened.file, 8, length))
        about = list(header.pop("__metadata__", {}).items())
        tensors = [(name, _cell(t["dtype"]), _shape(t["shape"])) for name, t in header.items()]
    except (ArithmeticError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable("It does not read as safetensors.") from error
    types: dict[str, int] = {}
    for _, kind, shape in tensors:
        types[kind] = types.get(kind, 0) + prod(shape)
    rows = [[name, kind, " × ".join(map(str, shape)) or "scalar", f"{prod(shape):,}"] for name, kind, shape in tensors]
    each = ", ".join(f"{count:,} {kind}" for kind, count in islice(types.items(), TYPES))
    said = "".join(f" · {_cell(key)}: {_cell(value)}" for key, value in about[:6])
    note = f"{len(tensors):,} tensors, {sum(types.values()):,} parameters ({each}){said}"
    made = _table(["Tensor", "Type", "Shape", "Parameters"], rows, len(rows) <= TENSORS, TENSORS)
    return made | {"kind": "tensors", "note": note}


def _shape(sizes: list[Any]) -> list[int]:
    """The sizes of a tensor. Raises ValueError for what is none."""
    shape = [int(size) for size in sizes[:TENSORS]]
    if len(sizes) > TENSORS or any(not 0 <= size < LARGEST for size in shape) or prod(shape) >= LARGEST:
        raise ValueError("It is no shape.")
    return shape


def _table(names: Iterable[Any], rows: Sequence[Sequence[Any]], whole: bool, most: int = ROWS) -> dict[str, Any]:
    heads = [_cell(name) for name in names]
    return {
        "kind": "table",
        "columns": heads[:COLUMNS],
        "rows": [[_cell(value) for value in row[:COLUMNS]] for row in rows[:most]],
        "more": len(rows) > most or not whole,
        "columns_left_out": max(0, len(heads) - COLUMNS),
    }


def _cell(value: Any) -> str:
    """A value as short text: no number of Python's is JSON's for every value (NaN, 2**70)."""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    said = "" if value is None else str(value)
    return said if len(said) <= CELL else said[: CELL - 1] + "…"


def _lines(opened: Opened) -> tuple[list[str], bool]:
    """Whole lines of the beginning of a text, and whether that is all of it. A line ends at a line feed only."""
    data = _part(opened.file, 0, HEAD)
    whole = opened.size <= HEAD
    if not whole:
        data = data[: data.rfind(b"\n") + 1]
    return list(io.StringIO(data.decode("utf-8-sig", errors="replace"), newline="\n")), whole


def _part(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


READERS: dict[tuple[str, ...], Callable[[Opened], dict[str, Any]]] = {
    (".md", ".markdown"): _markdown,
    (".json", ".ipynb"): _json,
    (".jsonl", ".ndjson"): _jsonl,
    (".csv", ".tsv"): _csv,
    (".parquet",): _parquet,
    (".safetensors",): _safetensors,
    (".png", ".jpg", ".jpeg", ".webp", ".gif"): _image,
}
