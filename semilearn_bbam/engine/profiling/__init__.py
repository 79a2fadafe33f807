"""Where a method spends its time; nothing of it runs, and no step costs anything, unless `profile` is called."""

from __future__ import annotations

from semilearn_bbam.engine.profiling.measure import Profile, Section, profile_algorithm
from semilearn_bbam.engine.profiling.watching import PARTS

__all__ = ["PARTS", "Profile", "Section", "profile_algorithm"]
