"""Rows of fields from Parquet files, which need the optional package pyarrow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.errors import first_line

PANDAS_INDEX = "__index_level_"


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a file by name, such as `a.parquet, row 0`; lists stay lists, dates become text.

    Where the metadata of Hugging Face names the labels of a column of numbers, the names are its values. DataError for
    an unreadable file, for columns that hold images themselves, and without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs the package pyarrow; run pip install pyarrow") from error
    try:
        table = pyarrow.parquet.read_table(path)
        if len(set(table.column_names)) < len(table.column_names):
            raise DataError(f"{path}: two columns have one name; give each column its own name")
        columns = {name: table.column(name) for name in table.column_names if not name.startswith(PANDAS_INDEX)}
        values = {name: column.to_pylist() for name, column in columns.items() if not _is_bytes(column.type)}
    except (OSError, ValueError, NotImplementedError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); write it again or check its name") from error
    held = [name for name in columns if name not in values]
    if held:
        raise DataError(
            f"{path}: column {held[0]!r} holds images themselves, which is unsupported; write them to files, and their "
            f"paths to a column path"
        )
    for name, names in _label_names(table.schema.metadata or {}).items():
        if name in values:
            values[name] = [_named(value, names) for value in values[name]]
    count = len(table)
    return [
        (f"{path.name}, row {i}", {name: _plain(column[i]) for name, column in values.items()}) for i in range(count)
    ]


def _is_bytes(kind: Any) -> bool:
    """Whether a column holds bytes, or structures of them as Hugging Face writes images."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(_is_bytes(kind.field(i).type) for i in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_bytes(kind.value_type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _label_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the numbers in columns that Hugging Face calls ClassLabel, or lists of them."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        described = {name: feature.get("feature", feature) for name, feature in features.items()}
        return {name: f["names"] for name, f in described.items() if f.get("_type") == "ClassLabel" and f.get("names")}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if type(value) is int and 0 <= value < len(names) else None if value == -1 else value


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
