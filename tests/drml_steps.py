"""A small DRML and its steps, for the tests of the method and of its phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from semilearn.core.hooks import ParamUpdateHook
from torch import Tensor

from semilearn_bbam.algorithms.drml import DRML

CONFIG = ("drml", "ohsumed_features")
# The first step of Nesterov momentum moves by (1 + momentum) gradients, so that it can be followed by hand.
PLAIN_STEPS = {"optim": "SGD", "momentum": 0.5, "scheduler": "cosine", "weight_decay": 0, "lr": 0.5}
GROUPS = {"P": ("projection", "head.projector"), "C1": ("head.classifier_1",), "C2": ("head.classifier_2",)}
GROUPS |= {"CR": ("head.relation",)}


def small_drml(build: Callable[..., Any]) -> Callable[..., DRML]:
    """`make(**overrides)`: a DRML instance on the small vectors, narrow, and at the defaults that the YAML changes."""

    def one(**overrides: Any) -> DRML:
        defaults = {"element_loss": "squared", "added_rows": 0}
        return build(CONFIG, **{"projector_dim": 9, "batch_size": 5, "ulb_batch_size": 11} | defaults | overrides)

    return one


def group(model: Any, *names: str) -> list[Tensor]:
    """The parameters of these groups of the paper."""
    prefixes = tuple(prefix for name in names for prefix in GROUPS[name])
    return [value for name, value in model.named_parameters() if name.startswith(prefixes)]


def weights(model: Any, *names: str) -> list[Tensor]:
    return [value.detach().clone() for value in group(model, *names)]


def same(one: list[Tensor], two: list[Tensor], **tolerance: float) -> bool:
    return all(torch.allclose(a, b, **{"rtol": 0, "atol": 0} | tolerance) for a, b in zip(one, two, strict=True))


def step(algorithm: DRML, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return algorithm.train_step(**algorithm.process_batch(**batch))


def update(algorithm: DRML, batch: dict[str, Any]) -> float:
    """A whole step of the loop, with USB's own hook."""
    algorithm.out_dict, algorithm.log_dict = step(algorithm, batch)
    ParamUpdateHook().after_train_step(algorithm)
    return float(algorithm.out_dict["loss"].detach())
