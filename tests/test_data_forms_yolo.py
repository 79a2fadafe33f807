from __future__ import annotations

from pathlib import Path

import pytest

from semilearn_bbam.data.dataset import DataError
from tests.conftest import has_line, naming
from tests.forms import labels_of, load, parts_of, pictures, problems_of, read, write

BOX = "0.5 0.5 0.1 0.1"
YAML = "names: [cat, dog, bird]\nnc: 3\n"


def annotate(file: Path, *numbers: object) -> None:
    write(file, "".join(f"{number} {BOX}\n" for number in numbers))


def three(images: Path, labels: Path) -> None:
    """a.png with classes 0 and 2, b.png without an object, c.png without a label file."""
    pictures(images, "a.png", "b.png", "c.png")
    annotate(labels / "a.txt", 2, 0, 2)
    annotate(labels / "b.txt")


EXPECTED = {"a.png": ["bird", "cat"], "b.png": [], "c.png": None}


@pytest.mark.parametrize(
    ("images", "labels", "file", "text", "name"),
    [
        ("images", "labels", "data.yaml", YAML, "."),
        ("images", "labels", "mine.yml", "names: {0: cat, 1: dog, 2: bird}", "mine.yml"),
        ("images", "labels", "classes.txt", "cat\ndog\nbird\n", "."),
        ("images/deep/er", "labels/deep/er", "classes.txt", "cat\r\ndog\r\nbird", "."),
        ("obj_train_data", "obj_train_data", "obj.names", "cat\ndog\nbird\n", "."),
        (".", ".", "classes.txt", "cat\ndog\nbird\n", "."),
    ],
)
def test_labels_of_every_layout(tmp_path: Path, images: str, labels: str, file: str, text: str, name: str) -> None:
    three(tmp_path / images, tmp_path / labels)
    write(tmp_path / file, text)
    entries = read(tmp_path, name)
    assert entries.label_names == ("cat", "dog", "bird")
    assert labels_of(entries) == EXPECTED
    assert (entries.problems, entries.parts) == ([], [])


