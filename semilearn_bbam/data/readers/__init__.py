"""One file per form that data come in; importing this package registers every reader."""

from __future__ import annotations

from semilearn_bbam.data.readers import aapd, arrays, awa2, coco, corel5k, digits, features, manifest, ohsumed, voc

__all__ = ["aapd", "arrays", "awa2", "coco", "corel5k", "digits", "features", "manifest", "ohsumed", "voc"]
