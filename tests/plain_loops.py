"""Losses as their papers write them, one entry at a time, in double precision."""

from __future__ import annotations

import math


def asymmetric(logit: float, target: float, negative: float = 4, positive: float = 0, clip: float = 0.05) -> float:
    """The asymmetric loss with its two focusing powers and its clip."""
    p = 1 / (1 + math.exp(-logit))
    q = max(p - clip, 0.0)
    return -((1 - p) ** positive) * math.log(p) if target == 1 else -(q**negative) * math.log(1 - q)