def test_the_source_has_a_column_for_each_class(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", YAML)
    pictures(tmp_path / "images", *(f"{k}.png" for k in range(10)))
    for k in range(10):
        annotate(tmp_path / "labels" / f"{k}.txt", 1, *([2] if k % 2 else []))
    source = load(tmp_path)
    assert source.label_names == ("cat", "dog", "bird")
    assert source.targets.tolist() == [[0, 1, int(Path(name).stem) % 2] for name in source.train_ids]


def test_without_names_numbers_are_names(tmp_path: Path) -> None:
    three(tmp_path / "images", tmp_path / "labels")
    entries = read(tmp_path)
    assert entries.label_names == ("0", "2")
    assert labels_of(entries) == {"a.png": ["2", "0"], "b.png": [], "c.png": None}
    assert has_line("\n".join(entries.notes), "classes.txt", "numbers")


def test_polygons_and_confidences_are_read(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", YAML)
    pictures(tmp_path / "images", "a.png")
    write(tmp_path / "labels" / "a.txt", f"1.0 {BOX} 0.9\n2 0.1 0.1 0.2 0.2 0.3 0.1\n\n")
    assert labels_of(read(tmp_path)) == {"a.png": ["dog", "bird"]}


@pytest.mark.parametrize(
    ("train", "text"),
    [
        ("images/train", "train: images/train\nval: images/val\ntest: [images/test]\n"),
        ("images/train", "path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest: images/test\n"),
        ("images/train", "train: /home/me/mine/images/train\nval: /home/me/mine/images/val\ntest: ''\n"),
        ("train/images", "train: ../train/images\nval: ../val/images\n"),
        ("images/train", "train: train.txt\nval: val.txt\ntest: test.txt\n"),
        ("images/train", ""),
    ],
)
def test_parts_are_those_of_the_yaml_the_lists_or_the_folders(tmp_path: Path, train: str, text: str) -> None:
    write(tmp_path / "data.yaml", YAML + text)
    for part, image in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        folder = train.replace("train", part)
        pictures(tmp_path / folder, image)
        annotate(tmp_path / folder.replace("images", "labels") / f"{image[0]}.txt", 0)
        if ".txt" in text:
            write(tmp_path / f"{part}.txt", f"./{folder}/{image}\n")
    parts = parts_of(read(tmp_path))
    assert {image: parts[image] for image in ("a.png", "b.png")} == {"a.png": "train", "b.png": "validation"}
    assert parts.get("c.png", "") == ("test" if "test" in text.replace("test: ''", "") or not text else "")


def test_lists_of_darknet_are_parts(tmp_path: Path) -> None:
    write(tmp_path / "obj.names", "cat\ndog\n")
    pictures(tmp_path / "obj_train_data", "a.png", "b.png", "c.png")
    for stem in "abc":
        annotate(tmp_path / "obj_train_data" / f"{stem}.txt", 1)
    write(tmp_path / "train.txt", "data/obj_train_data/a.png\nobj_train_data/gone.png\n")
    write(tmp_path / "valid.txt", "obj_train_data/b.png\n")
    entries = read(tmp_path)
    assert parts_of(entries) == {"a.png": "train", "b.png": "validation"}
    assert [row[:2] for row in problems_of(entries)] == [("obj_train_data/gone.png", "missing")]
    write(tmp_path / "valid.txt", "obj_train_data/a.png\n")
    with pytest.raises(DataError, match=naming("a.png", "train", "validation")):
        read(tmp_path)


def test_bad_label_files_are_problems(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", YAML)
    pictures(tmp_path / "images", "a.png", "b.png", "c.png", "d.png", "e.png", "f.png")
    annotate(tmp_path / "labels" / "a.txt", 0)
    annotate(tmp_path / "labels" / "b.txt", 0, 7)
    annotate(tmp_path / "labels" / "c.txt", "cat")
    write(tmp_path / "labels" / "d.txt", "1 0.5 0.5\n")
    annotate(tmp_path / "labels" / "e.txt", -1)
    (tmp_path / "labels" / "f.txt").write_bytes(b"0 \xff\n")
    annotate(tmp_path / "labels" / "gone.txt", 0)
    entries = read(tmp_path)
    assert labels_of(entries) == {"a.png": ["cat"]}
    rows = {item: (kind, detail) for item, kind, detail in problems_of(entries)}
    assert rows["images/b.png"] == ("label", "labels/b.txt, line 2: class 7 is none of the 3 of data.yaml")
    assert {item for item, (kind, _) in rows.items() if kind == "label"} == {f"images/{k}.png" for k in "bcdef"}
    assert "cat" in rows["images/c.png"][1]
    assert rows["labels/gone.txt"][0] == "missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: 3\n", ("names", "3")),
        ("names: [cat, cat]\n", ("'cat'", 0, 1)),
        ("names: [cat, '']\n", ("class 1", "no name")),
        ("train: [\n", ("no YAML",)),
        ("other: 1\n", ("no names",)),
        ("names: [cat]\ntrain: nowhere\n", ("train", "'nowhere'")),
        ("names: [cat]\ntrain: images\nval: images\n", ("train", "validation", "leave")),
    ],
)
def test_an_unusable_yaml_is_named(tmp_path: Path, text: str, message: tuple[object, ...]) -> None:
    pictures(tmp_path / "images", "a.png")
    annotate(tmp_path / "labels" / "a.txt", 0)
    write(tmp_path / "mine.yaml", text)
    with pytest.raises(DataError, match=naming("mine.yaml", *message)):
        read(tmp_path, "mine.yaml")


def test_a_folder_of_two_forms_is_named(tmp_path: Path) -> None:
    three(tmp_path / "images", tmp_path / "labels")
    write(tmp_path / "metadata.jsonl", '{"file_name": "images/a.png", "labels": ["cat"]}\n')
    with pytest.raises(DataError, match=naming("YOLO", "table", "manifest")):
        read(tmp_path)
