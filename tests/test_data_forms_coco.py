from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.data.dataset import SOURCES, DataError
from tests.conftest import has_line, naming, settings
from tests.forms import labels_of, load, parts_of, pictures, problems_of, read, write

ROOT = {"id": 0, "name": "animals", "supercategory": "none"}
CATEGORIES = [{"id": k, "name": name, "supercategory": "animals"} for k, name in ((7, "bird"), (1, "cat"), (2, "dog"))]


def content(images: dict[str, list[Any]], categories: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """`images` gives file name -> category ids of its annotations."""
    annotations = [
        {"id": 0, "image_id": k, "category_id": category, "iscrowd": 0}
        for k, used in enumerate(images.values())
        for category in used
    ]
    return {
        "images": [{"id": k, "file_name": name, "height": 6, "width": 6} for k, name in enumerate(images)],
        "annotations": annotations,
        "categories": CATEGORIES if categories is None else categories,
    }


def save(path: Path, value: Any) -> Path:
    return write(path, json.dumps(value))


THREE = {"a.png": [1, 7, 1], "b.png": [2], "c.png": []}


@pytest.mark.parametrize(
    ("file", "folder", "name"),
    [
        ("annotations/instances_default.json", "images", "annotations/instances_default.json"),
        ("annotations/instances_default.json", "images/default", "."),
        ("result.json", "images", "."),
        ("_annotations.coco.json", ".", "."),
        ("export/mine.json", ".", "export/mine.json"),
        ("export/mine.json", "photos/2024", "export/mine.json"),
    ],
)
def test_exports_are_read_wherever_their_images_lie(tmp_path: Path, file: str, folder: str, name: str) -> None:
    save(tmp_path / file, content(THREE))
    pictures(tmp_path / folder, *THREE)
    entries = read(tmp_path, name)
    assert entries.label_names == ("cat", "dog", "bird")
    assert labels_of(entries) == {"a.png": ["cat", "bird"], "b.png": ["dog"], "c.png": []}
    assert {Path(item).parent.resolve() for item in entries.items} == {(tmp_path / folder).resolve()}
    assert entries.problems == []


def test_the_source_has_a_column_for_each_category(tmp_path: Path) -> None:
    images = {f"{k}.png": [1, 7] if k % 2 else [2] for k in range(10)}
    save(tmp_path / "mine.json", content(images))
    pictures(tmp_path, *images)
    source = load(tmp_path, "mine.json")
    assert source.label_names == ("cat", "dog", "bird")
    assert source.targets.tolist() == [[1, 0, 1] if int(name[0]) % 2 else [0, 1, 0] for name in source.train_ids]
    assert len(source.test_targets) == 2


@pytest.mark.parametrize("form", ["x{}", "{}", 1.0])
def test_ids_may_be_texts_or_whole_floats(tmp_path: Path, form: Any) -> None:
    data = content(THREE)

    def change(value: int) -> Any:
        return form.format(value) if isinstance(form, str) else float(value)

    for image in data["images"]:
        image["id"] = change(image["id"])
    for annotation in data["annotations"]:
        annotation["image_id"] = change(annotation["image_id"])
        annotation["category_id"] = str(annotation["category_id"])
    save(tmp_path / "mine.json", data)
    pictures(tmp_path, *THREE)
    entries = read(tmp_path, "mine.json")
    assert labels_of(entries) == {"a.png": ["cat", "bird"], "b.png": ["dog"], "c.png": []}
    assert entries.problems == []


def test_a_root_category_without_annotations_is_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, *THREE)
    save(tmp_path / "mine.json", content(THREE, [ROOT, *CATEGORIES]))
    entries = read(tmp_path, "mine.json")
    assert entries.label_names == ("cat", "dog", "bird")
    assert has_line("\n".join(entries.notes), "category 0", "animals")
    save(tmp_path / "mine.json", content({**THREE, "c.png": [0]}, [ROOT, *CATEGORIES]))
    assert read(tmp_path, "mine.json").label_names == ("animals", "cat", "dog", "bird")


def test_a_root_that_is_called_as_a_category_is_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, *THREE)
    categories = [{"id": 0, "name": "cat", "supercategory": "none"}]
    categories += [{**category, "supercategory": "cat"} for category in CATEGORIES]
    save(tmp_path / "mine.json", content(THREE, categories))
    assert read(tmp_path, "mine.json").label_names == ("cat", "dog", "bird")


def test_folders_and_files_of_parts(tmp_path: Path) -> None:
    for folder, name in (("train", "a.png"), ("valid", "b.png"), ("test", "c.png")):
        save(tmp_path / "one" / folder / "_annotations.coco.json", content({name: [1]}, [ROOT, *CATEGORIES]))
        pictures(tmp_path / "one" / folder, name)
    entries = read(tmp_path, "one")
    assert parts_of(entries) == {"a.png": "train", "b.png": "validation", "c.png": "test"}
    # Both parts use the same file names, as datasets of one camera do.
    for part, category in (("train", 1), ("val", 2)):
        save(tmp_path / "two" / "annotations" / f"instances_{part}2017.json", content({"a.png": [category]}))
        pictures(tmp_path / "two" / f"{part}2017", "a.png")
    entries = read(tmp_path, "two")
    assert entries.parts == ["train", "validation"]
    assert entries.labels == [["cat"], ["dog"]]
    assert [Path(item).parent.name for item in entries.items] == ["train2017", "val2017"]
    assert read(tmp_path / "two", "annotations/instances_val2017.json").labels == [["dog"]]


