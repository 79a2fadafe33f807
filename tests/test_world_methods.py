"""With every method a run in two processes equals one in a single process with the same batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.algorithms.usb_methods import MLVAT
from semilearn_bbam.runs.folder import LATEST, RESULTS, RunFolder
from tests.conftest import TIMED
from tests.methods import CASE_IDS, CASES, steps_at
from tests.processes import fork, front_door, shared, status_of

# A net with batch normalisation; AdamW would make steps of one size of gradients that are no more than rounding.
IMAGES = {"config": "bbam_digits.yaml", "num_labels": 41, "optim": "SGD"}
# Options that turn off what each process draws separately in a step; `without_noise` turns off the rest.
WITHOUT_DRAWS: dict[str, dict[str, Any]] = {
    "bbam_plus": {"mixup": 0},
    "ml_mixmatch": {"mixup_alpha": 0},
    "ml_remixmatch": {"mixup_alpha": 0},
}
# Short running means and low thresholds, so that few steps change the state of both.
FAST_STATE = {"ema_p": 0.5, "p_cutoff": 0.6}


def fast_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a method's test row with which a step changes its state and draws nothing."""
    known = {option.name for option in ALGORITHMS[name].own_options()}
    return {key: value for key, value in FAST_STATE.items() if key in known} | options | WITHOUT_DRAWS.get(name, {})


# One for each way to share: means over rows; running means; a term over a whole batch; own optimisers; a perturbation.
# The last one fits, to the features of all processes.
FAST = (
    "bbam",
    "bbam_plus-refresh",
    "cap",
    "supervised_bam",
    "ml_freematch",
    "dicap",
    "drml",
    "flatmatch",
    "kernel_graph",
)
SHARED = [
    *(
        pytest.param(name, fast_options(name, options), id=id, marks=[] if id in FAST else pytest.mark.slow)
        for (name, options), id in zip(CASES, CASE_IDS, strict=True)
    ),
    pytest.param("bbam", {"pool_storage": "disk"}, id="bbam, a pool in a file"),
    pytest.param("cap", IMAGES, id="cap, images"),
    # All negatives: which of two equally near ones is a candidate depends on a last digit.
    pytest.param("bbam", IMAGES | {"negatives": "all"}, id="bbam, images", marks=pytest.mark.slow),
    *(
        pytest.param(name, IMAGES, id=f"{name}, images", marks=pytest.mark.slow)
        for name in ("ml_softmatch", "ml_meanteacher", "flatmatch", "d2l")
    ),
]


def without_noise() -> None:
    """In this process no step draws noise, or depends on rounding."""
    patch = pytest.MonkeyPatch()
    patch.setattr(torch, "randn_like", torch.ones_like)
    patch.setattr(torch.distributions.normal, "_standard_normal", torch.ones)
    # VAT's first step is so short that float32 leaves noise of the difference that it makes.
    patch.setattr(MLVAT.vat_loss, "__defaults__", (0.1, 6, 1))


def assert_close(expected: Any, actual: Any, place: str) -> None:
    if isinstance(expected, torch.Tensor) and expected.is_floating_point():
        torch.testing.assert_close(expected, actual, rtol=1e-4, atol=1e-5, msg=lambda text: f"{place}: {text}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(expected, actual), place  # pseudo-labels and masks
    elif isinstance(expected, dict):
        for key in expected:
            assert_close(expected[key], actual[key], f"{place}.{key}")
    elif isinstance(expected, float):
        assert expected == pytest.approx(actual, rel=1e-4, abs=1e-5), place
    elif isinstance(expected, (list, tuple)):
        assert len(expected) == len(actual), place
        for number, (before, after) in enumerate(zip(expected, actual, strict=True)):
            assert_close(before, after, f"{place}[{number}]")
    else:
        assert expected == actual, place


def assert_same_runs(first_folder: Path, second_folder: Path, steps_logged: int) -> None:
    """Losses, weights, averages, pseudo-labels, masks, statistics and metrics."""
    first, second = (torch.load(folder / LATEST, weights_only=True) for folder in (first_folder, second_folder))
    assert list(first) == list(second)
    for part in first.keys() - {"optimizer", "seconds", "memory", "random", "random_at_epoch", "sums"}:
        assert_close(first[part], second[part], part)
    for before, after in zip(
        RunFolder(first_folder).read_metrics(), RunFolder(second_folder).read_metrics(), strict=True
    ):
        assert before.keys() == after.keys()
        assert_close({k: v for k, v in before.items() if k not in TIMED}, after, "metrics.jsonl")
    before, after = (json.loads((folder / RESULTS).read_text()) for folder in (first_folder, second_folder))
    for part in ("test", "test_prior"):
        assert_close(before[part], after[part], part)
    losses = [[line.split("loss ")[1].split(",")[0] for line in (folder / "log.txt").read_text().splitlines()
               if "loss " in line] for folder in (first_folder, second_folder)]  # fmt: skip
    assert len(losses[0]) == steps_logged
    assert [float(x) for x in losses[0]] == pytest.approx([float(x) for x in losses[1]], abs=2e-4)


@pytest.mark.parametrize(("algorithm", "changes"), SHARED)
def test_two_processes_equal_one(
    algorithm: str, changes: dict[str, Any], shareable: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Every test row counts once; layers that look at a whole batch see all of it."""
    single = shareable(algorithm=algorithm, save_name="one", **changes)
    child = fork(front_door(single, tmp_path / "log.txt", without_noise))
    assert status_of(child) == 0, (tmp_path / "log.txt").read_text()
    statuses = shared(shareable(algorithm=algorithm, save_name="two", **changes), tmp_path, without_noise)
    assert statuses == [0, 0], (tmp_path / "log0.txt").read_text() + (tmp_path / "log1.txt").read_text()
    assert_same_runs(tmp_path / "runs" / "one", tmp_path / "runs" / "two", len(steps_at(algorithm, 2, 5, 8)))
