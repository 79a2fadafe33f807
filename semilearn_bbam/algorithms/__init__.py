"""Algorithms; importing this package registers them in USB's `ALGORITHMS`."""

from __future__ import annotations

from semilearn_bbam.algorithms.base import MultiLabelAlgorithm
from semilearn_bbam.algorithms.bbam import BBAM
from semilearn_bbam.algorithms.supervised import SupervisedBAM, SupervisedBCE

__all__ = ["BBAM", "MultiLabelAlgorithm", "SupervisedBAM", "SupervisedBCE"]
