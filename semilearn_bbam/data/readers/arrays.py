"""`dataset: arrays`: rows that Python code gives; there is nothing to read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.config import ARRAYS
from semilearn_bbam.data.dataset import DataError, Part, Source, register_source


@register_source(ARRAYS, "features")
def load_arrays(args: argparse.Namespace) -> Source:
    """DataError: arrays are given in Python, to `SemiSupervisedMultiLabelClassifier` or as the source of `run`."""
    raise DataError(
        f"dataset '{ARRAYS}' is what SemiSupervisedMultiLabelClassifier gives in Python, and no file has it; write the "
        "arrays to an .npz and set dataset: features and feature_file"
    )


def source_of(
    labeled: NDArray[np.float32],
    targets: NDArray[np.float32],
    unlabeled: NDArray[np.float32],
    label_names: Sequence[str],
    notes: Sequence[str] = (),
) -> Source:
    """The dataset of labelled rows, their targets and unlabelled rows, without a test part.

    Args:
        labeled: [L,D].
        targets: [L,K] of 0, 1 and -1, which is unknown.
        unlabeled: [U,D].
        label_names: K names.
        notes: for the log, a sentence each.

    Returns:
        The source; its unlabelled rows are behind the labelled ones.
    """
    nothing = Part(np.empty((0, labeled.shape[1]), np.float32), np.empty((0, targets.shape[1]), np.float32))
    train = Part(np.concatenate([labeled, unlabeled]), targets)
    return Source.of(ARRAYS, "features", train, nothing, label_names, notes=notes)
