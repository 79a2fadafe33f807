"""Algorithms; importing this package registers them in USB's `ALGORITHMS`."""

from __future__ import annotations

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn_bbam.algorithms import (
    bbam_plus,
    cap,
    d2l,
    dicap,
    drml,
    flatmatch,
    mime,
    supervised,
    usb_methods,
)
from semilearn_bbam.algorithms.bbam import BBAM
from semilearn_bbam.engine.base import MultiLabelAlgorithm

__all__ = ["BBAM", "MultiLabelAlgorithm"]
__all__ += ["bbam_plus", "cap", "d2l", "dicap", "drml", "flatmatch", "mime", "supervised", "usb_methods"]
