"""What the tests of forms of data share: pictures, and reading a file or a folder as its form."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semilearn_bbam.data.dataset import Source
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.listed import read_manifest
from semilearn_bbam.data.readers.manifest import load_manifest
from tests.conftest import settings


def picture(path: Path, seed: int | None = None) -> Path:
    """A small PNG or JPEG, whose content follows from its path unless a seed is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path).encode()) if seed is None else seed)
    Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(path)
    return path


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        picture(folder / name)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(root: Path, name: str = ".", **options: Any) -> Entries:
    return read_manifest(root, name, "training", settings(dataset="manifest", data_dir=root, manifest=name, **options))


def load(root: Path, name: str = ".", **options: Any) -> Source:
    return load_manifest(settings(dataset="manifest", data_dir=root, manifest=name, **options))


def labels_of(entries: Entries) -> dict[str, Any]:
    """File name -> labels, for entries whose file names differ."""
    pairs = {Path(item).name: labels for item, labels in zip(entries.items, entries.labels, strict=True)}
    assert len(pairs) == len(entries.items)
    return pairs


def parts_of(entries: Entries) -> dict[str, str]:
    """File name -> part."""
    return {Path(item).name: part for item, part in zip(entries.items, entries.parts, strict=True)}


def problems_of(entries: Entries) -> list[tuple[str, str, str]]:
    return [(problem.item, problem.kind, problem.detail) for problem in entries.problems]
