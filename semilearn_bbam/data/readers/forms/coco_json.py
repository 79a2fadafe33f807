"""A COCO json of one's own, as CVAT, Roboflow and Label Studio export it: every category is a label."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.problems import SHOWN
from semilearn_bbam.data.readers.coco import load_json, objects
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.forms.files import Collector, ImageFinder, part_folders, part_of, shown
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.data.readers.tables import brief
from semilearn_bbam.errors import first_few

CURE = "export it again, or fix the file"
IN_FOLDER = (
    "_annotations.coco.json",
    "annotations.json",
    "result.json",
    "labels.json",
    "coco.json",
    "annotations/*.json",
)
_IMAGES = re.compile(rb'"images"\s*:\s*\[')
_OBJECTS = re.compile(rb'"(annotations|categories)"\s*:\s*\[')


@dataclass(frozen=True)
class Category:
    """A category as the file declares it; `key` is its id as text, `parent` the name of its supercategory."""

    key: str
    name: str
    parent: str


def is_coco(path: Path) -> bool:
    """Whether a file is a `.json` with lists of images and of annotations or categories."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return data.startswith(b"{") and bool(_IMAGES.search(data)) and bool(_OBJECTS.search(data))


def files_in(path: Path) -> list[tuple[Path, str]]:
    """The COCO files of a folder in the layouts of the exporters, each with its part."""
    if not path.is_dir():
        return []
    files = [(file, _part(file)) for pattern in IN_FOLDER for file in sorted(path.glob(pattern)) if is_coco(file)]
    if not files:
        for folder, part in part_folders(path):
            files += [(file, part) for name in IN_FOLDER[:-1] if is_coco(file := folder / name)]
    return files


def _part(file: Path) -> str:
    """instances_train2017.json is of the part train."""
    words = [part_of(word) for word in re.split(r"[\W_\d]+", file.stem)]
    return next((word for word in words if word), "")


def matches(path: Path) -> bool:
    return is_coco(path) if path.is_file() else bool(files_in(path))


def read(root: Path, path: Path, part: str, settings: Namespace) -> Entries:
    """Images with the names of the categories of all their annotations, crowds included.

    Ids are whole numbers or texts. An image is looked for next to the json, in `images/`, in folders that are called as
    the file, in data_dir, and by its file name alone. An image without annotations has no label. A category without
    annotations that is the supercategory of all others, as Roboflow writes one, is left out with a note. In a folder,
    the files of train, val and test are parts. DataError for unusable files and for a name of two categories.
    """
    files = [(path, "")] if path.is_file() else files_in(path)
    if len(files) > 1 and (not all(name for _, name in files) or len({name for _, name in files}) < len(files)):
        names = first_few([shown(root, file) for file, _ in files], SHOWN)
        raise DataError(f"{path} holds several COCO files that are not one train, val and test: {names}; name one")
    collector = Collector(root, part)
    notes: list[str] = []
    label_names: dict[str, None] = {}
    for file, data_part in files:
        content = load_json(file, CURE)
        images, annotations, rows = (
            objects(file, content, key, CURE) for key in ("images", "annotations", "categories")
        )
        categories = _categories(file, rows, {_key(row.get("category_id")) for row in annotations}, notes)
        label_names |= dict.fromkeys(category.name for category in categories)
        labels_of = _labels(annotations, {_key(row.get("id")) for row in images}, categories, collector)
        finder = image_finder(root, file)
        _add_images(images, labels_of, finder, data_part, collector)
        notes += finder.notes
    if len(files) > 1:
        notes.append("parts: " + ", ".join(f"{shown(root, file)} is {name}" for file, name in files))
    return collector.finish(path, list(label_names), notes, CURE)


def _key(value: Any) -> str:
    """An id as text, "" for what is no id: 7, 7.0 and "7" are the same."""
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""


def _categories(path: Path, rows: list[dict[str, Any]], used: set[str], notes: list[str]) -> list[Category]:
    """The categories in the order of their ids, each with its own name."""
    categories = []
    for number, row in enumerate(rows):
        name, parent = row.get("name"), row.get("supercategory")
        key = _key(row.get("id"))
        if not key or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: category {brief(row)} (number {number}, from 0) needs an id and a name; {CURE}")
        categories.append(Category(key, name.strip(), parent.strip() if isinstance(parent, str) else ""))
    if not categories:
        raise DataError(f"{path} lists no categories; {CURE}")
    if all(category.key.isdecimal() and category.key.isascii() for category in categories):
        categories.sort(key=lambda category: int(category.key))
    for category in categories:
        others = [other for other in categories if other is not category]
        is_parent = bool(others) and all(other.parent == category.name for other in others)
        if is_parent and category.key not in used:
            notes.append(
                f"{path.name}: left out category {category.key} ({category.name}), the supercategory of all others, "
                f"which has no annotation"
            )
            categories = others
            break
    _check_unique(path, categories)
    return categories


def _check_unique(path: Path, categories: Sequence[Category]) -> None:
    keys_of: dict[str, list[str]] = defaultdict(list)
    names_of: dict[str, list[str]] = defaultdict(list)
    for category in categories:
        keys_of[category.name].append(category.key)
        names_of[category.key].append(category.name)
    for name, keys in keys_of.items():
        if len(keys) > 1:
            raise DataError(
                f"{path}: categories {' and '.join(keys)} have the same name {brief(name)}; rename one of them, or "
                f"give their annotations one id"
            )
    for key, names in names_of.items():
        if len(names) > 1:
            raise DataError(f"{path}: {' and '.join(map(brief, names))} have the same category id {key}; {CURE}")


def _labels(
    annotations: Iterable[dict[str, Any]], images: set[str], categories: Sequence[Category], collector: Collector
) -> dict[str, dict[str, str]]:
    """Names of the labels of each image by its id, with "" for them or what is wrong with an annotation of it."""
    name_of = {category.key: category.name for category in categories}
    labels_of: dict[str, dict[str, str]] = defaultdict(dict)
    for number, row in enumerate(annotations):
        image, key = _key(row.get("image_id")), _key(row.get("category_id"))
        if image not in images or not image:
            detail = f"image_id {brief(row.get('image_id'))} is of no image" if "image_id" in row else "has no image_id"
            collector.problem(f"annotation {number} (counted from 0)", "label", detail)
        elif key in name_of:
            labels_of[image][name_of[key]] = ""
        else:
            known = first_few([f"{key} ({name})" for key, name in name_of.items()], SHOWN)
            fault = f"category_id {brief(row.get('category_id'))} of annotation {number} is none of {known}"
            labels_of[image][""] = labels_of[image].get("") or fault
    return labels_of


def _add_images(
    images: Iterable[dict[str, Any]],
    labels_of: dict[str, dict[str, str]],
    finder: ImageFinder,
    data_part: str,
    collector: Collector,
) -> None:
    seen: set[str] = set()
    for number, row in enumerate(images):
        key, name = _key(row.get("id")), row.get("file_name")
        if not key or not isinstance(name, str) or not name.strip():
            collector.problem(f"image {number} (counted from 0)", "row", "has no id or no file_name")
            continue
        labels = labels_of.get(key, {})
        if key in seen:
            collector.problem(name, "row", f"image id {key} occurs before")
        elif "" in labels:
            collector.problem(name, "label", labels[""])
        else:
            collector.add_named(finder, name, list(labels), data_part)
        seen.add(key)


def image_finder(root: Path, file: Path) -> ImageFinder:
    """Looks for images where exporters put them, in a folder called as the file first: file names repeat in others."""
    places = [file.parent]
    if file.parent != root and file.parent.is_relative_to(root):
        places += [file.parent.parent, root]
    subset = file.stem.partition("_")[2]  # of instances_train2017
    inner = [name for name in dict.fromkeys((subset, file.stem)) if name]
    named = [place / below / name for place in places for below in ("", "images") for name in inner]
    plain = [place / below for place in places for below in ("", "images")]
    return ImageFinder([*named, *plain], places)


COCO = Form("COCO json", matches, read)
