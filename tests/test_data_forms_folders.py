from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from semilearn_bbam.data.dataset import DataError
from tests.conftest import has_line, naming
from tests.forms import labels_of, load, parts_of, picture, pictures, read, write


def test_a_folder_is_a_label_and_an_image_in_two_has_both(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png", "bird/d.png")
    shutil.copy(tmp_path / "cat" / "a.png", tmp_path / "dog" / "renamed.png")
    picture(tmp_path / "dog" / "b.png", seed=1)  # the same name, another image
    entries = read(tmp_path)
    assert entries.label_names == ("bird", "cat", "dog")
    assert sorted(zip(entries.names, entries.labels, strict=True)) == [
        ("bird/d.png", ["bird"]),
        ("cat/a.png", ["cat", "dog"]),
        ("cat/b.png", ["cat"]),
        ("dog/b.png", ["dog"]),
        ("dog/c.png", ["dog"]),
    ]
    assert entries.parts == []
    assert has_line("\n".join(entries.notes), 1, "several folders", "cat/a.png")


def test_the_source_has_the_labels_of_the_folders(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{label}/{k}.png" for label in ("10", "9") for k in range(5)))
    source = load(tmp_path)
    assert source.label_names == ("9", "10")
    assert len(source.targets) + len(source.test_targets) == 10
    assert [row.tolist() for row in source.targets] == [
        [0, 1] if name.startswith("10/") else [1, 0] for name in source.train_ids
    ]
    assert len(load(tmp_path, "../" + tmp_path.name).targets) == len(source.targets)


def test_folders_of_parts_are_recognised(tmp_path: Path) -> None:
    pictures(tmp_path, "train/cat/a.png", "train/dog/b.png", "valid/cat/c.png", "test/cat/d.png", "test/fox/e.png")
    pictures(tmp_path, "unlabeled/f.png", "unlabeled/deep/g.png", "train/h.png")
    entries = read(tmp_path)
    assert entries.label_names == ("cat", "dog", "fox")
    assert labels_of(entries) == {
        **{"a.png": ["cat"], "b.png": ["dog"], "c.png": ["cat"], "d.png": ["cat"], "e.png": ["fox"]},
        **{"f.png": None, "g.png": None, "h.png": None},
    }
    assert parts_of(entries) == {
        **{"a.png": "train", "b.png": "train", "c.png": "validation", "d.png": "test", "e.png": "test"},
        **{"f.png": "unlabeled", "g.png": "unlabeled", "h.png": "train"},
    }
    assert has_line("\n".join(entries.notes), "train", "valid", "test", "parts")


def test_the_same_image_in_two_parts_stays_two_items(tmp_path: Path) -> None:
    pictures(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/dog/c.png")
    shutil.copy(tmp_path / "train" / "cat" / "a.png", tmp_path / "test" / "dog" / "d.png")
    assert labels_of(read(tmp_path)) == {"a.png": ["cat"], "b.png": ["dog"], "c.png": ["dog"], "d.png": ["dog"]}


def test_a_label_called_train_is_no_part(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a.png", "boat/b.png", "unlabelled/c.png")
    entries = read(tmp_path)
    assert entries.label_names == ("boat", "train")
    assert parts_of(entries) == {"a.png": "train", "b.png": "train", "c.png": "unlabeled"}


def test_hidden_files_empty_and_deeper_folders(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/a.png", "cat/young/b.png", "dog/c.png", "__MACOSX/d.png", ".cache/e.png", "dog/.f.png")
    pictures(tmp_path, "beside.png")
    (tmp_path / "fox").mkdir()
    write(tmp_path / "cat" / "notes.txt", "x")
    (tmp_path / "dog" / "again").symlink_to(tmp_path / "dog", target_is_directory=True)
    entries = read(tmp_path)
    assert labels_of(entries) == {"a.png": ["cat"], "b.png": ["cat"], "c.png": ["dog"], "beside.png": None}
    assert has_line("\n".join(entries.notes), "cat/young/b.png")
    assert has_line("\n".join(entries.notes), 1, "fox")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["a.png", "b.png"], ("no folder with images",)),
        ([], ("no folder with images",)),
        (["train/cat/a.png", "test/cat/b.png", "boat/c.png"], ("train", "part or a label", "boat")),
        (["valid/cat/a.png", "val/cat/b.png", "train/cat/c.png"], ("val", "valid", "same part")),
    ],
)
def test_folders_that_cannot_be_read_are_named(tmp_path: Path, images: list[str], message: tuple[str, ...]) -> None:
    pictures(tmp_path, *images)
    with pytest.raises(DataError, match=naming(str(tmp_path), *message)):
        read(tmp_path)
