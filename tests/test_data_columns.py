from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.columns import Columns, choose_columns
from semilearn_bbam.data.readers.tables import read_table
from tests.conftest import has_line, naming, settings


def choose(folder: Path, content: str, **options: Any) -> Columns:
    path = folder / "t.csv"
    path.write_text(content)
    return choose_columns(path, folder, read_table(path), settings(**options))


@pytest.mark.parametrize("name", ["image", "filename", "File Name", "fname", "Path", "image_id", "Filenames"])
def test_names_of_image_columns(tmp_path: Path, name: str) -> None:
    columns = choose(tmp_path, f"{name},labels\na.jpg,x\nb.jpg,y\n")
    assert (columns.kind, columns.item, columns.labels) == ("image", name, "labels")
    assert bool(columns.notes) == (name != "Path")


@pytest.mark.parametrize("name", ["comment_text", "sentence", "Review", "tweet"])
def test_names_of_text_columns(tmp_path: Path, name: str) -> None:
    columns = choose(tmp_path, f"id,{name},joy,fear\n1,good,1,0\n2,bad,0,1\n")
    assert (columns.kind, columns.item, columns.cells) == ("text", name, ("joy", "fear"))
    assert has_line(columns.notes[0], "t.csv", repr(name))


@pytest.mark.parametrize("name", ["tags", "Category", "genres", "label", "species"])
def test_names_of_label_columns(tmp_path: Path, name: str) -> None:
    columns = choose(tmp_path, f"path,{name}\na.jpg,x y\nb.jpg,x\nc.jpg,x\n")
    assert columns.labels == name
    assert bool(columns.notes) == (name != "label")


def test_names_of_files_without_their_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    assert choose(tmp_path, "image_id,tags\na,x\nb,x\n").item == "image_id"


def test_an_index_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    for header in (",path,cat,dog", "Unnamed: 0,path,cat,dog", "row,path,cat,dog"):
        columns = choose(tmp_path, f"{header}\n0,a.jpg,1,0\n1,b.jpg,0,1\n2,c.jpg,1,1\n")
        assert columns.cells == ("cat", "dog")
        assert len(columns.notes) == 1


def test_columns_that_hold_something_else_stop(tmp_path: Path) -> None:
    table = "path,Sex,cat,dog\na.jpg,Male,1,0\nb.jpg,Female,,-1\n"
    with pytest.raises(DataError, match=naming("t.csv", "'Sex'", "label_columns: 'cat, dog'")):
        choose(tmp_path, table)
    columns = choose(tmp_path, table, label_columns="cat,dog")
    assert columns.cells == ("cat", "dog")
    assert has_line(columns.notes[0], "t.csv", "'Sex'")


def test_a_faulty_cell_does_not_make_a_column_something_else(tmp_path: Path) -> None:
    assert choose(tmp_path, "path,cat,dog\na.jpg,1,0\nb.jpg,0,2\nc.jpg,0,1\nd.jpg,0,1\n").cells == ("cat", "dog")


def test_options_choose(tmp_path: Path) -> None:
    table = "a,b,c,d\nx.jpg,one,cat,dog\ny.jpg,two,dog,cat\n"
    columns = choose(tmp_path, table, text_column="b", label_columns="d")
    assert (columns.kind, columns.item, columns.labels) == ("text", "b", "d")
    with pytest.raises(DataError, match=naming("text_column", "t.csv", "'bb'", "did you mean b?")):
        choose(tmp_path, table, text_column="bb")
    with pytest.raises(DataError, match=naming("label_columns", "t.csv", "'q'", "'a', 'b'")):
        choose(tmp_path, table, path_column="a", label_columns="q")
    with pytest.raises(DataError, match=naming("path_column", "text_column")):
        choose(tmp_path, table, path_column="a", text_column="b")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("path,text,labels\na.jpg,b,x\n", ("path_column: path", "text_column: text")),
        ("image,filename,labels\na.jpg,b.jpg,x\n", ("path_column: image", "path_column: filename")),
        ("path,tags,genres\na.jpg,x,y\n", ("label_columns", "'tags', 'genres'")),
        ("path,one,two\na.jpg,x,y\n", ("label_columns", "'one', 'two'")),
        ("file name,labels\n1,x\n2,y\n", ("path_column", "'file name'")),
    ],
)
def test_two_readings_stop_with_the_options(tmp_path: Path, table: str, words: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=naming("t.csv", *words)):
        choose(tmp_path, table)


@pytest.mark.parametrize(
    ("header", "values", "split"),
    [
        ("split", "train test", "split"),
        ("is_valid", "True False", "is_valid"),
        ("where", "train val", "where"),
        ("subset", "a b", ""),
        ("fold", "0 1", "fold"),
    ],
)
def test_columns_of_the_split(tmp_path: Path, header: str, values: str, split: str) -> None:
    first, second = values.split()
    table = f"path,labels,{header}\na.jpg,x,{first}\nb.jpg,y,{second}\nc.jpg,y,{second}\n"
    columns = choose(tmp_path, table)
    assert columns.split == split
    assert bool(columns.notes) == (split == "")  # a column that is not read is named
    assert choose(tmp_path, table, split_column="none").split == ""
    assert choose(tmp_path, table, split_column=header).split == header


def test_two_columns_of_the_split_stop(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("t.csv", "'split', 'fold'", "split_column")):
        choose(tmp_path, "path,labels,split,fold\na.jpg,x,train,0\nb.jpg,y,test,1\n")


def test_ready_texts(tmp_path: Path) -> None:
    assert choose(tmp_path, "text,labels,strong,aug_1\na,x,b,c\nd,y,e,f\n").strong == ("strong", "aug_1")
