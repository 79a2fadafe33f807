"""Photographs for benchmarks: JPEG files that are generated, with about as many bytes as real ones of their size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semilearn_bbam.data import Source
from semilearn_bbam.data.dataset import Items, Part, take
from semilearn_bbam.data.images import ImageFiles


def write_photographs(folder: Path, count: int, size: tuple[int, int], detail: float = 0.12) -> list[Path]:
    """`count` JPEG files of `size` (width, height): smooth colours and noise, of which `detail` is the finest part."""
    rng, paths = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        layers = []
        for cell, strength in ((32, 1.0), (8, 0.35), (2, detail)):
            shape = (size[1] // cell + 1, size[0] // cell + 1, 3)
            noise = Image.fromarray(rng.integers(0, 256, shape, np.uint8)).resize(size, Image.Resampling.BICUBIC)
            layers.append(strength * (np.asarray(noise, np.float32) - 128))
        pixels = np.clip(128 + sum(layers), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=85)
    return paths


def photograph_source(paths: list[Path], num_labels: int) -> Source:
    """These files with random labels, the most frequent on a fifth of the rows, the rarest on one of 25."""
    shares = np.geomspace(0.2, 0.04, num_labels)
    targets = (np.random.default_rng(1).random((len(paths), num_labels)) < shares).astype(np.float32)
    return training_source(ImageFiles(paths), targets, [f"label {k}" for k in range(num_labels)])


def training_source(items: Items, targets: NDArray[np.float32], names: Sequence[str]) -> Source:
    """A source with an empty test part."""
    test = Part(np.zeros((0, 3, 1, 1), np.uint8), targets[:0])
    return Source.of("photographs", "image", Part(items, targets), test, names)


def with_frequent_labels(source: Source, count: int) -> Source:
    """The training photographs with at least one of the `count` most frequent labels, with these labels only."""
    chosen = np.argsort(-source.targets.sum(0), kind="stable")[:count]
    rows = np.flatnonzero(source.targets[:, chosen].any(1))
    names = [source.label_names[k] for k in chosen]
    return training_source(take(source.train, rows), source.targets[rows][:, chosen], names)