def test_paths_of_another_machine_are_found_by_file_name(tmp_path: Path) -> None:
    images: dict[str, list[Any]] = {"C:\\data\\a.png": [1], "/data/upload/b.png": [2], "../media/c.png": [7]}
    save(tmp_path / "mine.json", content({**images, "gone\\d.png": [1]}))
    pictures(tmp_path / "images" / "all", "a.png", "b.png", "c.png", "D.PNG")
    entries = read(tmp_path, "mine.json")
    assert labels_of(entries) == {"a.png": ["cat"], "b.png": ["dog"], "c.png": ["bird"]}
    assert has_line("\n".join(entries.notes), 3, "file names")
    assert [row[:2] for row in problems_of(entries)] == [("gone\\d.png", "missing")]
    assert "D.PNG" in problems_of(entries)[0][2]
    pictures(tmp_path / "images" / "more", "a.png")
    entries = read(tmp_path, "mine.json")
    assert "2 files" in problems_of(entries)[0][2]


def test_bad_images_and_annotations_are_problems(tmp_path: Path) -> None:
    data = content({"a.png": [1], "b.png": [99], "c.png": [2], "gone.png": [1]})
    data["images"] += [
        {"id": 4},
        {"file_name": "c.png"},
        {"id": 0, "file_name": "again.png"},
        {"id": True, "file_name": "x"},
    ]
    data["annotations"] += [{"image_id": 77, "category_id": 1}, {"category_id": 1}, {"image_id": 2}]
    save(tmp_path / "mine.json", data)
    pictures(tmp_path, "a.png", "b.png", "c.png")
    entries = read(tmp_path, "mine.json")
    assert labels_of(entries) == {"a.png": ["cat"]}
    rows = {item: (kind, detail) for item, kind, detail in problems_of(entries)}
    assert rows["b.png"][0] == "label"
    for part in ("99", "1 (cat)", "2 (dog)", "7 (bird)"):
        assert part in rows["b.png"][1]
    assert rows["c.png"][0] == "label"
    assert rows["gone.png"] == ("missing", "")
    assert rows["again.png"][0] == "row"
    assert "77" in rows["annotation 4 (counted from 0)"][1]
    assert "image_id" in rows["annotation 5 (counted from 0)"][1]
    assert {item for item in rows if item.startswith("image ")} == {f"image {k} (counted from 0)" for k in (4, 5, 7)}


SAME = [*CATEGORIES, {"id": 8, "name": " cat ", "supercategory": "animals"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": SAME}, ("1 and 8", "'cat'", "rename")),
        ({"categories": [*CATEGORIES, {"id": "7", "name": "owl"}]}, ("7", "'bird'", "'owl'")),
        ({"categories": [*CATEGORIES, {"id": 3}]}, ("category", "number 3", "name")),
        ({"categories": []}, ("no categories",)),
        ({"categories": None}, ("'categories'", "list")),
        ({"annotations": {}}, ("'annotations'", "list")),
        ({"images": [3]}, ("'images'", "list")),
        ({"images": []}, ("no usable image",)),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, change: dict[str, Any], message: tuple[str, ...]) -> None:
    save(tmp_path / "mine.json", {**content(THREE), **change})
    pictures(tmp_path, *THREE)
    with pytest.raises(DataError, match=naming("mine.json", *message)):
        read(tmp_path, "mine.json")


def test_a_cut_file_and_several_files_are_named(tmp_path: Path) -> None:
    pictures(tmp_path, *THREE)
    text = json.dumps(content(THREE))
    write(tmp_path / "cut.json", text[:-20])
    with pytest.raises(DataError, match=naming("cut.json", "no JSON")):
        read(tmp_path, "cut.json")
    for name in ("instances_one.json", "instances_two.json"):
        write(tmp_path / "annotations" / name, text)
    with pytest.raises(DataError, match=naming("instances_one.json", "instances_two.json", "name one")):
        read(tmp_path)


def test_a_manifest_that_is_json_is_no_coco_file(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    rows = [{"path": "a.png", "labels": ["cat"]}, {"path": "b.png", "labels": ["annotations", '"images": [']}]
    save(tmp_path / "rows.json", rows)
    assert read(tmp_path, "rows.json").label_names == ()
    save(tmp_path / "usb.json", {str(k): row for k, row in enumerate(rows)})
    assert read(tmp_path, "usb.json").label_names == ()


def test_a_released_data_set_points_to_the_manifest(tmp_path: Path) -> None:
    pictures(tmp_path / "images", *THREE)
    file = save(tmp_path / "annotations" / "instances_default.json", content(THREE))

    def failure() -> str:
        with pytest.raises(DataError) as caught:
            SOURCES["coco2017"](settings(dataset="coco2017", data_dir=tmp_path))
        return str(caught.value)

    assert has_line(failure(), "dataset: manifest", "annotations/instances_default.json")
    data = content(THREE)
    for image in data["images"]:
        image["id"] = f"x{image['id']}"
    for part in ("train", "val"):
        save(file.with_name(f"instances_{part}2017.json"), data)
        pictures(tmp_path / f"{part}2017", *THREE)
    assert has_line(failure(), "dataset: manifest", "instances_train2017.json")
    for part in ("train", "val"):
        save(file.with_name(f"instances_{part}2017.json"), content(THREE, [*CATEGORIES, {"id": 9, "name": "cat"}]))
    assert has_line(failure(), "dataset: manifest", "cat")
