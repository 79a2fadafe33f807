"""New items to predict for, without labels: images of a folder, lines of a text file, or rows of an array."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.data.folders import files_below
from semilearn_bbam.data.images import SUFFIXES, inspect_image
from semilearn_bbam.data.readers.tables import read_text
from semilearn_bbam.data.verify import as_arrays, notes_on_images
from semilearn_bbam.util.progress import progress_bar

PART = "input"
EXPECTED = {
    "image": "a folder of images or one image file",
    "text": "a text file with one text per line",
    "features": "an .npz or .npy file with vectors [N,D]",
}
ARRAYS = (".npz", ".npy")
KEYS = ("test_x", "x")  # of an .npz, the first that is there


@dataclass(frozen=True)
class Inputs:
    """N items of one kind, a name for each, which of them are bad, and remarks on how they are read."""

    items: Sequence[Any] | NDArray[Any]
    ids: list[str]
    problems: list[Problem]
    notes: tuple[str, ...] = ()


def read_inputs(path: Path, kind: str, *, odd_modes: bool = False, image_range: str = "auto") -> Inputs:
    """Read the items at `path`.

    Args:
        path: what `EXPECTED` says for the kind.
        kind: "image" (items are paths, named relative to the folder), "text" (named by line, from 1) or "features"
            (named by `test_id` or `id` of the archive, else by row, from 0).
        odd_modes: whether images in CMYK, palette or 16-bit modes are accepted.
        image_range: the option of that name, which the run was trained with.

    Raises:
        DataError: nothing is there, it holds another kind, or no item.
    """
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give {EXPECTED[kind]}")
    other = _other_kind(path, kind)
    if other:
        raise DataError(f"'{path}' is {other}, but the run reads {EXPECTED[kind]}; give that")
    readers = {"image": lambda path: _images(path, odd_modes, image_range), "text": _texts, "features": _vectors}
    inputs = readers[kind](path)
    if not len(inputs.items):
        raise DataError(f"'{path}' holds no item; give {EXPECTED[kind]}")
    return inputs


def _other_kind(path: Path, kind: str) -> str:
    """What the path is where it cannot be of this kind, or an empty text."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return "" if kind == "image" else "a folder"
    if suffix in ARRAYS:
        return "" if kind == "features" else "a file of arrays"
    if suffix in SUFFIXES:
        return "" if kind == "image" else "an image"
    return "" if kind == "text" else "neither image nor folder" if kind == "image" else "no file of arrays"


def _images(path: Path, odd_modes: bool, image_range: str) -> Inputs:
    files, notes = [path], []
    if path.is_dir():
        found = files_below(path)
        files = [file for file in found.files if file.suffix.lower() in SUFFIXES]
        notes = found.notes(path)
    root = path if path.is_dir() else path.parent
    ids = [file.relative_to(root).as_posix() for file in files]
    inspections = [inspect_image(str(file)) for file in progress_bar(files, "images checked")]
    kinds = ["" if one.kind == "mode" and odd_modes else one.kind for one in inspections]
    problems = [
        Problem(PART, name, kind, one.detail) for name, kind, one in zip(ids, kinds, inspections, strict=True) if kind
    ]
    sound = [row for row, kind in enumerate(kinds) if not kind]
    notes += notes_on_images(
        [(as_arrays([inspections[row] for row in sound]), [ids[row] for row in sound])], image_range
    )
    return Inputs([str(file) for file in files], ids, problems, tuple(notes))


def _texts(path: Path) -> Inputs:
    text = read_text(path).removesuffix("\n")
    lines = text.split("\n") if text else []
    ids = [str(number) for number in range(1, len(lines) + 1)]
    empty = [number for number, line in zip(ids, lines, strict=True) if not line.strip()]
    return Inputs(lines, ids, [Problem(PART, f"line {number}", "empty_text") for number in empty])


def _from_archive(path: Path, archive: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The vectors of an .npz, and its ids where it has some."""
    key = next((key for key in KEYS if key in archive.files), "")
    if not key and len(archive.files) != 1:
        held = ", ".join(archive.files) or "nothing"
        raise DataError(f"'{path}' holds {held}; name the vectors [N,D] {' or '.join(KEYS)}")
    key = key or archive.files[0]
    ids = "test_id" if key == "test_x" else "id"
    return archive[key], archive[ids] if ids in archive.files else None


def _vectors(path: Path) -> Inputs:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            vectors, given = (loaded, None) if isinstance(loaded, np.ndarray) else _from_archive(path, loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"'{path}' cannot be read ({error}); save a plain array with numpy") from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "buif":
        raise DataError(f"'{path}' must hold numbers in a table [N,D], not {vectors.dtype} {list(vectors.shape)}")
    with np.errstate(over="ignore"):  # what does not fit float32 is not finite
        vectors = vectors.astype(np.float32)
    if given is not None and given.shape != (len(vectors),):
        raise DataError(f"'{path}' must hold one id per vector, not {list(given.shape)}; correct or remove the ids")
    ids = [str(name) for name in (range(len(vectors)) if given is None else given)]
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    return Inputs(vectors, ids, [Problem(PART, f"row {ids[row]}", "not_finite") for row in bad])
