"""`dataset: voc2012` and `voc2007`: PASCAL VOC photographs with image-level labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, register_source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers.parts import choose_parts
from semilearn_bbam.data.readers.tables import read_text
from semilearn_bbam.data.releases import cure

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
DIFFICULT = {"negative": 0, "positive": 1, "unknown": -1}  # targets of the choices of voc_difficult
XML = ("Annotations/*.xml", "VOC*/Annotations/*.xml", "VOCdevkit/VOC*/Annotations/*.xml")


@register_source("voc2012", "image")
def load_voc2012(args: argparse.Namespace) -> Source:
    """VOC 2012, list train as training part and list val as test part (5,717 and 5,823 images); see `load_voc`."""
    return load_voc(args, 2012, ("train", "val"), ("train", "val", "trainval"))


@register_source("voc2007", "image")
def load_voc2007(args: argparse.Namespace) -> Source:
    """VOC 2007, list trainval as training part and list test as test part (5,011 and 4,952); see `load_voc`."""
    return load_voc(args, 2007, ("trainval", "test"), ("train", "val", "trainval", "test"))


def load_voc(args: argparse.Namespace, year: int, usual: tuple[str, str], lists: Sequence[str]) -> Source:
    """The image-level lists of `ImageSets/Main`, 20 labels; `usual` is what `train_part` and `test_part: auto` mean.

    `data_dir` may be the folder VOC<year>, VOCdevkit around it or the folder that holds VOCdevkit. The lists have 0
    for an image that shows only difficult instances of a class: `voc_difficult: negative` makes it a negative of
    that class, `positive` a positive, and `unknown` leaves the entry out of training and evaluation.
    An image without a valid entry in all 20 lists is a problem; DataError if a folder or a list is missing.
    """
    name = f"voc{year}"
    train_list, test_list = choose_parts(args, name, usual, lists)
    root = find_tree(data_folder(args), year)
    difficult = DIFFICULT[args.voc_difficult]
    zeros = []

    def read(list_name: str, part: str) -> Part:
        ids, values, problems = read_lists(root, year, list_name, part)
        zeros.append(int((values == 0).sum()))
        files = ImageFiles([root / "JPEGImages" / file for file in ids])
        return Part(files, np.where(values == 0, difficult, values > 0).astype(np.float32), ids, problems)

    train, test = read(train_list, "training"), read(test_list, "test")
    note = (
        f"{zeros[0]} training and {zeros[1]} test entries with only difficult instances count as "
        f"{args.voc_difficult} (voc_difficult)"
    )
    return Source.of(name, "image", train, test, CLASSES, notes=[note])


def find_tree(data_dir: Path, year: int) -> Path:
    """The folder VOC<year> with ImageSets/Main and JPEGImages at or below `data_dir`, else DataError."""
    tree = f"VOC{year}"
    # A folder of another year has lists of the same names.
    candidates = [] if data_dir.name.startswith("VOC2") and data_dir.name != tree else [data_dir]
    for root in (*candidates, data_dir / tree, data_dir / "VOCdevkit" / tree):
        if (root / "ImageSets" / "Main").is_dir() and (root / "JPEGImages").is_dir():
            return root
    advice = cure(f"voc{year}", [data_dir], "set data_dir to the folder that holds it")
    raise DataError(f"no {tree} folder with ImageSets/Main and JPEGImages at {data_dir}; {advice}{_own_xml(data_dir)}")


def read_lists(root: Path, year: int, list_name: str, part: str) -> tuple[list[str], NDArray[np.int8], list[Problem]]:
    """File names, values -1, 0 or 1 [N,20] from `<class>_<list_name>.txt`, and the images that lack a value."""
    columns: list[dict[str, int]] = []
    faults: dict[str, str] = {}
    for name in CLASSES:
        path = root / "ImageSets" / "Main" / f"{name}_{list_name}.txt"
        if not path.is_file():
            # VOC2007 has no list of the test part before its second archive is extracted.
            archive = "VOCtest" if list_name == "test" else "VOCtrainval"
            advice = cure(f"voc{year}", root.parents[:2], f"extract the {archive} archive again")
            raise DataError(f"the VOC list {path} is missing; {advice}{_own_xml(root)}")
        columns.append(_read_list(path, faults))
    ids, problems = [], []
    for image in dict.fromkeys(chain(*columns, faults)):
        missing_from = [name for name, column in zip(CLASSES, columns, strict=True) if image not in column]
        if image in faults or missing_from:
            detail = faults.get(image) or f"not in {missing_from[0]}_{list_name}.txt"
            problems.append(Problem(part, f"{image}.jpg", "row", detail))
        elif "/" in image or not image.isprintable():
            problems.append(Problem(part, f"{image}.jpg", "outside"))
        else:
            ids.append(image)
    values = np.array([[column[image] for column in columns] for image in ids], dtype=np.int8)
    return [f"{image}.jpg" for image in ids], values.reshape(len(ids), len(CLASSES)), problems


def _own_xml(root: Path) -> str:
    """Where there are xml files: how those of other classes are read."""
    file = next((file for pattern in XML for file in sorted(root.glob(pattern))), None)
    if file is None:
        return ""
    return f"; VOC xml with classes of your own is read by dataset: manifest, with manifest: {file.parent.parent}"


def _read_list(path: Path, faults: dict[str, str]) -> dict[str, int]:
    """Image id -> -1, 0 or 1; the first fault of each image of a bad line goes to `faults`."""
    column: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path.name}, line {number}"
        if len(fields) != 2 or fields[1] not in ("-1", "0", "1"):
            faults.setdefault(fields[0], f"{where} is {line.strip()!r}, not an image id and -1, 0 or 1")
        elif fields[0] in column:
            faults.setdefault(fields[0], f"{where} names it again")
        else:
            column[fields[0]] = int(fields[1])
    return column
