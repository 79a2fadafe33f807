"""Methods, one file each: importing this package imports them all, which registers them in USB's `ALGORITHMS`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn_bbam.algorithms.bbam import BBAM
from semilearn_bbam.engine.base import MultiLabelAlgorithm

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["BBAM", "MultiLabelAlgorithm"]
