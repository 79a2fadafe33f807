"""Data: one file per source, then splits, views and pools; importing this package registers every source."""

from __future__ import annotations

from semilearn_bbam.data import digits, features, ohsumed, voc
from semilearn_bbam.data.pool import Pool, collate
from semilearn_bbam.data.source import SOURCES, DataError, Source, load_source, register_source
from semilearn_bbam.data.splits import Split, load_split, make_split, save_split
from semilearn_bbam.data.views import View, build_views

__all__ = [
    "SOURCES",
    "DataError",
    "Pool",
    "Source",
    "Split",
    "View",
    "build_views",
    "collate",
    "digits",
    "features",
    "load_source",
    "load_split",
    "make_split",
    "ohsumed",
    "register_source",
    "save_split",
    "voc",
]
