"""Entries of a user's files: images or texts with their labels as written, or items without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Items, Problem
from semilearn_bbam.data.images import ImageFiles

TRAINING, TEST, UNLABELED = "training", "test", "unlabelled"  # parts in messages


@dataclass
class Entries:
    """The items of one file: their names, paths or texts, labels as they are written, ready strong texts.

    The labels of an item are a list of exact names, or None or [] for none, where the data are of one of `FORMS`.
    `label_names` are the labels in order where the data declare them, `parts` what the data call each item (train,
    validation, test or unlabeled; none where they do not say), `notes` what was decided in reading, a sentence each.
    """

    kind: str
    names: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    strong: list[tuple[str, ...]] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    label_names: tuple[str, ...] = ()
    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def select(self, keep: Sequence[bool] | NDArray[np.bool_]) -> Entries:
        rows = np.flatnonzero(np.asarray(keep, dtype=bool))
        return replace(
            self,
            names=[self.names[row] for row in rows],
            items=[self.items[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            strong=[self.strong[row] for row in rows],
            parts=[self.parts[row] for row in rows] if self.parts else [],
        )

    def joined(self, other: Entries) -> Entries:
        """These entries, then the others; each note once."""
        parts = [part for entries in (self, other) for part in entries.parts or [""] * len(entries.items)]
        return replace(
            self,
            names=self.names + other.names,
            items=self.items + other.items,
            labels=self.labels + other.labels,
            strong=self.strong + other.strong,
            problems=self.problems + other.problems,
            parts=parts if any(parts) else [],
            notes=list(dict.fromkeys(self.notes + other.notes)),
        )

    def content(self) -> Items:
        return ImageFiles(self.items) if self.kind == "image" else self.items


def below(root: Path, name: str) -> str:
    """The path of a file below `root`, or an empty text if the name leads out of it or is no path."""
    base = os.path.abspath(root)
    path = os.path.normpath(os.path.join(base, name))
    inside = "\0" not in name and path.startswith(base.rstrip(os.sep) + os.sep)
    return path if inside else ""
