"""Small trees in the layouts in which data sets are released, for the tests of their readers and of whole runs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semilearn_bbam.data.readers.ohsumed import CODES, TREE
from semilearn_bbam.data.readers.voc import CLASSES

# The ids of the 80 categories of COCO: 1 to 90 without these.
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_GAPS)


def write_picture(path: Path, size: tuple[int, int] = (24, 20)) -> None:
    """A JPEG of noise that follows from its name, (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path, "JPEG")


def write_voc(root: Path, year: int, parts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Path:
    """`<root>/VOCdevkit/VOC<year>`; `parts` gives list -> image id -> class -> 1 or 0, every other class being -1."""
    tree = root / "VOCdevkit" / f"VOC{year}"
    lists = tree / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    for part, images in parts.items():
        for name in CLASSES:
            lines = [f"{image} {values.get(name, -1):2d}\n" for image, values in images.items()]
            (lists / f"{name}_{part}.txt").write_text("".join(lines))
        for image in images:
            write_picture(tree / "JPEGImages" / f"{image}.jpg")
    return tree


def write_coco(root: Path, year: int, parts: Mapping[str, Sequence[Sequence[int]]], below: str = "") -> Path:
    """`<root>/annotations` and images in `<root>/<below>`; `parts` gives part -> category ids of each image.

    An id that is given twice is two annotations, of which every second is a crowd. Image number i of a part has
    the id 1000 i + 7 and its annotations come in the reverse order of the images, categories from the last to
    the first, so that nothing is in order by chance.
    """
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for part, images in parts.items():
        names = [f"COCO_{part}{year}_{1000 * i + 7:012d}.jpg" for i in range(len(images))]
        pairs = [(1000 * i + 7, category) for i, categories in enumerate(images) for category in categories]
        content = {
            "info": {"year": year},
            "images": [{"file_name": name, "id": 1000 * i + 7, "height": 20} for i, name in enumerate(names)],
            "annotations": [
                {"segmentation": [[1.5, 2.5]], "iscrowd": n % 2, "image_id": image, "category_id": category, "id": n}
                for n, (image, category) in enumerate(reversed(pairs))
            ],
            "categories": [{"supercategory": "thing", "id": k, "name": f"thing {k}"} for k in reversed(COCO_IDS)],
        }
        (root / "annotations" / f"instances_{part}{year}.json").write_text(json.dumps(content))
        (root / below / f"{part}{year}").mkdir(parents=True, exist_ok=True)
        for name in names:
            write_picture(root / below / f"{part}{year}" / name)
    return root


def write_awa2(
    root: Path,
    images: Mapping[str, int],
    test_classes: Sequence[str],
    matrix: Sequence[Sequence[int]],
) -> Path:
    """`<root>/Animals_with_Attributes2` with `images` of each class and a row of `matrix` for each class."""
    tree = root / "Animals_with_Attributes2"
    tree.mkdir(parents=True, exist_ok=True)
    attributes = [f"attribute{k}" for k in range(len(matrix[0]))]
    for file, names in (("classes.txt", list(images)), ("predicates.txt", attributes)):
        (tree / file).write_text("".join(f"{k:6d}\t{name}\n" for k, name in enumerate(names, start=1)))
    (tree / "predicate-matrix-binary.txt").write_text("".join(" ".join(map(str, row)) + " \n" for row in matrix))
    (tree / "testclasses.txt").write_text("".join(f"{name}\n" for name in test_classes))
    (tree / "trainclasses.txt").write_text("".join(f"{name}\n" for name in images if name not in test_classes))
    for name, count in images.items():
        for i in range(count):
            write_picture(tree / "JPEGImages" / name / f"{name}_{10001 + i}.jpg")
    return tree


def write_aapd(
    root: Path,
    parts: Mapping[str, Sequence[tuple[str, Sequence[str]]]],
    form: str = "lines",
    labels: Sequence[str] = (),
) -> Path:
    """Parts of (text, labels) as `text_<part>` and `label_<part>` or, by `form="json"`, as `<part>.json`.

    `labels` are the names in the order of `labels.json`; without them there is no such file.
    """
    root.mkdir(parents=True, exist_ok=True)
    for part, documents in parts.items():
        if form == "json":
            rows = [{"text": text, "label": list(names)} for text, names in documents]
            (root / f"{part}.json").write_text(json.dumps(rows))
            continue
        (root / f"text_{part}").write_text("".join(f"{text}\n" for text, _ in documents), encoding="utf-8")
        (root / f"label_{part}").write_text("".join(f"{' '.join(names)}\n" for _, names in documents))
    if labels:
        (root / "labels.json").write_text(json.dumps({name: k for k, name in enumerate(labels)}))
    return root


def write_corel5k(
    root: Path, train: Mapping[int, Sequence[int]], test: Mapping[int, Sequence[int]], words: int = 374
) -> Path:
    """Photographs and lists in `root`; `train` and `test` give id -> numbers of words, from 1 to `words`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "words").write_text("".join(f"word{k}\r\n" for k in range(1, words + 1)), newline="")
    for list_name, folder, rows in (("training_label", "train_jpeg", train), ("test_label", "test_jpeg", test)):
        lines = [f"{image} {' '.join(map(str, numbers))}  \r\n" for image, numbers in rows.items()]
        (root / list_name).write_text("".join(lines), newline="")
        (root / folder).mkdir(exist_ok=True)
        for image in rows:
            write_picture(root / folder / f"{image}.jpeg", (24, 16))
    return root


def write_ohsumed(
    root: Path,
    training: Mapping[str, tuple[str, Sequence[str]]],
    test: Mapping[str, tuple[str, Sequence[str]]],
) -> Path:
    """`<root>/ohsumed-first-20000-docs`; `training` and `test` give document id -> (content, its categories)."""
    tree = root / TREE
    for part, documents in (("training", training), ("test", test)):
        for code in CODES:
            (tree / part / code).mkdir(parents=True)
        for document, (content, codes) in documents.items():
            for code in codes:
                (tree / part / code / document).write_text(content, encoding="latin-1")
    return tree
