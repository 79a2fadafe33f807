"""YOLO label files: a text file per image with a line per object, whose first number is a class."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.problems import SHOWN
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.forms.files import (
    Collector,
    ImageFinder,
    images_below,
    part_of,
    shown,
    subfolders,
    walk,
)
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.data.readers.tables import brief, read_text

YAML_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAME_FILES = ("obj.names", "classes.txt", "classes.names", "labels.txt")
LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")
PART_KEYS = ("train", "val", "test")
CURE = "export it again, or fix the files"


@dataclass(frozen=True)
class Classes:
    """The names of the classes by number, and the file that says them ("" where none does)."""

    names: dict[int, str]
    where: str


def matches(path: Path) -> bool:
    """A data.yaml, or a folder with one, or with names of classes and label files."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return path.is_dir() and (any(_names_classes(path / name) for name in YAML_FILES) or _has_labels(path))


def _names_classes(file: Path) -> bool:
    try:
        return b"names" in file.read_bytes()
    except OSError:
        return False


def read(root: Path, path: Path, part: str, settings: Namespace) -> Entries:
    """Images with the names of the classes in their label files; an image without a file, or an object, has no label.

    The label file of `images/a.jpg` is `labels/a.txt`, that of another image is next to it. Classes are named by
    data.yaml, obj.names or classes.txt, else their numbers are their names. Parts are those of data.yaml, of lists
    such as train.txt, or folders train, val and test. DataError for an unusable data.yaml.
    """
    top = path if path.is_dir() else path.parent
    file = path if path.is_file() else _first(path, YAML_FILES)
    content = _load_yaml(file) if file else {}
    classes = _classes(top, file, content)
    finder = ImageFinder([top, top.parent] if top != root else [top], [top])
    images = _images(root, top, file, content, finder)
    collector = Collector(root, part)
    rows = [(image, name, data_part, _label_file(image) if image else None) for image, name, data_part in images]
    used: set[int] = set()
    for image, name, data_part, labels in rows:
        if image is None:
            collector.problem(name, "missing", finder.find(name)[1])
            continue
        try:
            numbers = read_numbers(labels, classes) if labels else None
        except ValueError as error:
            collector.problem(shown(root, image), "label", f"{shown(root, labels or image)}{error}")
            continue
        used |= set(numbers or ())
        collector.add(image, None if numbers is None else [_name(classes, k) for k in numbers], data_part)
    notes = list(finder.notes)
    if any(collector.entries.parts):
        notes.append(
            f"parts are those of {file.name if file and content.keys() & set(PART_KEYS) else 'lists or folders'}"
        )
    if not classes.where:
        notes.append(f"{shown(root, top)}: no data.yaml, obj.names or classes.txt names the classes; numbers are names")
    lone = _without_image(top, {labels for *_, labels in rows})
    for labels in lone:
        collector.problem(shown(root, labels), "missing", "the image of this label file")
    numbers = sorted(classes.names) if classes.where else sorted(used)
    return collector.finish(path, [_name(classes, k) for k in numbers], notes, CURE)


def read_numbers(file: Path, classes: Classes) -> list[int]:
    """The numbers of the classes of one label file, each once; ValueError with the rest of a sentence otherwise."""
    numbers: dict[int, None] = {}
    try:
        lines = read_text(file).split("\n")
    except DataError as error:
        raise ValueError(f": {error}") from error
    for line_number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise ValueError(f", line {line_number} is {brief(line.strip())}, not numbers") from error
        if len(values) < 5 or not values[0].is_integer() or values[0] < 0:
            raise ValueError(f", line {line_number} is {brief(line.strip())}, not a class and four numbers of a box")
        number = int(values[0])
        if classes.where and number not in classes.names:
            raise ValueError(
                f", line {line_number}: class {number} is none of the {len(classes.names)} of {classes.where}"
            )
        numbers[number] = None
    return list(numbers)


def _name(classes: Classes, number: int) -> str:
    return classes.names.get(number, str(number))


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _has_labels(path: Path) -> bool:
    """Whether label files are in `labels/`, or next to images with the names of the classes at the top."""
    tops = [path, *(folder for folder in subfolders(path) if part_of(folder.name))]
    if any((top / "images").is_dir() and (top / "labels").is_dir() for top in tops):
        return any(
            files and _is_label_file(place / files[0]) for top in tops for place, files in _texts(top / "labels")
        )
    return _first(path, NAME_FILES) is not None and any(
        _is_label_file(place / name) for place, names in _texts(path) for name in names[: 2 * SHOWN]
    )


def _texts(folder: Path) -> Iterable[tuple[Path, list[str]]]:
    """Each folder with its text files that may be label files."""
    for place, _, files in walk(folder):
        yield place, [n for n in files if n.lower().endswith(".txt") and n not in (*NAME_FILES, *LISTS)]


def _is_label_file(file: Path) -> bool:
    """Whether the first line of a file is that of an object; an empty file may be one too."""
    try:
        words = file.read_bytes()[:2048].decode("utf-8-sig", "replace").split("\n")[0].split()
        return not words or (len(words) >= 5 and all(-1e9 < float(word) < 1e9 for word in words[:5]))
    except (OSError, ValueError):
        return False


