"""Small generated image sets in the layouts that USB reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 40  # pixels


def single_label_images(place: Path, num_classes: int, per_class: int) -> None:
    """Classes of noisy grey levels, a folder each, as EuroSAT has them."""
    rng = np.random.default_rng(0)
    for c in range(num_classes):
        (place / f"class{c}").mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8) + np.uint8(180 * c // num_classes)
            Image.fromarray(pixels).save(place / f"class{c}" / f"{i}.png")


def multilabel_images(place: Path, num_labels: int, tables: Mapping[str, int], unlabeled: int = 0) -> None:
    """Images with a bright band for each of their labels, and a CSV table of each split.

    tables: rows of each; the last `unlabeled` ones of train.csv have no labels.
    """
    rng = np.random.default_rng(0)
    place.mkdir(parents=True)
    rates = np.linspace(0.5, 0.2, num_labels)
    for name, rows in tables.items():
        with open(place / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", *(f"label{k}" for k in range(num_labels))])
            for i in range(rows):
                targets = rng.random(num_labels) < rates
                pixels = rng.integers(0, 80, (SIZE, SIZE, 3), dtype=np.uint8)
                for k in np.flatnonzero(targets):
                    pixels[k * SIZE // num_labels : (k + 1) * SIZE // num_labels] += np.uint8(150)
                Image.fromarray(pixels).save(place / f"{name}{i}.png")
                hidden = name == "train" and i >= rows - unlabeled
                table.writerow([f"{name}{i}.png", *("" if hidden else int(target) for target in targets)])
