"""The hooks of a run, in the order in which USB calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from semilearn.core.hooks import Hook

from semilearn_bbam.engine.hooks.checkpoint import EpochCheckpointHook
from semilearn_bbam.engine.hooks.ema import ModelEMAHook
from semilearn_bbam.engine.hooks.evaluation import MultiLabelEvaluationHook
from semilearn_bbam.engine.hooks.figures import FigureDataHook
from semilearn_bbam.engine.hooks.progress import ProgressHook
from semilearn_bbam.engine.hooks.refresh import PseudoLabelQualityHook, RefreshHook
from semilearn_bbam.engine.hooks.selection import SelectionHook
from semilearn_bbam.engine.hooks.timer import WallTimerHook
from semilearn_bbam.engine.hooks.trackers import AllValuesToAim, AllValuesToWandb
from semilearn_bbam.engine.hooks.training import TrainingRowHook
from semilearn_bbam.engine.usb_adapter import SamplerSeedHook


class Row(NamedTuple):
    """USB's name of a hook, its priority, how it is built, and the algorithms that use it."""

    name: str
    priority: str
    make: Callable[[Any], Hook]
    enabled: Callable[[Any], bool] = lambda algorithm: True


# USB's methods register hooks that weight and label batches at NORMAL; they run before those of that priority here.
HOOKS = (
    Row("ParamUpdateHook", "HIGHEST", lambda a: a.update_hook),
    Row("TrainingRowHook", "HIGHEST", lambda a: TrainingRowHook()),  # before others add values to those of the step
    Row("EMAHook", "HIGH", lambda a: ModelEMAHook(), lambda a: a.ema_model is not a.model),
    Row("EvaluationHook", "HIGH", lambda a: MultiLabelEvaluationHook()),
    Row("SelectionHook", "ABOVE_NORMAL", lambda a: SelectionHook()),  # uses the evaluation
    Row("DistSamplerSeedHook", "NORMAL", lambda a: SamplerSeedHook()),
    # Before the checkpoint, so that no row is lost.
    Row("FigureDataHook", "NORMAL", lambda a: FigureDataHook(*a.diagnostic), lambda a: a.args.report_figures),
    Row("CheckpointHook", "BELOW_NORMAL", lambda a: EpochCheckpointHook()),  # holds the result of the selection
    Row("RefreshHook", "BELOW_NORMAL", lambda a: RefreshHook(), lambda a: a.refreshes),
    Row("TimerHook", "LOW", lambda a: WallTimerHook()),
    Row("ResultsHook", "LOW", lambda a: a.results_hook),
    Row(
        "PseudoLabelQualityHook",
        "LOW",
        lambda a: PseudoLabelQualityHook(*a.diagnostic),
        lambda a: a.args.report_pseudo_label_quality,
    ),
    Row("LoggingHook", "LOWEST", lambda a: ProgressHook()),
    Row("WANDBHook", "LOWEST", lambda a: AllValuesToWandb(), lambda a: a.args.use_wandb and a.world.is_main),
    Row("AimHook", "LOWEST", lambda a: AllValuesToAim(), lambda a: a.args.use_aim and a.world.is_main),
)


def register_hooks(algorithm: Any) -> None:
    """Replace USB's default hooks by those of the table; hooks of its methods stay."""
    replaced = {row.name for row in HOOKS}
    algorithm._hooks[:] = [hook for hook in algorithm._hooks if hook.name not in replaced]
    for row in HOOKS:
        if row.enabled(algorithm):
            algorithm.register_hook(row.make(algorithm), row.name, row.priority)
