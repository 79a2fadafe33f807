"""Save the state of a run at the end of every epoch."""

from __future__ import annotations

from typing import Any

from semilearn.core.hooks import CheckpointHook

from semilearn_bbam.run_folder import LATEST


class EpochCheckpointHook(CheckpointHook):
    """Write `latest_model.pth` after every epoch, where samplers and random states make a resume exact.

    USB saves within epochs and resumes at the next one, which loses the steps between.
    """

    def after_train_step(self, algorithm: Any) -> None:
        """USB's moment to save; ours is the end of the epoch."""

    def after_train_epoch(self, algorithm: Any) -> None:
        algorithm.save_model(LATEST, algorithm.folder.path)
