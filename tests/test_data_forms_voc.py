from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from semilearn_bbam.data.dataset import SOURCES, DataError
from tests.conftest import has_line, naming, settings
from tests.forms import labels_of, load, parts_of, pictures, problems_of, read, write


def annotate(folder: Path, image: str, *objects: str, stem: str = "") -> None:
    """An xml for an image; `!dog` is a difficult dog."""
    elements = "".join(
        f"<object><name>{name.lstrip('!')}</name><difficult>{int(name.startswith('!'))}</difficult></object>"
        for name in objects
    )
    text = f"<annotation><folder>x</folder><filename>{image}</filename>{elements}</annotation>"
    write(folder / f"{stem or Path(image).stem}.xml", text)


@pytest.mark.parametrize(
    ("xml", "images", "name"),
    [
        (".", ".", "."),
        ("Annotations", "JPEGImages", "."),
        ("Annotations", "JPEGImages", "Annotations"),
        ("annotations", "images/deep", "."),
        ("VOCdevkit/VOC2007/Annotations", "VOCdevkit/VOC2007/JPEGImages", "."),
        ("VOCdevkit/VOC2007/Annotations", "VOCdevkit/VOC2007/JPEGImages", "VOCdevkit/VOC2007"),
        ("labels", ".", "."),
    ],
)
def test_xml_with_classes_of_ones_own(tmp_path: Path, xml: str, images: str, name: str) -> None:
    pictures(tmp_path / images, "a.jpg", "b.png", "c.jpg", "d.jpg")
    annotate(tmp_path / xml, "a.jpg", "cat", "Red fox", "cat")
    annotate(tmp_path / xml, "b.png", "10")
    annotate(tmp_path / xml, "c.jpg")
    entries = read(tmp_path, name)
    assert entries.label_names == ("10", "Red fox", "cat")
    expected = {"a.jpg": ["Red fox", "cat"], "b.png": ["10"], "c.jpg": [], "d.jpg": None}
    assert labels_of(entries) == expected
    assert (entries.problems, entries.parts) == ([], [])


def test_the_source_has_a_column_for_each_class(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{k}.png" for k in range(10)))
    for k in range(10):
        annotate(tmp_path, f"{k}.png", "cat", *(["dog"] if k % 2 else []))
    source = load(tmp_path)
    assert source.label_names == ("cat", "dog")
    assert source.targets.tolist() == [[1, int(name[0]) % 2] for name in source.train_ids]
    assert len(source.test_targets) == 2


def test_difficult_instances_follow_the_option(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    annotate(tmp_path, "a.png", "!cat", "dog", "!dog")
    annotate(tmp_path, "b.png", "cat")
    negative, positive = read(tmp_path), read(tmp_path, voc_difficult="positive")
    assert labels_of(negative) == {"a.png": ["dog"], "b.png": ["cat"]}
    assert labels_of(positive) == {"a.png": ["cat", "dog"], "b.png": ["cat"]}
    assert has_line("\n".join(negative.notes), 1, "negative", "voc_difficult")
    assert negative.label_names == positive.label_names


def test_lists_are_parts(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    pictures(root / "JPEGImages", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    for stem in "abce":
        annotate(root / "Annotations", f"{stem}.jpg", "cat")
    lists = {"train": "a\n", "val": "b 1\n", "trainval": "a\nb\nd\n", "test": "c\n"}
    for name, text in lists.items():
        write(root / "ImageSets" / "Main" / f"{name}.txt", text)
    entries = read(tmp_path)
    assert parts_of(entries) == {"a.jpg": "train", "b.jpg": "validation", "c.jpg": "test", "d.jpg": "train"}
    assert labels_of(entries)["d.jpg"] is None
    assert has_line("\n".join(entries.notes), "left out 1 ", "e.xml")
    assert has_line("\n".join(entries.notes), "trainval.txt", "parts")
    write(root / "ImageSets" / "Main" / "test.txt", "a\n")
    with pytest.raises(DataError, match=naming("a is in", "test.txt")):
        read(tmp_path)


def test_folders_are_parts(tmp_path: Path) -> None:
    for folder, image in (("train", "a.jpg"), ("valid", "b.jpg"), ("test", "c.jpg")):
        pictures(tmp_path / folder, image)
        annotate(tmp_path / folder, image, "cat")
    assert parts_of(read(tmp_path)) == {"a.jpg": "train", "b.jpg": "validation", "c.jpg": "test"}
    shutil.copytree(tmp_path / "valid", tmp_path / "val")
    with pytest.raises(DataError, match=naming("several folders", "name one")):
        read(tmp_path)


def test_a_renamed_image_is_that_of_its_xml(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    annotate(tmp_path, "image.jpg", "cat", stem="a")  # the name inside is that of the first file
    annotate(tmp_path, "C:\\photos\\b.png", "dog", stem="frame_2")
    entries = read(tmp_path)
    assert labels_of(entries) == {"a.png": ["cat"], "b.png": ["dog"]}


def test_bad_xml_files_are_problems(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "cut.png", "empty.png", "other.png", "nameless.png", "B.PNG")
    annotate(tmp_path, "a.png", "cat")
    annotate(tmp_path, "gone.png", "cat")
    annotate(tmp_path, "b.jpg", "cat")
    write(tmp_path / "cut.xml", "<annotation><object><name>cat</name>")
    write(tmp_path / "empty.xml", "")
    write(tmp_path / "other.xml", "<html/>")
    annotate(tmp_path, "nameless.png", "")
    entries = read(tmp_path)
    assert labels_of(entries) == {"a.png": ["cat"], "B.PNG": None}
    rows = {item: (kind, detail) for item, kind, detail in problems_of(entries)}
    assert {item: kind for item, (kind, _) in rows.items()} == {
        **{"cut.xml": "row", "empty.xml": "row", "other.xml": "row", "nameless.xml": "row"},
        **{"gone.png": "missing", "b.jpg": "missing"},
    }
    assert "<html>" in rows["other.xml"][1]
    assert "B.PNG" in rows["b.jpg"][1]


def test_xml_without_any_object_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    annotate(tmp_path, "a.png")
    with pytest.raises(DataError, match=naming(str(tmp_path), "no xml", "object")):
        read(tmp_path)


def test_a_released_data_set_points_to_the_manifest(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2007"
    pictures(root / "JPEGImages", "a.jpg")
    annotate(root / "Annotations", "a.jpg", "cat")

    def failure() -> str:
        with pytest.raises(DataError) as caught:
            SOURCES["voc2007"](settings(dataset="voc2007", data_dir=tmp_path))
        return str(caught.value)

    assert has_line(failure(), "dataset: manifest", "VOCdevkit/VOC2007")
    write(root / "ImageSets" / "Main" / "trainval.txt", "a\n")
    assert has_line(failure(), "dataset: manifest", "VOCdevkit/VOC2007")
