"""Rows of fields from CSV, TSV, JSON-lines and JSON files, with bad rows by name."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.spelling import hint_for

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
LONGEST_FIELD = 2**27  # characters; Python's own limit of 131,072 is short for a text
LONGEST_HEADER = 2**16  # characters in which to look for the delimiter
# How a file that is not UTF-8 may be encoded: by its first bytes, else what Windows writes.
MARKS = ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
INDEX_COLUMN = ""  # the name of a first column without one, as pandas writes its index
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


@dataclass
class Table:
    """The rows of a file.

    `rows` of (name of the row, its fields) and `bad` rows of (name, reason); names are such as `a.csv, line 3`.
    `notes` say how the file was read where that could be done otherwise.
    """

    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The names of all fields, in the order in which they occur."""
        return list(dict.fromkeys(key for _, fields in self.rows for key in fields))

    @property
    def first(self) -> tuple[str, ...]:
        """The names of the fields of the first row."""
        return tuple(self.rows[0][1]) if self.rows else ()

    def values(self, column: str) -> list[Any]:
        """The values of one column, of those rows that have it."""
        return [fields[column] for _, fields in self.rows if column in fields]


def read_table(path: Path) -> Table:
    """All rows of a file, by its suffix: `.csv`, `.tsv` (first line: names of the columns), `.jsonl`, `.json`.

    In a `.tsv` quotes are ordinary characters, so that a text may open with one. `.json` is a list of objects, or USB's
    form, an object of objects by number; JSON lines under that name are read as such, with a note. Rows that cannot be
    read are in `bad`; DataError for a file that cannot be read at all.
    """
    text = read_text(path)
    suffix = path.suffix.lower()
    table = Table()
    try:
        if suffix == ".csv":
            _read_csv(path, text, table)
        elif suffix == ".tsv":
            _read_tsv(path, text, table)
        elif suffix == ".jsonl":
            _read_json_lines(path, text, table)
        elif suffix == ".json":
            content = _parse(text)
            if isinstance(content, json.JSONDecodeError) and _has_json_lines(text):
                table.notes.append(f"{path.name} holds one JSON object per line, as a .jsonl does")
                _read_json_lines(path, text, table)
            else:
                _read_objects(_json_items(path, content), table)
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
        raise DataError(f"the file {path} does not exist; {hint_for(path, 'check its name and data_dir')}") from error
    except OSError as error:
        raise DataError(f"the file {path} cannot be read ({error.strerror}); check its name and rights") from error
    except ValueError as error:
        raise DataError(f"{brief(str(path))} is no name of a file; write one without NUL") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        encoding = next((name for mark, name in MARKS if data.startswith(mark)), "")
        likely = f"it looks like {encoding}" if encoding else "it may be cp1252 (Windows)"
        raise DataError(f"{path}, line {line} is not UTF-8 ({likely}); save the file with that encoding") from error


def in_folder(root: Path, name: str) -> Path:
    """A file that a setting names, in `root` unless it is an absolute path."""
    # Not Path.expanduser, which raises RuntimeError for ~ and an unknown user.
    return root / os.path.expanduser(name)


def _read_csv(path: Path, text: str, table: Table) -> None:
    first, _, rest = text.partition("\n")
    delimiter = ""
    if re.fullmatch(r"sep=.", first.strip()):  # a line for Excel
        delimiter, text = first.strip()[-1], rest
    previous_limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(text), strict=True)
        _read_fields(path, _csv_lines(reader, skipped=1 if delimiter else 0), table)
    finally:
        csv.field_size_limit(previous_limit)


def _read_tsv(path: Path, text: str, table: Table) -> None:
    lines = enumerate(text.replace("\r", "\n").split("\n"), start=1)
    _read_fields(path, ((number, line.split("\t") if line else []) for number, line in lines), table)
    if table.bad and any(_opens_a_quote(reason) for _, reason in table.bad):
        table.notes.append(
            f"{path.name}: quotes are ordinary characters in a .tsv; a text with a line break needs a .csv or .jsonl"
        )
    quoted = [name for name, fields in table.rows if any(_is_quoted(value) for value in fields.values())]
    if quoted:
        table.notes.append(
            f"{path.name}: {len(quoted)} row(s) have a field in quotes, which are kept as part of it, such as {quoted[0]}"
        )


def _is_quoted(value: str) -> bool:
    """Whether a field is what a writer of CSV makes of one with quotes: enclosed, and its own quotes doubled."""
    return len(value) > 1 and value[0] == value[-1] == '"' and '"' not in value[1:-1].replace('""', "")


def _opens_a_quote(reason: str) -> bool:
    return "opens with a quote" in reason


def _read_fields(path: Path, lines: Iterator[tuple[int, list[str] | str]], table: Table) -> None:
    """Add the rows of a file whose first line names the columns."""
    _, header = next(lines, (1, []))
    names = [name.strip() if isinstance(name, str) else "" for name in header]
    if not any(names) or isinstance(header, str):
        raise DataError(f"{path}: the first line must name the columns, such as path,labels")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or INDEX_COLUMN in names[1:]:
        fault = "a column without a name" if INDEX_COLUMN in names else f"the name {brief(repeated[0])} twice"
        raise DataError(f"{path}: the first line has {fault}; give each column its own name")
    for line, fields in lines:
        name = f"{path.name}, line {line}"
        if isinstance(fields, str):
            table.bad.append((name, fields))
        elif fields and len(fields) != len(names):
            quote = ", and opens with a quote" if path.suffix.lower() == ".tsv" and fields[0].startswith('"') else ""
            table.bad.append((name, f"{len(fields)} fields for {len(names)} columns{quote}"))
        elif fields:
            table.rows.append((name, dict(zip(names, fields, strict=True))))


def _delimiter(text: str) -> str:
    header = re.sub('"[^"]*"', "", text[:LONGEST_HEADER]).split("\n", 1)[0]  # names of columns may hold any of them
    return max(",;\t", key=header.count)  # the comma where none occurs


def _csv_lines(reader: Any, skipped: int) -> Iterator[tuple[int, list[str] | str]]:
    """Number of the first line and fields of each row, or what is wrong with it."""
    while True:
        line = reader.line_num + 1 + skipped
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


def _has_json_lines(text: str) -> bool:
    """Whether the first two lines that are not empty hold an object each."""
    lines = [line for line in text.split("\n") if line.strip()][:2]
    return len(lines) == 2 and all(isinstance(_parse(line), dict) for line in lines)


def _read_json_lines(path: Path, text: str, table: Table) -> None:
    lines = ((f"{path.name}, line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip())
    _read_objects(((name, _parse(line)) for name, line in lines), table)


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
