from __future__ import annotations

from pathlib import Path

import pytest

from semilearn_bbam.data.dataset import DataError
from tests.conftest import has_line, naming
from tests.forms import labels_of, load, parts_of, pictures, read, write


def test_a_table_beside_the_images_is_found(tmp_path: Path) -> None:
    pictures(tmp_path / "photos", "a.png", "deep/b.png")
    write(
        tmp_path / "photos" / "metadata.jsonl",
        '{"path": "a.png", "labels": ["cat", "dog"]}\n{"path": "deep/b.png", "labels": ["fox"]}\n',
    )
    entries = read(tmp_path, "photos")
    assert labels_of(entries) == {"a.png": ["cat", "dog"], "b.png": ["fox"]}
    assert [Path(item) for item in entries.items] == [tmp_path / "photos" / "a.png", tmp_path / "photos/deep/b.png"]
    assert has_line("\n".join(entries.notes), "photos/metadata.jsonl")


def test_tables_in_folders_of_parts(tmp_path: Path) -> None:
    for folder, image in (("train", "a.png"), ("valid", "b.png"), ("test", "c.png")):
        pictures(tmp_path / folder, image)
        write(tmp_path / folder / "_classes.csv", f"path,cat,dog\n{image},1,0\n")
    entries = read(tmp_path)
    assert parts_of(entries) == {"a.png": "train", "b.png": "validation", "c.png": "test"}
    assert entries.columns == ("cat", "dog")
    assert entries.names[1].startswith("valid/b.png")
    write(tmp_path / "test" / "_classes.csv", "path,cat,fox\nc.png,1,0\n")
    with pytest.raises(DataError, match=naming("tables", "columns")):
        read(tmp_path)


def test_folders_in_the_paths_are_parts_where_all_are(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a.png", "test/b.png", "c.png")
    table = "path,labels\ntrain/a.png,cat\ntest/b.png,cat\n"
    write(tmp_path / "metadata.csv", table)
    assert parts_of(read(tmp_path)) == {"a.png": "train", "b.png": "test"}
    write(tmp_path / "metadata.csv", table + "c.png,cat\n")
    assert read(tmp_path).parts == []


def test_the_source_is_that_of_the_table(tmp_path: Path) -> None:
    pictures(tmp_path / "photos", *(f"{k}.png" for k in range(10)))
    rows = "".join(f"{k}.png,{'cat;dog' if k % 2 else 'cat'}\n" for k in range(10))
    write(tmp_path / "photos" / "metadata.csv", "path,labels\n" + rows)
    source = load(tmp_path, "photos")
    assert source.label_names == ("cat", "dog")
    assert source.targets.tolist() == [[1, int(name[0]) % 2] for name in source.train_ids]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"metadata.csv": "path,labels\na.png,x\n", "metadata.jsonl": "{}\n"}, ("metadata.csv", "metadata.jsonl")),
        ({"metadata.jsonl": "{\n"}, ("metadata.jsonl", "no item")),
        ({"metadata.csv": "name,labels\nb,x\n"}, ("metadata.csv", "column")),
    ],
)
def test_unusable_tables_are_named(tmp_path: Path, files: dict[str, str], message: tuple[str, ...]) -> None:
    pictures(tmp_path, "a.png")
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(DataError, match=naming(*message)):
        read(tmp_path)
