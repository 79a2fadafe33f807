"""Algorithms; importing this package registers them in USB's `ALGORITHMS`."""

from __future__ import annotations

from semilearn_bbam.algorithms import (
    bbam_plus,
    cap,
    d2l,
    dicap,
    drml,
    flatmatch,
    lifted,
    lifted_states,
    mime,
    supervised,
)
from semilearn_bbam.algorithms.base import MultiLabelAlgorithm
from semilearn_bbam.algorithms.bbam import BBAM

__all__ = ["BBAM", "MultiLabelAlgorithm"]
__all__ += ["bbam_plus", "cap", "d2l", "dicap", "drml", "flatmatch", "lifted", "lifted_states", "mime", "supervised"]
