"""Hooks that replace USB's or are added to them."""

from __future__ import annotations

from semilearn_bbam.engine.hooks.checkpoint import EpochCheckpointHook
from semilearn_bbam.engine.hooks.ema import ModelEMAHook
from semilearn_bbam.engine.hooks.evaluation import MultiLabelEvaluationHook
from semilearn_bbam.engine.hooks.figures import FigureDataHook
from semilearn_bbam.engine.hooks.nonfinite import GuardedUpdateHook, check_finite
from semilearn_bbam.engine.hooks.progress import ProgressHook
from semilearn_bbam.engine.hooks.refresh import PseudoLabelQualityHook, RefreshHook
from semilearn_bbam.engine.hooks.results import ResultsHook
from semilearn_bbam.engine.hooks.selection import SelectionHook
from semilearn_bbam.engine.hooks.timer import WallTimerHook
from semilearn_bbam.engine.hooks.trackers import AllValuesToAim, AllValuesToWandb
from semilearn_bbam.engine.hooks.training import TrainingRowHook

__all__ = [
    "AllValuesToAim",
    "AllValuesToWandb",
    "EpochCheckpointHook",
    "FigureDataHook",
    "GuardedUpdateHook",
    "ModelEMAHook",
    "MultiLabelEvaluationHook",
    "ProgressHook",
    "PseudoLabelQualityHook",
    "RefreshHook",
    "ResultsHook",
    "SelectionHook",
    "TrainingRowHook",
    "WallTimerHook",
    "check_finite",
]
