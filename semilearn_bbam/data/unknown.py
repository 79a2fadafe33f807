"""Cells whose label is unknown: rows without a known cell leave the labelled part, and labels that no row denies.

A cell of the targets is 0, 1 or -1, unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Source, known_cells, take
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.errors import first_few


def settle_unknown(source: Source) -> Source:
    """The source with every training row that has no known cell in the pool, and no test row without one.

    The same source where there is no such row, so that calling it twice changes nothing. DataError where nothing is
    known of a part, or only positives of the test part, since nothing can be judged by it.
    """
    for part, targets in (("training", source.targets), ("test", source.test_targets)):
        if targets.size and not known_cells(targets).any():
            raise DataError(
                f"dataset {source.name!r}: no label of the {part} part is known; write 1 and 0 where one applies and "
                "where it does not"
            )
    source = _without_unjudged(_to_pool(source, ~rows_with_any(known_cells(source.targets))))
    known = known_cells(source.test_targets)
    if len(known) and not known.all() and not (source.test_targets == 0).any():
        raise DataError(
            f"dataset {source.name!r}: the test targets hold 1 and unknown cells but no 0, so nothing can be judged; "
            "write 0 where a label is known not to apply"
        )
    return source


def rows_with_any(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask [N] of the rows of a mask [N,K] with a cell that is True."""
    rows: NDArray[np.bool_] = np.asarray(cells.any(axis=1))
    return rows


def unlabeled_rows(source: Source, rows: NDArray[np.bool_]) -> Source:
    """The source with these of its labelled training rows, mask [L], in the pool, whatever their targets are."""
    return _to_pool(source, rows)


def _to_pool(source: Source, moved: NDArray[np.bool_]) -> Source:
    """The training rows of the mask `moved` [L] behind all others, without targets."""
    if not moved.any():
        return source
    labeled = len(source.targets)
    order = np.concatenate([np.flatnonzero(~moved), np.flatnonzero(moved), np.arange(labeled, len(source.train))])
    note = f"{int(moved.sum())} training item(s) without any known label are unlabelled and go to the pool"
    strong_texts = source.strong_texts
    return replace(
        source,
        train=take(source.train, order),
        targets=source.targets[~moved],
        train_ids=_ordered(source.train_ids, order),
        validation=_ordered(source.validation, np.flatnonzero(~moved)),
        strong_texts=None if strong_texts is None else _ordered(strong_texts, order),
        fingerprint=compute_fingerprint([source.fingerprint], moved),
        notes=(*source.notes, note),
    )


def _without_unjudged(source: Source) -> Source:
    """The source without test rows that have no known cell."""
    keep = rows_with_any(known_cells(source.test_targets))
    if keep.all():
        return source
    rows = np.flatnonzero(keep)
    note = f"left out {int((~keep).sum())} test item(s) without any known label, since nothing can be judged by them"
    return replace(
        source,
        test=take(source.test, rows),
        test_targets=source.test_targets[keep],
        test_ids=_ordered(source.test_ids, rows),
        fingerprint=compute_fingerprint([source.fingerprint], keep),
        notes=(*source.notes, note),
    )


def never_denied(targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask [K] of the labels that have unknown cells in `targets` [N,K] and no known negative.

    Known cells do not give their frequency: among those it is 1.
    """
    denied, unknown = rows_with_any((targets == 0).T), rows_with_any((targets < 0).T)
    return unknown & ~denied


def unknown_summary(targets: NDArray[Any], names: Sequence[str]) -> list[str]:
    """What a run says of the unknown cells of its labelled rows, a sentence each; nothing where all are known."""
    known = known_cells(targets)
    if known.all():
        return []
    lines = [f"{100 * (1 - known.mean()):.1f} % of the labelled cells are unknown"]
    assumed = [name for name, alone in zip(names, never_denied(targets), strict=True) if alone]
    if assumed:
        lines.append(
            f"WARNING {len(assumed)} label(s) have no known negative ({first_few(assumed, 5)}): "
            "their unknown cells count as negative, so that their rate is positives / labelled rows, "
            "a lower bound, and not 1"
        )
    return lines


def _ordered(values: Sequence[Any], rows: NDArray[np.int64]) -> list[Any]:
    return [values[row] for row in rows] if len(values) else []
