"""`dataset: coco2014` and `coco2017`: COCO photographs, a label for each of the 80 kinds of object they show."""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, register_source
from semilearn_bbam.data.fingerprint import files_key
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers.parts import choose_parts
from semilearn_bbam.data.readers.tables import read_text
from semilearn_bbam.data.releases import cure
from semilearn_bbam.data.remember import Arrays, remembered

LONGEST_NAME = 255  # characters; one endless name would widen the array for all
OF_RELEASE = "take the file instances_... of the release"
OWN = "; a COCO json of your own is read by dataset: manifest, with manifest: {}"
UNKNOWN = -1  # an id that is missing or no whole number


Categories = tuple[tuple[int, str], ...]  # (id, name) in the order of the ids


@register_source("coco2014", "image")
def load_coco2014(args: argparse.Namespace) -> Source:
    """COCO 2014, train2014 as training part and val2014 as test part (82,783 and 40,504 images); see `load_coco`."""
    return load_coco(args, 2014)


@register_source("coco2017", "image")
def load_coco2017(args: argparse.Namespace) -> Source:
    """COCO 2017, train2017 as training part and val2017 as test part (118,287 and 5,000 images); see `load_coco`."""
    return load_coco(args, 2017)


def load_coco(args: argparse.Namespace, year: int) -> Source:
    """`annotations/instances_{train,val}<year>.json` with images in `train<year>/` or `images/train<year>/`.

    An image has the labels of all its annotations, `iscrowd` ones included. Labels are in the order of the
    category ids, which have gaps. Images without any label are kept. An annotation of an unknown image or category
    is a problem; DataError for missing or broken files and for parts whose categories differ. The annotation files
    are parsed once; the parts that are needed are kept in the cache folder.
    """
    name = f"coco{year}"
    choices = choose_parts(args, name, ("train", "val"), ("train", "val"))
    data_dir = data_folder(args)
    root = next((path for path in (data_dir / name, data_dir / "coco") if (path / "annotations").is_dir()), data_dir)
    (train, categories), (test, test_categories) = (
        read_part(root, f"{choice}{year}", part, args.cache_dir)
        for choice, part in zip(choices, ("training", "test"), strict=True)
    )
    if categories != test_categories:
        differing = min(set(categories) ^ set(test_categories))
        paths = " and ".join(str(_annotations(root, f"{choice}{year}")) for choice in choices)
        raise DataError(f"{paths} differ in category {differing[0]} ({differing[1]}); take both from one release")
    return Source.of(name, "image", train, test, [label for _, label in categories])


def _annotations(root: Path, name: str) -> Path:
    return root / "annotations" / f"instances_{name}.json"


def read_part(root: Path, name: str, part: str, cache_dir: str) -> tuple[Part, Categories]:
    """The images and labels of `train2014`, `val2014` and so on, with its categories; problems call it `part`."""
    path = _annotations(root, name)
    advice = cure(f"coco{name[-4:]}", [root], "set data_dir to the folder that holds them")
    if not path.is_file():
        raise DataError(f"the COCO annotations {path} are missing; {advice}{_own_file(root)}")
    folder = next((candidate for candidate in (root / name, root / "images" / name) if candidate.is_dir()), None)
    if folder is None:
        raise DataError(f"the COCO images {root / name} are missing; {advice}")
    arrays = remembered(
        cache_dir, "coco", files_key([str(path)], "images, annotations, categories"), lambda: _parse(path)
    )
    order = arrays["category_id"].argsort()
    categories = tuple((int(arrays["category_id"][k]), str(arrays["category_name"][k])) for k in order)
    keep, problems = _screen_images(arrays, part)
    targets = _targets(arrays, keep, part, problems)
    names = [str(file) for file in arrays["file_name"][keep]]
    return Part(ImageFiles([folder / file for file in names]), targets[keep], names, problems), categories