def _load_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is no YAML ({' '.join(str(error).split())}); fix the file") from error
    if not isinstance(content, dict) or not ({"names", *PART_KEYS} & content.keys()):
        raise DataError(f"{file} has no names and no train, so it is no data.yaml of YOLO; name another file")
    return content


def _classes(top: Path, file: Path | None, content: dict[str, Any]) -> Classes:
    names = content.get("names")
    if isinstance(names, dict) and all(isinstance(k, int) or str(k).isdecimal() for k in names):
        return _checked({int(k): str(name).strip() for k, name in names.items()}, file)
    if isinstance(names, list):
        return _checked({k: str(name).strip() for k, name in enumerate(names)}, file)
    if names is not None:
        raise DataError(f"{file}: names is {brief(names)}, not a list of names or a name by number; fix the file")
    named = next((found for place in (top, top / "labels") if (found := _first(place, NAME_FILES))), None)
    if named is None:
        return Classes({}, "")
    lines = read_text(named).rstrip().split("\n")
    return _checked({k: line.strip() for k, line in enumerate(lines)}, named)


def _checked(names: dict[int, str], file: Path | None) -> Classes:
    number_of: dict[str, int] = {}
    for number, name in names.items():
        if not name:
            raise DataError(f"{file}: class {number} has no name; give it one")
        if name in number_of:
            raise DataError(f"{file}: classes {number_of[name]} and {number} have the name {brief(name)}; rename one")
        number_of[name] = number
    return Classes(names, file.name if file else "")


def _images(
    root: Path, top: Path, file: Path | None, content: dict[str, Any], finder: ImageFinder
) -> list[tuple[Path | None, str, str]]:
    """Each image with its name and its part; None for one that a list names and that is not there."""
    rows: list[tuple[Path | None, str, str]] = []
    sources = {key: content.get(key) for key in PART_KEYS if content.get(key)}
    for key, values in sources.items():
        for value in values if isinstance(values, list) else [values]:
            place = _place(top, content.get("path"), value)
            if place is None:
                raise DataError(
                    f"{file}: {key} is {brief(value)}, which is not there; write a path from the file's folder"
                )
            rows += _listed(root, place, part_of(key), finder)
    lists = [top / name for name in LISTS if (top / name).is_file()]
    if not sources:
        for text in lists:
            rows += _listed(root, text, part_of(text.stem), finder)
    if not rows:
        rows = [(image, shown(root, image), _part_in(top, image)) for image in images_below(top)]
    names = {image: part for image, _, part in rows if image}
    for image, name, part in rows:
        if image and names[image] != part:
            raise DataError(f"{name} is in the parts {part} and {names[image]} of {file or top}; leave it in one")
    unique = {image or Path(name): (image, name, part) for image, name, part in rows}
    return list(unique.values())


def _place(top: Path, base: Any, value: Any) -> Path | None:
    """A folder or list of data.yaml, as written or, from another machine, by its last folders."""
    if not isinstance(value, str) or not value.strip():
        return None
    parts = PurePosixPath(value.strip().replace("\\", "/")).parts
    inside = [part for part in parts if part not in (".", "..", "/")]
    tops = [top / base, top] if isinstance(base, str) else [top]
    tried = [place.joinpath(*parts) for place in tops] + [top.joinpath(*inside[start:]) for start in range(len(inside))]
    return next((Path(os.path.normpath(place)) for place in tried if place.exists()), None)


def _listed(root: Path, place: Path, part: str, finder: ImageFinder) -> list[tuple[Path | None, str, str]]:
    if place.is_dir():
        return [(image, shown(root, image), part) for image in images_below(place)]
    names = [line.strip() for line in read_text(place).split("\n") if line.strip()]
    listed = [(place.parent / name, name) for name in names]
    return [(path if path.is_file() else finder.find(name)[0], name, part) for path, name in listed]


def _part_in(top: Path, image: Path) -> str:
    """The part that a folder of an image below `top` is called."""
    return next((part for name in image.relative_to(top).parts[:-1] if (part := part_of(name))), "")


def _label_file(image: Path) -> Path | None:
    """`labels/` instead of the last `images/`, else next to the image; None where there is no such file."""
    parts = list(image.parts)
    candidates = [image.with_suffix(".txt")]
    if "images" in parts[:-1]:
        position = len(parts) - 2 - parts[:-1][::-1].index("images")
        candidates.insert(0, Path(*parts[:position], "labels", *parts[position + 1 :]).with_suffix(".txt"))
    return next((file for file in candidates if file.is_file()), None)


def _without_image(top: Path, used: set[Path | None]) -> list[Path]:
    """Label files in the folders of `used` ones for which there is no image anywhere."""
    stems = {image.stem for image in images_below(top)}
    folders = sorted({file.parent for file in used if file})
    texts = [
        folder / name for folder in folders for place, names in _texts(folder) if place == folder for name in names
    ]
    return [file for file in texts if file.stem not in stems and _is_label_file(file)]


YOLO = Form("YOLO label files", matches, read)
