"""Rows of fields from CSV, TSV, JSON-lines and JSON files, with bad rows by name."""

from __future__ import annotations

import csv
import io
import json
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.parquet import read_rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
LONGEST_FIELD = 2**27  # characters; Python's own limit of 131,072 is short for a text
LONGEST_HEADER = 2**16  # characters in which to look for the delimiter
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


@dataclass
class Table:
    """`rows` of (name of the row, its fields), `bad` rows of (name, reason); names are such as `a.csv, line 3`."""

    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)


def read_table(path: Path) -> Table:
    """All rows of a file, by its suffix: `.csv`, `.tsv` (first line: names of the columns), `.jsonl`, `.json`.

    `.json` is a list of objects, or USB's form, an object of objects by number. Rows that cannot be read are
    in `bad`; DataError for a file that cannot be read at all.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return Table(read_rows(path))
    text = read_text(path)
    table = Table()
    try:
        if suffix in (".csv", ".tsv"):
            _read_csv(path, text, table)
        elif suffix == ".jsonl":
            lines = ((f"{path.name}, line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip())
            _read_objects(((name, _parse(line)) for name, line in lines), table)
        elif suffix == ".json":
            _read_objects(_json_items(path, _parse(text)), table)
        else:
            raise DataError(f"{path} is none of {', '.join(SUFFIXES)}; rename or convert it")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); fix the file") from error
    return table


def brief(value: Any) -> str:
    """A value as Python writes it, on one line and cut where it is long or deeply nested, for a message."""
    return _BRIEF.repr(value)


def read_text(path: Path) -> str:
    """The file as text in UTF-8, with or without a byte-order mark; DataError naming file and line otherwise."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"the file {path} does not exist; check its name and data_dir") from error
    except OSError as error:
        raise DataError(f"the file {path} cannot be read ({error.strerror}); check its name and rights") from error
    except ValueError as error:
        raise DataError(f"{brief(str(path))} is no name of a file; write one without NUL") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line} is not UTF-8; save the file with that encoding") from error


def _read_csv(path: Path, text: str, table: Table) -> None:
    previous_limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
        lines = _csv_lines(reader)
        _, header = next(lines, (1, []))
        names = [name.strip() if isinstance(name, str) else "" for name in header]
        if not any(names) or isinstance(header, str):
            raise DataError(f"{path}: the first line must name the columns, such as path,labels")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated or "" in names:
            fault = "a column without a name" if "" in names else f"the name {brief(repeated[0])} twice"
            raise DataError(f"{path}: the first line has {fault}; give each column its own name")
        for line, fields in lines:
            name = f"{path.name}, line {line}"
            if isinstance(fields, str):
                table.bad.append((name, fields))
            elif fields and len(fields) != len(names):
                table.bad.append((name, f"{len(fields)} fields for {len(names)} columns"))
            elif fields:
                table.rows.append((name, dict(zip(names, fields, strict=True))))
    finally:
        csv.field_size_limit(previous_limit)


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = re.sub('"[^"]*"', "", text[:LONGEST_HEADER]).split("\n", 1)[0]  # names of columns may hold any of them
    return max(",;\t", key=header.count)  # the comma where none occurs


def _csv_lines(reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    """Number of the first line and fields of each row, or what is wrong with it."""
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"{error}"


def _parse(text: str) -> Any:
    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON value")

    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        return error


def _json_items(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, Exception):
        raise ValueError(f"it is no JSON: {content}")
    if isinstance(content, dict):
        return ((f"{path.name}, item {brief(key)}", value) for key, value in content.items())
    if isinstance(content, list):
        return ((f"{path.name}, item {i}", value) for i, value in enumerate(content))
    raise ValueError("it must hold a list of objects")


def _read_objects(items: Iterator[tuple[str, Any]], table: Table) -> None:
    for name, value in items:
        if isinstance(value, Exception):
            detail = f"{value.msg}, column {value.colno}" if isinstance(value, json.JSONDecodeError) else value
            table.bad.append((name, f"no JSON: {detail}"))
        elif not isinstance(value, dict):
            table.bad.append((name, "not a JSON object"))
        elif not _is_text(value):
            table.bad.append((name, "it holds half of a surrogate pair, which is no character"))
        else:
            table.rows.append((name, value))


def _is_text(value: Any) -> bool:
    """Whether all strings can be encoded; JSON may spell half a character, which no file name or tokenizer accepts."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True