def _parse(path: Path) -> Arrays:
    """Ids and names of one annotation file as arrays; ids that are no whole numbers become `UNKNOWN`, names empty."""
    content = load_json(path)
    images, annotations, categories = (objects(path, content, key) for key in ("images", "annotations", "categories"))
    if not images or not categories:
        raise DataError(f"{path} lists no {'categories' if images else 'images'}; extract it again")
    arrays: Arrays = {
        "image_id": _whole(images, "id"),
        "file_name": np.array([_short(row.get("file_name")) for row in images], dtype=str),
        "annotation_image": _whole(annotations, "image_id"),
        "annotation_category": _whole(annotations, "category_id"),
        "category_id": _whole(categories, "id"),
        "category_name": np.array([_short(row.get("name")) for row in categories], dtype=str),
    }
    own = f"{path.parent.name}/{path.name}"
    for key, missing in (("category_id", UNKNOWN), ("category_name", "")):
        values = arrays[key]
        if len(np.unique(values)) < len(values) or (values == missing).any():
            name = next(
                (value for value in values if (values == value).sum() > 1 and value != missing), "that is missing"
            )
            what = "name" if key == "category_name" else "id"
            raise DataError(
                f"{path}: every category needs its own id and its own name, unlike the {what} {name}; extract the file "
                f"again{OWN.format(own)}"
            )
    if (arrays["image_id"] == UNKNOWN).all():
        raise DataError(
            f"{path}: no image has a whole number as id, so the file is not of the release{OWN.format(own)}"
        )
    return arrays


def _own_file(root: Path) -> str:
    """Where there are other json files: how one of them is read."""
    files = sorted(path for pattern in ("*.json", "annotations/*.json") for path in root.glob(pattern))
    return OWN.format(files[0].relative_to(root)) if files else ""


def load_json(path: Path, advice: str = "extract it again") -> Any:
    """The content of a large JSON file; DataError with the advice if it is none."""
    text, collects = read_text(path), gc.isenabled()
    # Millions of new lists make the garbage collector look through all of them many times in vain.
    gc.disable()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); {advice}") from error
    finally:
        if collects:
            gc.enable()


def objects(path: Path, content: Any, key: str, advice: str = OF_RELEASE) -> list[dict[str, Any]]:
    """The list of objects under a key; DataError with the advice if there is none."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} has no list of objects {key!r}; {advice}")
    return rows


def _whole(rows: list[dict[str, Any]], key: str) -> NDArray[np.int64]:
    values = (row.get(key) for row in rows)
    return np.array([v if type(v) is int and 0 <= v < 2**62 else UNKNOWN for v in values], dtype=np.int64)


def _short(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable() else ""


def _screen_images(arrays: Arrays, part: str) -> tuple[NDArray[np.bool_], list[Problem]]:
    """Mask [N] of the images that can be used, each id once, and the problems of the others."""
    ids, names = arrays["image_id"], arrays["file_name"]
    keep = np.zeros(len(ids), dtype=bool)
    keep[np.unique(ids, return_index=True)[1]] = True
    nameless = (ids == UNKNOWN) | (names == "")
    problems = [
        Problem(part, f"image {row} (counted from 0)", "row", "has no whole id or no file_name")
        for row in np.flatnonzero(nameless)
    ]
    for row in np.flatnonzero(~keep & ~nameless):
        problems.append(Problem(part, str(names[row]), "row", f"image id {ids[row]} occurs before"))
    keep &= ~nameless
    for row in np.flatnonzero(keep):
        file = PurePath(str(names[row]))
        if file.is_absolute() or ".." in file.parts:
            problems.append(Problem(part, str(file), "outside"))
            keep[row] = False
    return keep, problems


def _targets(arrays: Arrays, keep: NDArray[np.bool_], part: str, problems: list[Problem]) -> NDArray[np.float32]:
    """Targets [N,K] of all images; images of unknown categories leave `keep` and become `problems`."""
    image, category = arrays["annotation_image"], arrays["annotation_category"]
    row, known = _find(arrays["image_id"], image)
    column, in_categories = _find(np.sort(arrays["category_id"]), category)
    for number in np.flatnonzero(~known):
        detail = "image_id is missing" if image[number] == UNKNOWN else f"image {image[number]} is unknown"
        problems.append(Problem(part, f"annotation {number} (counted from 0)", "label", detail))
    unknown = known & ~in_categories & keep[row]
    for image_row, value in np.unique(np.stack([row[unknown], category[unknown]], axis=1), axis=0):
        detail = "an annotation without category_id" if value == UNKNOWN else f"category {value} is unknown"
        problems.append(Problem(part, str(arrays["file_name"][image_row]), "label", detail))
        keep[image_row] = False
    targets = np.zeros((len(keep), len(arrays["category_id"])), dtype=np.float32)
    targets[row[known & in_categories], column[known & in_categories]] = 1.0
    return targets


def _find(ids: NDArray[np.int64], queries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first position of each query in `ids`, 0 where it does not occur, and a mask of those that occur."""
    unique, first = np.unique(ids, return_index=True)
    position = np.minimum(np.searchsorted(unique, queries), len(unique) - 1)
    occurs = (unique[position] == queries) & (queries != UNKNOWN)
    return np.where(occurs, first[position], 0), occurs
