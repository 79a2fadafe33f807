"""Search of settings: the same number of trials for every method, judged on validation parts of labelled data."""

from __future__ import annotations

from semilearn_bbam.compare.tuning.reading import read_tuning
from semilearn_bbam.compare.tuning.space import Contender, Hyperparameter, Tuning

__all__ = ["Contender", "Hyperparameter", "Tuning", "read_tuning"]
