"""Files of predictions, `.csv`, `.jsonl` or `.parquet`: id, every score and the chosen labels of each item."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.errors import UserError
from semilearn_bbam.util.files import write_atomically

SUFFIXES = (".csv", ".jsonl", ".parquet")
SEPARATOR = ";"
OWN = ("id", "labels", "problem")
PART = 65_536  # rows of a Parquet row group


@dataclass(frozen=True)
class Row:
    """An item: id, values [K] (empty where it cannot be read), chosen labels, and what is wrong with it."""

    id: str
    values: Sequence[float]
    labels: Sequence[str]
    problem: str = ""


def score_columns(label_names: Sequence[str]) -> list[str]:
    """The columns of the scores: the names of the labels, with ` (score)` where a column has another meaning.

    Example:
        >>> score_columns(["dog", "id"])
        ['dog', 'id (score)']
    """
    taken = {*OWN, *label_names}
    columns = []
    for name in label_names:
        column = name
        while column in OWN or (column != name and column in taken):
            column = f"{column} (score)"
        columns.append(column)
    return columns


def check_suffix(out: Path) -> None:
    """UserError for a file of another form, and for Parquet without its package."""
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"--out: '{out}' does not end in {', '.join(SUFFIXES)}; rename it")
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--out: '{out}' needs pyarrow; pip install 'semilearn-bbam[parquet]', or write a .csv"
            ) from error


def write_predictions(out: Path, label_names: Sequence[str], rows: Iterable[Row], *, append: bool = False) -> None:
    """Write a file, whole or not at all.

    Args:
        out: its suffix decides on the form.
        label_names: [K].
        rows: in order; they are read once, so that their number does not matter.
        append: put them after the rows that the file has.

    Raises:
        OSError, ValueError: the file cannot be written.
    """
    write: Callable[[Path, Sequence[str], Iterable[Row], Path | None], None]
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[out.suffix.lower()]
    before = out if append and out.is_file() else None
    write_atomically(out, lambda path: write(path, label_names, rows, before))


def ids_in(out: Path, label_names: Sequence[str]) -> set[str]:
    """The ids of a file of predictions. UserError where it has other columns or cannot be read."""
    columns = ["id", *score_columns(label_names), "labels", "problem"]
    readers: dict[str, Callable[[Path], tuple[Sequence[str], set[str]]]]
    readers = {".csv": _csv_ids, ".jsonl": _jsonl_ids, ".parquet": _parquet_ids}
    try:
        names, ids = readers[out.suffix.lower()](out)
    except (OSError, ValueError, KeyError, TypeError, StopIteration, csv.Error) as error:
        raise UserError(f"--append: '{out}' is no file of predictions ({error}); name another file") from error
    if out.suffix.lower() == ".jsonl":
        columns = list(label_names) if names else []
    if sorted(names) != sorted(columns):
        differing = min(set(names) ^ set(columns), default="")
        raise UserError(
            f"--append: '{out}' has other columns than this run writes ({differing!r} is in one alone); name another "
            "file"
        )
    return ids


# ---------------------------------------------------------------------- CSV


def _write_csv(path: Path, label_names: Sequence[str], rows: Iterable[Row], before: Path | None) -> None:
    columns = ["id", *score_columns(label_names), "labels", "problem"]
    order = range(len(columns))
    if before is not None:
        shutil.copyfile(before, path)
        _end_line(path)
        order = [columns.index(name) for name in _csv_ids(before)[0]]
    with path.open("a" if before else "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if before is None:
            writer.writerow(columns)
        empty = [""] * len(label_names)
        for row in rows:
            values = [_text(value) for value in row.values] if len(row.values) else empty
            cells = [row.id, *values, SEPARATOR.join(row.labels), row.problem]
            writer.writerow([cells[place] for place in order])


def _end_line(path: Path) -> None:
    """End the last line of a file, which an editor may have left open."""
    with path.open("rb+") as file:
        if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
            file.write(b"\n")


def _text(value: float) -> str:
    return f"{value:.7g}"


def _csv_ids(path: Path) -> tuple[Sequence[str], set[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = next(reader)
        place = names.index("id")
        return names, {row[place] for row in reader if row}


# ---------------------------------------------------------------------- JSON lines


def _write_jsonl(path: Path, label_names: Sequence[str], rows: Iterable[Row], before: Path | None) -> None:
    if before is not None:
        shutil.copyfile(before, path)
        _end_line(path)
    with path.open("a" if before else "w", encoding="utf-8") as file:
        for row in rows:
            values = (float(_text(value)) for value in row.values)
            scores = dict(zip(label_names, values, strict=True)) if len(row.values) else None
            content: dict[str, Any] = {"id": row.id, "scores": scores, "labels": list(row.labels)}
            if row.problem:
                content["problem"] = row.problem
            file.write(json.dumps(content, ensure_ascii=False) + "\n")


def _jsonl_ids(path: Path) -> tuple[Sequence[str], set[str]]:
    names: Sequence[str] = ()
    ids = set()
    with path.open(encoding="utf-8") as file:
        for line in file:
            content = json.loads(line)
            ids.add(str(content["id"]))
            names = names or list(content["scores"] or ())
    return names, ids


# ---------------------------------------------------------------------- Parquet


def _write_parquet(path: Path, label_names: Sequence[str], rows: Iterable[Row], before: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = score_columns(label_names)
    fields = [("id", pa.string()), *((column, pa.float32()) for column in columns)]
    schema = pa.schema([*fields, ("labels", pa.list_(pa.string())), ("problem", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        if before is not None:
            older = pq.ParquetFile(before)
            for batch in older.iter_batches(PART):
                writer.write_table(pa.Table.from_batches([batch]).select(schema.names).cast(schema))
        for part in _parts(rows, PART):
            arrays: dict[str, Any] = {"id": [row.id for row in part]}
            for k, column in enumerate(columns):
                arrays[column] = [float(row.values[k]) if len(row.values) else None for row in part]
            arrays |= {"labels": [list(row.labels) for row in part], "problem": [row.problem or None for row in part]}
            writer.write_table(pa.table(arrays, schema=schema))


def _parts(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _parquet_ids(path: Path) -> tuple[Sequence[str], set[str]]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path)
    ids = {str(name) for batch in table.iter_batches(columns=["id"]) for name in batch.column(0).to_pylist()}
    return table.schema_arrow.names, ids
