"""Save the state of a run at the end of every epoch."""

from __future__ import annotations

from typing import Any

from semilearn.core.hooks import CheckpointHook

from semilearn_bbam.runs.folder import LATEST


class EpochCheckpointHook(CheckpointHook):
    """Write `latest_model.pth` after every epoch, after its evaluation; the training loop saves within epochs.

    USB saves within epochs and resumes at the next one, which loses the steps between.
    """

    def after_train_step(self, algorithm: Any) -> None:
        """USB saves here, before the step is counted; `engine/loop.py` saves after it."""

    def after_train_epoch(self, algorithm: Any) -> None:
        algorithm.save_model(LATEST, algorithm.folder.path)
