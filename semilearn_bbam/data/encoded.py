"""Vectors of images or texts as `dataset: features` reads them from a file: their scale, and the order of rows."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Source, take

MOST = 0.5  # share of the training texts that a word may be in: "the" says little, in any language
SEED = 0  # of the singular value decomposition, so that the same texts give the same vectors


def tfidf_source(source: Source, width: int) -> Source:
    """A dataset of texts with vectors [N,width] as items: TF-IDF, reduced to its `width` largest singular vectors.

    Words and their weights are those of all training texts, with or without labels; the test part is only mapped.
    DataError for items that are no texts, and for a width that the words of the training texts do not fill.
    """
    if source.kind != "text":
        raise DataError(f"--tfidf reads texts, but dataset {source.name!r} has {source.kind} items; set encoder")
    train, test = tfidf_vectors([str(text) for text in source.train], [str(text) for text in source.test], width)
    note = f"TF-IDF of the training texts, {width} singular vectors"
    return replace(source, kind="features", train=train, test=test, strong_texts=None, notes=(*source.notes, note))


def tfidf_vectors(
    train: Sequence[str], test: Sequence[str], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors [N,width] and [M,width] of unit length, fitted on the training texts; zero for a text of unknown words.

    Words in fewer than two training texts or in more than half of them are left out; counts enter as 1 + log. DataError
    unless 1 <= width < the smaller number of training texts and words.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=MOST, dtype=np.float32)
    try:
        counts = vectorizer.fit_transform(train)
    except ValueError as error:  # of scikit-learn, where no word is left
        raise DataError("--tfidf: no word is in two training texts and in at most half of them; set encoder") from error
    most = min(counts.shape) - 1
    if not 1 <= width <= most:
        raise DataError(
            f"--tfidf: {width} is not between 1 and {most}, which {counts.shape[0]} training texts with "
            f"{counts.shape[1]} words allow; set another width"
        )
    reduction = TruncatedSVD(width, random_state=SEED)
    rows = reduction.fit_transform(counts), reduction.transform(vectorizer.transform(test))
    first, second = (normalize(part).astype(np.float32) for part in rows)
    return first, second


def scaled_for_nets(source: Source, blocks: int) -> Source:
    """The dataset with float16 vectors [N,D] whose entries have a mean square of 1.

    That is what a net gets in a run with an encoder, and all blocks have the same length. The vectors of `source` are
    `blocks` blocks of unit length, side by side.
    """
    train, test = np.asarray(source.train), np.asarray(source.test)
    scale = np.float32((train.shape[1] / blocks) ** 0.5)
    return replace(source, train=(train * scale).astype(np.float16), test=(test * scale).astype(np.float16))


def join_blocks(source: Source, paths: Sequence[Path]) -> Source:
    """The dataset with the vectors of these .npz as further blocks, of unit length, before those that it has.

    Rows are found by `train_id` and `test_id`. DataError for a file that has not the same items, each once.
    """
    from sklearn.preprocessing import normalize

    joined: dict[str, list[NDArray[Any]]] = {"train": [], "test": []}
    for path in paths:
        for part, ids in (("train", source.train_ids), ("test", source.test_ids)):
            names, vectors = _read(path, part)
            rows = _order(names, [str(name) for name in ids], path, part)
            joined[part].append(normalize(vectors.astype(np.float32))[rows])
    train, test = (
        np.concatenate([*joined[part], np.asarray(items)], axis=1)
        for part, items in (("train", source.train), ("test", source.test))
    )
    notes = tuple(f"{path.name}: a block of each vector" for path in paths)
    return replace(source, train=train, test=test, notes=source.notes + notes)


def in_order_of(source: Source, path: Path) -> Source:
    """The dataset with rows in the order of `train_id` and `test_id` of an .npz, so that a seed draws the same split.

    DataError unless both have the same items, each once, and the labelled ones first.
    """
    train, test = (
        _order([str(name) for name in ids], _read(path, part)[0], path, part)
        for part, ids in (("train", source.train_ids), ("test", source.test_ids))
    )
    count = len(source.targets)
    if (train[:count] >= count).any():
        raise DataError(f"'{path}' has unlabelled items among those that are labelled here; name another file")
    marked = [source.validation[row] for row in train[:count]] if len(source.validation) else source.validation
    return replace(
        source,
        train=take(source.train, train),
        targets=source.targets[train[:count]],
        train_ids=[source.train_ids[row] for row in train],
        validation=marked,
        test=take(source.test, test),
        test_targets=source.test_targets[test],
        test_ids=[source.test_ids[row] for row in test],
        strong_texts=None if source.strong_texts is None else [source.strong_texts[row] for row in train],
    )


def _read(path: Path, part: str) -> tuple[list[str], NDArray[Any]]:
    """The names and vectors of a part of an .npz, of the training part those without labels too."""
    try:
        with np.load(path, allow_pickle=False) as file:
            vectors = [file[f"{part}_x"]]
            if part == "train" and "unlabeled_x" in file.files:
                vectors.append(file["unlabeled_x"])
            return file[f"{part}_id"].astype(str).tolist(), np.concatenate(vectors)
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"'{path}' is no .npz with {part}_x and {part}_id ({error}); name one that has both") from error


def _order(ids: Sequence[str], wanted: Sequence[str], path: Path, part: str) -> NDArray[np.int64]:
    """The rows of `ids` that make it `wanted`, of which one is the file's."""
    rows = {name: row for row, name in enumerate(ids)}
    if len(rows) < len(ids) or sorted(ids) != sorted(wanted):
        different = sorted(set(ids) ^ set(wanted))
        which = f", such as {different[0]!r}" if different else ""
        raise DataError(
            f"'{path}' and the data do not have the same items in {part}_id, each once ({len(ids)} and {len(wanted)})"
            f"{which}; name a file of the same items"
        )
    return np.array([rows[name] for name in wanted], dtype=np.int64)
