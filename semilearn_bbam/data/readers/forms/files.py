"""Files of a user's folder: the images below it, an image by the name that annotations give it, names of parts."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.data.images import SUFFIXES
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.parted import TEST, TRAIN, UNLABELED, VALIDATION

# Names of folders and files that are a part rather than a label, in lower case.
PART_OF = {
    **dict.fromkeys(("train", "training", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("unlabeled", "unlabelled"), UNLABELED),
}
NO_DATA = ("__MACOSX",)  # what archivers add


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder below `folder`, itself first, with its folders and files in order; hidden ones left out.

    Links to folders are followed; a folder that contains itself by a link is not entered again. Lazy, unlike
    `folders.files_below`, since what form a folder has is seen from its first files.
    """
    above: dict[str, frozenset[str]] = {str(folder): frozenset()}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        inside = above.pop(place, frozenset()) | {os.path.realpath(place)}
        names = (name for name in folders if not name.startswith(".") and name not in NO_DATA)
        folders[:] = sorted(name for name in names if os.path.realpath(os.path.join(place, name)) not in inside)
        above |= {os.path.join(place, name): inside for name in folders}
        yield Path(place), list(folders), sorted(name for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); check its name and rights") from error


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and in the folders in it, in order."""
    return [place / name for place, _, files in walk(folder) for name in files if is_image(name)]


def has_images(folder: Path) -> bool:
    """Whether an image is in a folder or in the folders in it."""
    return any(is_image(name) for _, _, files in walk(folder) for name in files)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in order, hidden ones left out; DataError if it cannot be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); check its name and rights") from error
    return [path for path in entries if path.is_dir() and not path.name.startswith(".") and path.name not in NO_DATA]


def part_of(name: str) -> str:
    """train, validation, test or unlabeled where a folder or a file is called so, else an empty text."""
    return PART_OF.get(name.lower(), "")


def part_folders(folder: Path) -> list[tuple[Path, str]]:
    """The folders in a folder that are called as a part, each with its part: train first, then validation and test."""
    order = list(dict.fromkeys(PART_OF.values()))
    folders = [(path, part_of(path.name)) for path in subfolders(folder) if part_of(path.name)]
    return sorted(folders, key=lambda pair: order.index(pair[1]))


def shown(root: Path, path: Path) -> str:
    """The name of a file in messages: below data_dir where it is there."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


class ImageFinder:
    """The images of a data set by the names that annotations give them, often written on another machine.

    A name is looked up below each of `folders`. Where it is in none, or leaves them, it is the only image of that file
    name below one of `tops`, tried in order; `notes` count those.
    """

    def __init__(self, folders: Iterable[Path], tops: Iterable[Path]) -> None:
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        self.tops = list(dict.fromkeys(tops))
        self._by_base_name = 0
        self._indices: dict[Path, _Index] = {}

    def find(self, name: str) -> tuple[Path | None, str]:
        """The image and "", or None and a hint on what is there instead ("" if nothing is near)."""
        name = name.strip().replace("\\", "/")
        parts = PurePosixPath(name).parts
        if not parts or "\0" in name:
            return None, ""
        if not PurePosixPath(name).is_absolute() and ".." not in parts:
            for folder in self.folders:
                if os.path.isfile(folder / name):
                    return folder / name, ""
        base, hint = parts[-1], ""
        for top in self.tops:
            index = self._indices.setdefault(top, _Index(top))
            same = index.by_name.get(base, [])
            if len(same) == 1:
                self._by_base_name += 1
                return same[0], ""
            if same:
                return None, f"{len(same)} files have that name, {same[0]} and {same[1]} among them"
            hint = hint or index.near(base)
        return None, hint

    @property
    def notes(self) -> list[str]:
        count = self._by_base_name
        return [f"{count} images are not where the annotations say; found by their file names"] if count else []


class _Index:
    """The images below a folder by file name, listed on first use."""

    def __init__(self, top: Path) -> None:
        self.top = top

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in images_below(self.top):
            by_name[path.name].append(path)
        return dict(by_name)

    @cached_property
    def _by_folded(self) -> dict[str, str]:
        return {_folded(name): name for name in reversed(self.by_name)}

    def near(self, base: str) -> str:
        """A question that names a file of another case or extension."""
        name = self._by_folded.get(_folded(base), "")
        return f"did you mean {name}?" if name else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", os.path.splitext(name)[0]).strip().casefold()


class Collector:
    """Collects the images of one form into `entries`.

    `root` is data_dir; `called` is what problems call the part that is read.
    """

    def __init__(self, root: Path, called: str) -> None:
        self.root, self.called = root, called
        self.entries = Entries("image")

    def add(self, path: Path, labels: list[str] | None, part: str = "", name: str = "") -> None:
        """An image with its labels; `part` is what the data call its part, `name` what messages call it."""
        self.entries.names.append(name or shown(self.root, path))
        self.entries.items.append(os.path.normpath(path))
        self.entries.labels.append(labels)
        self.entries.strong.append(())
        self.entries.parts.append(part)

    def add_named(
        self, finder: ImageFinder, image: str, labels: list[str] | None, part: str = "", at: str = ""
    ) -> None:
        """An image that annotations name, at a place in a file, or the problem that it is missing."""
        path, hint = finder.find(image)
        if path is None:
            self.problem(image, "missing", hint)
        else:
            self.add(path, labels, part, image)

    def problem(self, name: str, kind: str, detail: str = "") -> None:
        self.entries.problems.append(Problem(self.called, name, kind, detail))

    def finish(self, path: Path, label_names: Sequence[str], notes: Iterable[str], cure: str) -> Entries:
        """The entries; DataError with their problems and a cure if there is none."""
        if not self.entries.items:
            reason = "".join(f" ({line})" for line in describe(self.entries.problems))
            raise DataError(f"{path} has no usable image{reason}; {cure}")
        parts = [part or "train" for part in self.entries.parts] if any(self.entries.parts) else []
        return replace(self.entries, label_names=tuple(label_names), parts=parts, notes=list(notes))


def in_order(names: Iterable[str]) -> list[str]:
    """Names once each: whole numbers in their order, else alphabetically."""
    unique = set(names)
    if all(name.isascii() and name.isdecimal() for name in unique):
        return sorted(unique, key=lambda name: (int(name), name) if len(name) < 20 else (10**20, name))
    return sorted(unique)
