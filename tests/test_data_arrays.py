"""Arrays are a dataset that only Python code can give."""

from __future__ import annotations

import numpy as np
import pytest

from semilearn_bbam.data import load_source
from semilearn_bbam.data.dataset import DataError, check_source
from semilearn_bbam.data.readers.arrays import source_of
from tests.conftest import naming, settings


def test_no_file_has_them() -> None:
    with pytest.raises(DataError, match=naming("'arrays'", "SemiSupervisedMultiLabelClassifier", "features")):
        load_source(settings(dataset="arrays"))


def test_unlabeled_rows_are_behind_the_labeled_ones() -> None:
    labeled, unlabeled = np.ones((2, 3), np.float32), np.zeros((4, 3), np.float32)
    targets = np.array([[0, 1], [-1, 1]], np.float32)
    source = source_of(labeled, targets, unlabeled, ["a", "b"], ["a note"])
    check_source(source, may_be_empty=True)
    np.testing.assert_array_equal(source.train, np.concatenate([labeled, unlabeled]))
    assert (len(source.targets), len(source.test), source.notes) == (2, 0, ("a note",))
    assert source.fingerprint != source_of(labeled, np.abs(targets), unlabeled, ["a", "b"]).fingerprint
