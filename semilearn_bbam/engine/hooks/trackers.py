"""USB's hooks for Weights & Biases and Aim, with the values that a multi-label run has."""

from __future__ import annotations

import logging
from typing import Any

import wandb
from semilearn.core.hooks import AimHook, WANDBHook

from semilearn_bbam.errors import UserError, first_line


class AllValuesToWandb(WANDBHook):
    """Log all values, evaluations included; USB's logs single-label keys only.

    UserError without a login, before anything is written.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            wandb.login()
        except wandb.errors.Error as error:
            raise UserError(
                f"use_wandb: {first_line(error)}; run wandb login, or set WANDB_MODE=offline, or leave use_wandb out"
            ) from error

    def track(self, values: dict[str, float], it: int) -> None:
        """Called by `record.track`."""
        self.run.log(values, step=it)

    def after_train_step(self, algorithm: Any) -> None:
        """`track` gets the values instead."""


class AllValuesToAim(AimHook):
    """Log all values, evaluations included, each at its step."""

    def before_run(self, algorithm: Any) -> None:
        logger = logging.getLogger(algorithm.args.save_name)
        before = set(logger.handlers)
        super().before_run(algorithm)
        for handler in set(logger.handlers) - before:  # USB opens the log again, so that lines would be written twice
            logger.removeHandler(handler)
            handler.close()

    def track(self, values: dict[str, float], it: int) -> None:
        """Called by `record.track`."""
        for name, value in values.items():
            self.run.track(value, name=name, step=it)

    def after_train_step(self, algorithm: Any) -> None:
        """`track` gets the values instead."""
