"""A pool whose features are kept in a file: the same run within float16, and nothing of its size in memory."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semilearn_bbam import load_run
from semilearn_bbam.algorithms import BBAM, pool_refresh
from semilearn_bbam.engine import stored_features
from semilearn_bbam.engine.stored_features import StoredFeatures
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.nets.ensemble import label_cosines

CPU = torch.device("cpu")


def test_stored_features_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_features, "CHUNK", 4)
    batches = [torch.randn(3, 5), torch.randn(7, 5)]
    with StoredFeatures.write(tmp_path / "f", batches, CPU) as stored:
        assert len(stored) == 10
        chunks = list(stored.chunks())
        assert [len(chunk) for chunk in chunks] == [4, 4, 2]
        assert torch.equal(torch.cat(chunks), torch.cat(batches).half().float())
        assert list(tmp_path.iterdir()) == [tmp_path / "f"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_features_beyond_float16_are_refused(value: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pool_storage: .* 65504; set pool_storage: memory"):
        StoredFeatures.write(tmp_path / "f", [torch.ones(2, 3), torch.full((1, 3), value)], CPU)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    def batches() -> Iterator[Tensor]:
        yield torch.ones(2, 3)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="cannot be written .No space left on device.; free space there"):
        StoredFeatures.write(tmp_path / "f", batches(), CPU)
    assert not list(tmp_path.iterdir())


def values_of(algorithm: BBAM) -> tuple[Tensor, ...]:
    state = algorithm.pool_state
    return state.pseudo.whole, state.beta_lb.whole, state.beta_ulb.whole, state.statistics.var_neg


@pytest.mark.parametrize("options", [{}, {"refresh_model": "both"}, {"num_branches": 2}, {"positive_share": 0.5}])
def test_a_refresh_from_a_file_equals_one_in_memory(
    options: dict[str, Any], build: Callable[..., BBAM], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, if the features in memory are rounded to float16 too."""
    options = {"negatives": "sampled", "eta": 1.0, **options}
    memory, disk = (build(pool_storage=storage, save_name=storage, **options) for storage in ("memory", "disk"))
    assert disk.stored
    assert not memory.stored
    read = BBAM.read

    def rounded(self: BBAM, name: str, model: Any = None, gather: bool = True) -> dict[str, Tensor]:
        outputs, net = read(self, name, model, gather), model or self.ema_model
        if name == "pool_lb":  # in memory everywhere
            return outputs
        features = outputs["feat"].half().float()
        with torch.no_grad():
            return {**outputs, "feat": features, "cosine": label_cosines(net, features, 0, 7)}

    monkeypatch.setattr(BBAM, "read", rounded)
    memory.refresh()
    disk.refresh()
    for first, second in zip(values_of(memory), values_of(disk), strict=True):
        assert torch.equal(first, second)
    assert not list(disk.folder.path.glob(".features*"))
    torch.testing.assert_close(disk.prior_thresholds(), memory.prior_thresholds(), rtol=1e-2, atol=1e-3)


def test_no_output_is_kept_over_the_batches_of_the_pool(
    build: Callable[..., BBAM], monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = build(pool_storage="disk")
    names, read = [], BBAM.read
    monkeypatch.setattr(BBAM, "read", lambda self, name, *a, **k: (names.append(name), read(self, name, *a, **k))[1])
    algorithm.refresh()
    algorithm.prior_thresholds()
    assert names == ["pool_lb"]


def test_auto_takes_a_file_for_a_large_pool(build: Callable[..., BBAM], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not build().stored
    monkeypatch.setattr(pool_refresh, "LARGE", 1e-6)
    assert build(save_name="y").stored
    assert not build(save_name="z", pool_storage="memory").stored
    for options, cure in (
        ({"teacher": "kernel"}, "or set teacher: none"),
        ({"neighbours": 3}, "or leave neighbours out"),
        ({"score_map": "average"}, "or set score_map: raw"),
    ):
        with pytest.raises(UserError, match=f"{next(iter(options))}: needs the whole pool in memory, .* {cure}"):
            build(save_name="w", **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"neighbours": 3}, "cannot give neighbours the whole pool; leave neighbours out"),
        ({"confidence_weights": "true"}, "cannot give confidence_weights the whole pool"),
        ({"teacher": "kernel"}, "cannot give a teacher the pool; set teacher: none"),
        ({"score_map": "average"}, "ranks raw cosines; set score_map: raw"),
    ],
)
def test_options_that_need_the_whole_pool_conflict_with_a_file(
    options: dict[str, Any], sentence: str, build: Callable[..., BBAM]
) -> None:
    with pytest.raises(UserError, match=f"pool_storage: disk {sentence}"):
        build(pool_storage="disk", **options)


def test_a_run_from_a_file_is_nearly_that_from_memory_and_predicts(train: Any, features_dir: Path) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.2}
    runs = [
        train("bbam_ohsumed_features.yaml", pool_storage=storage, save_name=storage, **options)
        for storage in ("memory", "disk")
    ]
    assert runs[1][0]["test"]["mAP"] == pytest.approx(runs[0][0]["test"]["mAP"], abs=0.02)
    assert runs[1][0]["thresholds"]["prior"] == pytest.approx(runs[0][0]["thresholds"]["prior"], abs=0.05)
    vectors = np.load(features_dir / "ohsumed_minilm.npz")["test_x"]
    first, second = (load_run(folder).scores(vectors) for _, folder in runs)
    np.testing.assert_allclose(first, second, atol=0.1)
    assert not list(runs[1][1].glob(".*features*"))
