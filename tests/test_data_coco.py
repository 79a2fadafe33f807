from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import SOURCES, DataError, Source, check_source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers import coco
from tests.conftest import assert_problems, naming, settings
from tests.trees import write_coco

# The category ids of the images; 1, 13, 25 and 90 are the labels 0, 11, 23 and 79, ids having gaps.
TRAIN = [[1, 90, 1], [], [13], [25, 13]]
VAL = [[90], [2, 3]]
LABELS = [[0, 79], [], [11], [11, 23]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path, 2014, {"train": TRAIN, "val": VAL})


def load(data_dir: Path, dataset: str = "coco2014", **options: Any) -> Source:
    return SOURCES[dataset](settings(dataset=dataset, data_dir=data_dir, **options))


def numbers(targets: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in targets]


def change(root: Path, part: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "annotations" / f"instances_{part}2014.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_reads_the_released_layout(root: Path) -> None:
    source = load(root)
    check_source(source)
    assert (source.name, source.kind) == ("coco2014", "image")
    assert len(source.label_names) == 80
    assert source.label_names[:2] + source.label_names[11:13] == ("thing 1", "thing 2", "thing 13", "thing 14")
    assert source.label_names[-1] == "thing 90"
    assert numbers(source.targets) == LABELS
    assert numbers(source.test_targets) == [[79], [1, 2]]
    assert source.targets.max() == 1
    assert source.train_ids[1] == "COCO_train2014_000000001007.jpg"
    assert list(source.test_ids) == ["COCO_val2014_000000000007.jpg", "COCO_val2014_000000001007.jpg"]
    assert isinstance(source.train, ImageFiles)
    assert source.train.paths[3] == str(root / "train2014" / "COCO_train2014_000000003007.jpg")
    assert source.train[3].shape == (3, 20, 24)
    assert source.problems == ()


def test_crowd_annotations_are_labels(root: Path) -> None:
    def all_crowds(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1

    change(root, "train", all_crowds)
    assert numbers(load(root).targets) == LABELS


def test_coco2017_and_images_in_a_separate_folder(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", 2017, {"train": TRAIN, "val": VAL}, below="images")
    source = load(tmp_path, "coco2017")
    assert source.name == "coco2017"
    assert numbers(source.targets) == LABELS
    assert isinstance(source.test, ImageFiles)
    assert source.test.paths[0].startswith(str(tmp_path / "coco" / "images" / "val2017"))
    assert load(tmp_path / "coco", "coco2017").fingerprint == source.fingerprint
    with pytest.raises(DataError, match=naming("instances_train2014.json", "missing")):
        load(tmp_path, "coco2014")


def test_parts_can_be_swapped_but_not_shared(root: Path) -> None:
    swapped = load(root, train_part="val", test_part="train")
    assert (len(swapped.targets), len(swapped.test_targets)) == (2, 4)
    with pytest.raises(DataError, match=naming("train_part: val", "test_part: val")):
        load(root, train_part="val")
    with pytest.raises(DataError, match=naming("test_part: test", "'coco2014'", "train, val", "auto")):
        load(root, test_part="test")


def test_annotation_files_are_parsed_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = coco._parse
    monkeypatch.setattr(coco, "_parse", lambda path: (parsed.append(path.name), parse(path))[1])
    cache = str(tmp_path / "cache")
    first, second = load(root, cache_dir=cache), load(root, cache_dir=cache)
    assert parsed == ["instances_train2014.json", "instances_val2014.json"]
    assert first.fingerprint == second.fingerprint
    assert second.label_names == first.label_names
    change(root, "val", lambda content: content["annotations"].pop())
    os.utime(root / "annotations" / "instances_val2014.json", (1, 1))
    assert load(root, cache_dir=cache).fingerprint != first.fingerprint
    assert parsed[2:] == ["instances_val2014.json"]


def test_annotations_of_unknown_images_and_categories_are_problems(root: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["annotations"] += [
            {"image_id": 5, "category_id": 1},
            {"category_id": 1},
            {"image_id": 2007, "category_id": 91},
            {"image_id": 2007, "category_id": 91},
            {"image_id": 3007, "category_id": "25"},
            {"image_id": 7, "category_id": 12},
        ]

    change(root, "train", edit)
    source = load(root)
    # Six annotations of the tree precede the added ones.
    expected = [
        ("training", "annotation 6 (counted from 0)", "label", "image 5"),
        ("training", "annotation 7 (counted from 0)", "label", "image_id"),
        ("training", "COCO_train2014_000000000007.jpg", "label", "category 12"),
        ("training", "COCO_train2014_000000002007.jpg", "label", "category 91"),
        ("training", "COCO_train2014_000000003007.jpg", "label", "category_id"),
    ]
    assert_problems(source.problems, expected)
    assert list(source.train_ids) == ["COCO_train2014_000000001007.jpg"]
    assert numbers(source.targets) == [[]]
    assert numbers(source.test_targets) == [[79], [1, 2]]


def test_bad_images_are_problems_and_their_annotations_go_with_them(root: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = "../secret.jpg"
        content["images"][2]["file_name"] = None
        content["images"] += [{"id": 3007, "file_name": "again.jpg"}, {"id": 1.5, "file_name": "half.jpg"}]
        # The first is of no image, not of the one without an id; the second goes with its image.
        content["annotations"] += [{"category_id": 1}, {"image_id": 7, "category_id": 99}]

    change(root, "train", edit)
    source = load(root)
    expected = [
        ("training", "image 2 (counted from 0)", "row", "id", "file_name"),
        ("training", "image 5 (counted from 0)", "row", "id", "file_name"),
        ("training", "again.jpg", "row", "id 3007", "before"),
        ("training", "../secret.jpg", "outside"),
        ("training", "annotation 6 (counted from 0)", "label", "image_id"),
    ]
    assert_problems(source.problems, expected)
    assert list(source.train_ids) == ["COCO_train2014_000000001007.jpg", "COCO_train2014_000000003007.jpg"]
    assert numbers(source.targets) == [[], [11, 23]]


def test_parts_of_different_categories_are_refused(root: Path) -> None:
    change(root, "val", lambda content: content["categories"].pop(0))
    with pytest.raises(DataError, match=naming("instances_val2014.json", "category 90", "thing 90")):
        load(root)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.pop("annotations"), ("'annotations'", "list", "instances_")),
        (lambda content: content.update(images=[3]), ("'images'", "list")),
        (lambda content: content.update(images=[]), ("no images", "extract")),
        (lambda content: content.update(categories=[]), ("no categories",)),
        (lambda content: content["categories"][3].update(id=90), ("category", "own id", "own name")),
        (lambda content: content["categories"][3].pop("name"), ("category", "own id", "own name")),
        (lambda content: content["categories"][3].update(id="4"), ("category", "own id", "own name")),
    ],
)
def test_unusable_annotation_files_are_named(
    root: Path, edit: Callable[[dict[str, Any]], Any], message: tuple[str, ...]
) -> None:
    change(root, "train", edit)
    with pytest.raises(DataError, match=naming("instances_train2014.json", *message)):
        load(root)


def test_no_annotations_at_all_leave_images_without_labels(root: Path) -> None:
    change(root, "train", lambda content: content.update(annotations=[]))
    assert numbers(load(root).targets) == [[], [], [], []]


def test_missing_and_broken_files_are_named(root: Path) -> None:
    path = root / "annotations" / "instances_val2014.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=naming("instances_val2014.json", "no JSON", "extract")):
        load(root)
    path.unlink()
    with pytest.raises(DataError, match=naming("instances_val2014.json", "missing", "data_dir")):
        load(root)
    (root / "annotations_trainval2014.zip").touch()
    (root / "annotations" / "instances_train2014.json").rename(root / "aside")
    with pytest.raises(DataError, match=naming("semilearn-bbam prepare coco2014", "annotations_trainval2014.zip")):
        load(root)
    (root / "aside").rename(root / "annotations" / "instances_train2014.json")
    (root / "train2014").rename(root / "elsewhere")
    with pytest.raises(DataError, match=naming("images", "train2014", "missing", "data_dir")):
        load(root)
    (root / "train2014.zip").touch()
    with pytest.raises(DataError, match=naming("images", "train2014", "missing", "prepare coco2014", "train2014.zip")):
        load(root)
