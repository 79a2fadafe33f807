"""Data: one file per source, then loading, splits, views and pools; importing this package registers every source."""

from __future__ import annotations

from semilearn_bbam.data.dataset import KIND_OF, SOURCES, DataError, Source, register_source, source_conflicts
from semilearn_bbam.data.loading import load_source
from semilearn_bbam.data.pool import Pool, collate
from semilearn_bbam.data.readers import aapd, arrays, awa2, coco, corel5k, digits, features, manifest, ohsumed, voc
from semilearn_bbam.data.splits import Split, load_split, make_split, save_split, with_all_labels
from semilearn_bbam.data.views import View, build_views, view_conflicts

__all__ = [
    "KIND_OF",
    "SOURCES",
    "DataError",
    "Pool",
    "Source",
    "Split",
    "View",
    "aapd",
    "arrays",
    "awa2",
    "build_views",
    "coco",
    "collate",
    "corel5k",
    "digits",
    "features",
    "load_source",
    "load_split",
    "make_split",
    "manifest",
    "ohsumed",
    "register_source",
    "save_split",
    "source_conflicts",
    "view_conflicts",
    "voc",
    "with_all_labels",
]
