"""Write a source as files that read back as the same data: a manifest of images or texts, an `.npz` of vectors."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semilearn_bbam.data.dataset import DataError, Source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.util.files import write_atomically

SEPARATOR = ";"
SUFFIXES = {"image": (".csv", ".jsonl"), "text": (".csv", ".jsonl"), "features": (".npz",)}
RESERVED = ("path", "text", "labels", "label", "split", "strong", "id", "aug_0", "aug_1", "aug_2", "aug_3", "ori")


def write_source(source: Source, data_dir: Path, out: Path) -> dict[str, str]:
    """Write a source to `out`, and the order of its labels to `<out>.labels.txt` next to it.

    A manifest has the columns `path` (below `data_dir`) or `text`, `labels` and `split` (train, test or unlabeled).
    It has a column of 0, 1 and ? for each label instead of `labels` where a cell is unknown, a labelled item has no
    label, or a name holds a separator or a bracket. Vectors become the arrays of `dataset: features`, in one file.

    Returns:
        The settings that read it.

    Raises:
        DataError: an image is outside data_dir or is no file, a name of a label cannot be written, or `out` ends in
            another suffix than `SUFFIXES`.
        OSError: `out` cannot be written.
    """
    if out.suffix.lower() not in SUFFIXES[source.kind]:
        wanted = " or ".join(SUFFIXES[source.kind])
        raise DataError(f"'{out}' does not end in {wanted}, as {source.kind} data are written; rename it")
    settings = {"data_dir": str(data_dir)}
    if source.kind == "features":
        write_atomically(out, lambda path: _write_vectors(source, path))
        return {"dataset": "features", **settings, "feature_file": os.path.abspath(out)}
    wide = is_wide(source)
    for name in source.label_names:
        if not name.isprintable() or name != name.strip() or not name or (wide and name in RESERVED):
            where = "the name of a column" if wide else "a line of a file"
            raise DataError(f"the label {name!r} cannot be {where}; rename it first")
    rows = list(_rows(source, data_dir, wide))
    label_file = out.with_name(f"{out.stem}.labels.txt")
    names = "".join(f"{name}\n" for name in source.label_names)
    write_atomically(label_file, lambda path: path.write_text(names, encoding="utf-8"))
    write_atomically(out, lambda path: _write_rows(rows, path))
    settings = {"dataset": "manifest", **settings, "manifest": os.path.abspath(out), "split_column": "split"}
    settings["label_file"] = os.path.abspath(label_file)
    if wide:
        return settings | {"negative_cells": "0", "empty_labels": "negative"}
    return settings | {"label_form": "names"} | ({"label_separator": SEPARATOR} if _has_several(source) else {})


def is_wide(source: Source) -> bool:
    """Whether each label needs its own column: a cell is unknown, no label applies, or a name has a bracket."""
    rows = [source.targets, source.test_targets]
    unclear = any((targets < 0).any() or (targets.sum(1) == 0).any() for targets in rows)
    return unclear or any(re.search(r"[;|<>()\[\]{}]", name) for name in source.label_names)


def _has_several(source: Source) -> bool:
    """Whether a field of labels has a separator in it."""
    return any((targets > 0).sum(1).max(initial=0) > 1 for targets in (source.targets, source.test_targets))


def _rows(source: Source, data_dir: Path, wide: bool) -> Iterator[dict[str, Any]]:
    """The fields of each item: the labelled ones, those for the pool only, the test part; each with its split."""
    labelled = len(source.targets)
    for part, items, targets in (("train", source.train, source.targets), ("test", source.test, source.test_targets)):
        for row in range(len(items)):
            in_pool = part == "train" and row >= labelled
            fields = item_fields(source, part, row, data_dir)
            known = None if in_pool else targets[row]
            if wide:
                fields |= {name: _cell(known, k) for k, name in enumerate(source.label_names)}
            else:
                names = [] if known is None else [source.label_names[k] for k in np.flatnonzero(known > 0)]
                fields["labels"] = SEPARATOR.join(names)
            is_validation = part == "train" and row < len(source.validation) and source.validation[row]
            yield fields | {"split": "unlabeled" if in_pool else "validation" if is_validation else part}


def _cell(known: Any, k: int) -> str:
    return "?" if known is None or known[k] < 0 else str(int(known[k]))


def item_fields(source: Source, part: str, row: int, data_dir: Path) -> dict[str, Any]:
    """What names an item in a manifest: its `path` below data_dir, or its `text` and ready texts; DataError without."""
    items = source.train if part == "train" else source.test
    if source.kind == "text":
        strong = source.strong_texts[row] if part == "train" and source.strong_texts is not None else ()
        return {"text": str(items[row]), **{f"aug_{k}": text for k, text in enumerate(strong)}}
    if not isinstance(items, ImageFiles):
        raise DataError(f"dataset {source.name!r} holds images that are no files, which is unsupported")
    path, base = os.path.abspath(items.paths[row]), os.path.abspath(data_dir)
    if os.path.commonpath([path, base]) != base:
        raise DataError(f"the image {path} is outside data_dir {base}; set data_dir to a folder that holds all images")
    return {"path": Path(path).relative_to(base).as_posix()}


def _write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix.lower() == ".jsonl":
            file.writelines(json.dumps(_listed(row), ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    """The fields as JSON has them, labels as a list."""
    if "labels" not in row:
        return row
    return row | {"labels": [name for name in row["labels"].split(SEPARATOR) if name]}


def _write_vectors(source: Source, path: Path) -> None:
    labelled = len(source.targets)
    arrays: dict[str, Any] = {
        "train_x": np.asarray(source.train[:labelled]),
        "train_y": source.targets.astype(np.int8),
        "test_x": np.asarray(source.test),
        "test_y": source.test_targets.astype(np.int8),
        "label_names": np.array(source.label_names, dtype=str),
    }
    if len(source.train) > labelled:
        arrays["unlabeled_x"] = np.asarray(source.train[labelled:])
    for key, ids in (("train_id", source.train_ids), ("test_id", source.test_ids)):
        if len(ids):
            arrays[key] = np.array(list(ids), dtype=str)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
