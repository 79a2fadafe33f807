from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.data.readers.header import without_header
from semilearn_bbam.data.readers.tables import Table, read_table
from tests.conftest import has_line, settings


def read(folder: Path, content: str, name: str = "t.tsv", **options: Any) -> Table:
    (folder / name).write_text(content)
    return without_header(folder / name, folder, read_table(folder / name), settings(**options))


def test_texts_and_labels_without_names(tmp_path: Path) -> None:
    table = read(
        tmp_path, "long text one\t2\tx1\nanother text\t2\tx2\nthird text\t0\tx3\nfourth\t0\tx4\nfifth\t2\tx5\n"
    )
    assert table.columns == ["text", "labels", "3"]
    assert table.rows[0] == ("t.tsv, line 1", {"text": "long text one", "labels": "2", "3": "x1"})
    assert len(table.rows) == 5
    assert has_line(table.notes[0], "t.tsv", "column 1", "text", "column 2", "labels")


def test_images_without_names(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()
    table = read(tmp_path, "a.jpg,dog\nb.jpg,cat\nc.jpg,dog\nd.jpg,cat\ne.jpg,dog\n", "t.csv")
    assert table.columns == ["path", "labels"]
    assert len(table.rows) == 5


def test_numbers_choose(tmp_path: Path) -> None:
    table = read(tmp_path, "x\ty\nz\tw\n", text_column="1", label_columns="2")
    assert table.columns == ["1", "2"]
    assert len(table.rows) == 2
    named = read(tmp_path, "1\ttext\n0\ta\n1\tb\n", label_columns="1")
    assert named.columns == ["1", "text"]  # no item is called text
    assert read(tmp_path, "2\ttext\n0\ta\n", label_columns="2").columns == ["2", "text"]


@pytest.mark.parametrize("content", ["text\tlabels\na\tx\nb\ty\n", "story\ttags\na\tx\nb\tx\n"])
def test_a_line_of_names_stays_one(tmp_path: Path, content: str) -> None:
    table = read(tmp_path, content)
    assert len(table.rows) == 2
    assert table.notes == []
