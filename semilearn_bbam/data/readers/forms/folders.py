"""A folder per label: an image in several of them has several labels."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.overlap import content_keys
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.forms.files import (
    Collector,
    has_images,
    images_below,
    in_order,
    is_image,
    part_of,
    shown,
    subfolders,
)
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.errors import first_few

SHOWN = 3  # names in a note
CURE = "name a folder with a folder of images for each label, or a file"


def matches(path: Path) -> bool:
    """Any folder: what else a folder may be is tried before."""
    return path.is_dir()


@dataclass(frozen=True)
class _File:
    """An image, the label of its folder ("" for none) and its part."""

    path: Path
    label: str
    part: str


def read(root: Path, path: Path, part: str, settings: Namespace) -> Entries:
    """`<label>/<image>`, or `<part>/<label>/<image>` with parts such as train, val, test and unlabeled.

    Files with the same content in several folders of a part are one item with all their labels. Images next to the
    folders, and those in a folder `unlabeled`, have no label. A label of images in deeper folders is that of the first
    folder. DataError for a folder without images in folders, and for one that can be read in both ways.
    """
    parts = _parts(path)
    notes = [f"{path.name}: folders {', '.join(f.name for f in parts.values())} are parts, those in them labels"]
    if not parts:
        notes.clear()
    files = [file for name, folder in (parts or {"": path}).items() for file in _files(root, folder, name, notes)]
    labels = in_order(file.label for file in files if file.label)
    if not labels:
        raise DataError(f"{path} holds no folder with images; {CURE}")
    collector = Collector(root, part)
    several = []
    for group in _merge(files, settings.cache_dir):
        names = sorted({file.label for file in group if file.label})
        collector.add(group[0].path, names or None, group[0].part)
        several += [shown(root, group[0].path)] if len(names) > 1 else []
    if several:
        notes.append(
            f"{len(several)} images are in several folders and have several labels: {first_few(several, SHOWN)}"
        )
    return collector.finish(path, labels, notes, CURE)


def _files(root: Path, folder: Path, part: str, notes: list[str]) -> list[_File]:
    """The images of a folder of labels, which is a part or the whole."""
    files = [_File(file, "", part) for file in sorted(folder.iterdir()) if is_image(file.name) and file.is_file()]
    empty = []
    for place in subfolders(folder):
        images = images_below(place)
        if part == "unlabeled" or (not part and part_of(place.name) == "unlabeled"):
            files += [_File(file, "", "unlabeled") for file in images]
            continue
        files += [_File(file, place.name.strip(), part) for file in images]
        deep = [shown(root, file) for file in images if file.parent != place]
        if deep:
            notes.append(f"images in folders inside {place.name} have that label, such as {deep[0]}")
        empty += [] if images else [shown(root, place)]
    if empty:
        notes.append(f"{len(empty)} folders hold no image: {first_few(empty, SHOWN)}")
    return files


def _parts(path: Path) -> dict[str, Path]:
    """The folders that are parts by what they are called, none where the folders are labels.

    A folder called train that holds images itself is a label, since a part holds folders.
    """
    named: dict[str, list[Path]] = defaultdict(list)
    labels: list[Path] = []
    for folder in subfolders(path):
        inner = any(has_images(place) for place in subfolders(folder))
        part = part_of(folder.name)
        if part and (inner or part == "unlabeled"):
            named[part].append(folder)
        elif has_images(folder):
            labels.append(folder)
    parts = {part: folders[0] for part, folders in named.items()}
    if set(parts) <= {"unlabeled"}:
        return {}
    twice = next((folders for folders in named.values() if len(folders) > 1), None)
    if twice:
        raise DataError(f"{path}: {twice[0].name} and {twice[1].name} are the same part; join or rename one of them")
    if labels:
        raise DataError(
            f"{path}: {' and '.join(folder.name for folder in parts.values())} may be a part or a label, next to "
            f"{labels[0].name}; move the labels into folders of parts, or rename it"
        )
    return parts


def _merge(files: list[_File], cache_dir: str) -> list[list[_File]]:
    """The files one by one, those of equal content in several folders of a part together."""
    (keys,) = content_keys(ImageFiles([file.path for file in files]), cache_dir=cache_dir)
    groups: dict[Hashable, list[_File]] = defaultdict(list)
    for key, file in zip(keys, files, strict=True):
        groups[key, file.part].append(file)
    merged: list[list[_File]] = []
    for group in groups.values():
        merged += [group] if len({file.label for file in group}) > 1 else [[file] for file in group]
    return merged


FOLDERS = Form("a folder for each label", matches, read)
