from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.tables import read_table
from tests.conftest import naming
from tests.forms import load


def save(path: Path, columns: dict[str, list[Any]], features: dict[str, Any] | None = None) -> Path:
    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)
    return path


def test_rows_have_lists_and_plain_values(tmp_path: Path) -> None:
    import datetime

    day = datetime.date(2024, 5, 6)
    columns = {"text": ["a", "b"], "labels": [["cat", "dog"], []], "score": [1.5, None], "day": [day, day]}
    columns["__index_level_0__"] = [4, 5]
    table = read_table(save(tmp_path / "rows.parquet", columns))
    assert table.rows == [
        ("rows.parquet, row 0", {"text": "a", "labels": ["cat", "dog"], "score": 1.5, "day": "2024-05-06"}),
        ("rows.parquet, row 1", {"text": "b", "labels": [], "score": None, "day": "2024-05-06"}),
    ]
    assert table.bad == []


def test_numbers_are_the_names_that_the_metadata_gives(tmp_path: Path) -> None:
    label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    columns = {"a": [0, 1, -1, 7], "b": [[0, 1], [], [1], [0]], "c": [0, 1, 0, 1]}
    features = {"a": label, "b": {"feature": label, "_type": "Sequence"}, "c": {"dtype": "int64", "_type": "Value"}}
    rows = [fields for _, fields in read_table(save(tmp_path / "rows.parquet", columns, features)).rows]
    assert [row["a"] for row in rows] == ["cat", "dog", None, 7]
    assert [row["b"] for row in rows] == [["cat", "dog"], [], ["dog"], ["cat"]]
    assert [row["c"] for row in rows] == [0, 1, 0, 1]


def test_a_manifest_may_be_a_parquet_file(tmp_path: Path) -> None:
    texts = [f"text {k}" for k in range(10)]
    save(tmp_path / "m.parquet", {"text": texts, "labels": [["dog", "cat"] if k % 2 else ["cat"] for k in range(10)]})
    source = load(tmp_path, "m.parquet")
    assert source.label_names == ("cat", "dog")
    assert source.targets.tolist() == [[1, int(text[-1]) % 2] for text in source.train]


@pytest.mark.parametrize("value", [{"bytes": b"x", "path": "a.png"}, b"x", [b"x"], [{"bytes": b"x"}]])
def test_images_in_the_file_are_refused(tmp_path: Path, value: Any) -> None:
    path = save(tmp_path / "rows.parquet", {"image": [value], "labels": [["cat"]]})
    with pytest.raises(DataError, match=naming("rows.parquet", "'image'", "unsupported", "path")):
        read_table(path)


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "rows.parquet", {"text": ["a"]})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=naming("rows.parquet", "cannot be read")):
        read_table(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=naming("rows.parquet", "cannot be read")):
        read_table(path)
    with pytest.raises(DataError, match=naming("gone.parquet", "cannot be read")):
        read_table(tmp_path / "gone.parquet")


def test_the_package_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=naming("rows.parquet", "pip install pyarrow")):
        read_table(tmp_path / "rows.parquet")
