"""A step never makes the host wait for its device: it reads no number of a tensor, and no shape depends on values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from semilearn_bbam.engine.sums import EpochSums
from tests.conftest import FEATURES, batches
from tests.methods import STEPPING

# What copies a value to the host, or has a shape that depends on values; on a GPU each of them waits.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::item"}


class Waits(TorchDispatchMode):
    """Collects the operations within that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        boolean = name in ("aten::index", "aten::index_put_", "aten::index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITING or boolean:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_what_waits() -> None:
    with Waits() as waits:
        values = torch.arange(4.0)
        float(values.sum())
        values[values > 1]
        values[values > 1] = values[0]
    assert {"aten::_local_scalar_dense", "aten::index"} <= set(waits.names)


# Steps of USB's methods read their losses for its log, which only a copy of each step could change.
OWN = [case for case in STEPPING if not str(case.values[0]).startswith("ml_")]


@pytest.mark.parametrize(("algorithm", "options"), OWN)
def test_a_step_and_its_backward_pass_do_not_wait(algorithm: str, options: dict[str, Any], build: Any) -> None:
    if options.get("threshold_source") == "queue":
        pytest.xfail("thresholds of the queue are checked in every step")
    built = build(FEATURES, algorithm=algorithm, **options)
    if built.refreshes:
        built.refresh()
    built.call_hook("before_run")
    built.update_hook.at_once = False  # as on a GPU, where losses are read later
    batch = built.process_batch(None, **batches(built))
    for _ in range(2):  # the first step after a refresh may prepare what the others use
        with Waits() as waits:
            out, logged = built.train_step(**batch)
            out["loss"].backward()
            EpochSums().add({key: value.to("meta") for key, value in logged.items()})
    assert waits.names == []
