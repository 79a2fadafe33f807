"""The data of a run's figures: a diagnostic that only writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from semilearn.core.hooks import Hook
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics, label_angles, label_prototypes
from semilearn_bbam.engine.hooks.record import record
from semilearn_bbam.runs.folder import FIGURES

# The pools of labelled rows; those that a method holds out of its training have a separate one.
LABELED = ("pool_lb", "pool_est")


@dataclass(frozen=True, eq=False)
class Reading:
    """Angles [N,K] around the prototypes of `targets` [N,K], labelled rows first.

    rows [N]: which have targets; cells [N,K]: which of their labels are known, elsewhere `targets` has 0.
    """

    angles: Tensor
    targets: Tensor
    rows: Tensor
    cells: Tensor

    @classmethod
    def of(cls, features: Tensor, targets: Tensor, rows: Tensor) -> Reading:
        """Angles of features [N,D], around prototypes of the rows that have targets; -1 is an unknown cell."""
        cells, targets = rows.unsqueeze(1) & (targets >= 0), targets.clamp(min=0)
        return cls(label_angles(features, label_prototypes(features, targets * cells)), targets, rows, cells)

    def summary(self, name: str) -> dict[str, float]:
        """Variances (squared radians) and their difference, each the mean over usable labels; every negative counts."""
        statistics = AngleStatistics.estimate(self.angles, self.targets, valid=self.cells)
        usable = statistics.usable
        values = {"vdfd": statistics.difference(), "var_pos": statistics.var_pos, "var_neg": statistics.var_neg}
        return {f"{key}_{name}": float(value[usable].mean()) for key, value in values.items()}


class FigureDataHook(Hook):
    """Log the angle variances after every epoch and write `figures.npz` at the end, for `report_figures`.

    Like `PseudoLabelQualityHook` it has the pool's true labels: `known` [N_u] marks the items of the pool that have
    some, `targets` are their labels. It evaluates the EMA model on the weak view and restores the random states. There
    are two readings of the labelled rows and the pool: `true`, with the true labels of both, and `pseudo`, with the
    pseudo-labels of the epoch, if the method has a table of them. With `num_branches` above 1 the
    angles are those of the first branch.
    """

    def __init__(self, known: Tensor, targets: Tensor) -> None:
        self.known, self.targets = known, targets

    def after_train_epoch(self, algorithm: Any) -> None:
        row: dict[str, float] = {}
        for name, reading in self.readings(algorithm).items():
            row |= reading.summary(name)
        done = algorithm.plan.epochs_done(algorithm.it)
        record(algorithm, row, it=algorithm.it, epoch=done, group="figures")

    def readings(self, algorithm: Any) -> dict[str, Reading]:
        """The reading with true labels, and the one with pseudo-labels once there are any."""
        device, known = algorithm.device, self.known.to(algorithm.device)
        labeled = [name for name in LABELED if name in algorithm.loader_dict]
        with algorithm.preserved_random_state():
            parts = [algorithm.read(name)["feat"] for name in labeled]
            if len(known):  # an upper bound has no pool; some methods append labelled rows to it
                parts.append(algorithm.read("pool_ulb")["feat"][: len(known)])
        features = torch.cat(parts).chunk(getattr(algorithm.args, "num_branches", 1), dim=1)[0]
        targets_lb = torch.cat([algorithm.dataset_dict[name].partly_known_targets() for name in labeled]).to(device)
        all_labeled = torch.ones(len(targets_lb), dtype=torch.bool, device=device)
        true = targets_lb.new_zeros(len(known), targets_lb.shape[1])
        true[known] = self.targets.to(true)
        readings = {"true": Reading.of(features, torch.cat([targets_lb, true]), torch.cat([all_labeled, known]))}
        pseudo = getattr(algorithm, "pseudo_targets", None)
        if pseudo is not None and not algorithm.plan.in_warmup(algorithm.epoch):
            # Only the rows in DRML's `added` have pseudo-labels.
            rows = getattr(algorithm, "added", torch.ones_like(known))
            targets = torch.cat([targets_lb, pseudo.to(targets_lb)])
            readings["pseudo"] = Reading.of(features, targets, torch.cat([all_labeled, rows]))
        return readings

    def after_run(self, algorithm: Any) -> None:
        names = algorithm.identity["labels"]
        with algorithm.preserved_random_state():
            scores, test_targets = algorithm.predict("test")
        readings = self.readings(algorithm)
        true = readings["true"]
        arrays = {
            "label_names": np.array(names, dtype=np.str_),
            "test_scores": array(scores, np.float32),
            "test_targets": array(test_targets, np.uint8),
            "num_labeled": np.array(len(true.targets) - len(self.known)),
            "targets": array(true.targets, np.uint8),
            "known": array(true.rows, np.bool_),
            "angles_true": array(true.angles, np.float16),
        }
        test_known = algorithm.dataset_dict["test"].known
        if test_known is not None or not bool((true.cells == true.rows.unsqueeze(1)).all()):
            arrays["known_cells"] = array(true.cells, np.bool_)
            arrays["test_known"] = array(torch.ones_like(test_targets) if test_known is None else test_known, np.bool_)
        if "pseudo" in readings:
            pseudo = readings["pseudo"]
            arrays["angles_pseudo"] = array(pseudo.angles, np.float16)
            arrays["pseudo_targets"] = array(pseudo.targets[-len(self.known) :], np.float16)
            arrays["pseudo_rows"] = array(pseudo.rows[-len(self.known) :], np.bool_)
        algorithm.folder.write_arrays(FIGURES, **arrays, **map_arrays(algorithm))


def map_arrays(algorithm: Any) -> dict[str, NDArray[Any]]:
    """Statistics [K] of the balancing map in the last epoch, and `counted` [N,K], the entries of the loss.

    Those of the first branch; nothing for a method without such statistics.
    """
    state = getattr(algorithm, "pool_state", None)
    if state is None:
        return {}
    first = slice(algorithm.num_classes)
    statistics = {key: array(value[first], np.float32) for key, value in state.statistics.state_dict().items()}
    beta = torch.cat([state.beta_lb.whole, state.beta_ulb.whole])[:, first]
    return {**statistics, "counted": array(beta, np.bool_)}


def array(values: Tensor, kind: type[np.generic]) -> NDArray[Any]:
    """A tensor of any device as an array of this type."""
    return values.detach().cpu().numpy().astype(kind)
