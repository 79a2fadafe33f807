from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from semilearn_bbam.data import images as images_module
from semilearn_bbam.data.pool import Pool, collate
from semilearn_bbam.data.views import build_views
from tests.conftest import naming, settings

FEATURES = np.arange(40, dtype=np.float16).reshape(10, 4)
ROWS = np.array([7, 2, 9, 4, 0])
TARGETS = np.eye(10, 3, dtype=np.float32)[ROWS]
ARGS = argparse.Namespace(strong="auto", feature_dropout=0.5, feature_noise=0.1, word_dropout=0.3, word_swap=0.2)


def views() -> dict[str, Any]:
    built = build_views("features", ARGS)
    return {"x_lb": built["weak"], "x_lb_s": built["strong"]}


def test_batches_hold_positions_and_fetch_rows() -> None:
    pool = Pool(FEATURES, ROWS, views(), TARGETS)
    assert len(pool) == 5
    batch = pool.__getitems__([3, 0])
    assert set(batch) == {"idx_lb", "x_lb", "x_lb_s", "y_lb"}
    assert batch["idx_lb"].tolist() == [3, 0]
    assert batch["idx_lb"].dtype == torch.int64
    assert batch["x_lb"].tolist() == [FEATURES[4].tolist(), FEATURES[7].tolist()]
    assert batch["y_lb"].dtype == torch.float32
    assert batch["y_lb"].tolist() == TARGETS[[3, 0]].tolist()
    batch = pool[3]
    assert batch["x_lb"].tolist() == [FEATURES[4].tolist()]
    assert batch["y_lb"].shape == (1, 3)


def test_a_pool_without_targets_has_none() -> None:
    pool = Pool(FEATURES, ROWS, views(), suffix="ulb")
    assert pool.targets is None
    assert set(pool[0]) == {"idx_ulb", "x_lb", "x_lb_s"}
    assert not any(np.shape(value) == TARGETS.shape for value in vars(pool).values())


def test_targets_must_be_those_of_the_rows() -> None:
    with pytest.raises(ValueError, match=naming("5 rows", "10 rows of targets")):
        Pool(FEATURES, ROWS, views(), np.eye(10))
    with pytest.raises(IndexError):
        Pool(FEATURES, ROWS, views())[5]


def test_arrays_are_fetched_at_once_and_lists_item_by_item() -> None:
    fetched: list[Any] = []

    class Watched(np.ndarray[Any, Any]):
        def __getitem__(self, index: Any) -> Any:
            fetched.append(index)
            return np.asarray(super().__getitem__(index))

    pool = Pool(FEATURES.view(Watched), ROWS, {"x": build_views("features", ARGS)["eval"]})
    pool.__getitems__([4, 1, 2])
    assert len(fetched) == 1
    assert fetched[0].tolist() == [0, 2, 9]

    batches: list[Any] = []
    words = Pool([f"text {i}" for i in range(10)], ROWS, {"x": lambda raw: batches.append(raw)})
    words.__getitems__([4, 1, 2])
    assert batches == [["text 0", "text 2", "text 9"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(workers: int) -> None:
    pool = Pool(FEATURES, ROWS, views(), TARGETS)

    def epoch(seed: int) -> list[dict[str, Any]]:
        torch.manual_seed(seed)
        return list(DataLoader(pool, batch_size=2, shuffle=True, num_workers=workers, collate_fn=collate))

    batches = epoch(0)
    assert [len(batch["idx_lb"]) for batch in batches] == [2, 2, 1]
    assert sorted(torch.cat([batch["idx_lb"] for batch in batches]).tolist()) == list(range(5))
    for batch in batches:
        rows = ROWS[batch["idx_lb"].numpy()]
        assert batch["x_lb"].tolist() == FEATURES[rows].tolist()
        assert batch["y_lb"].tolist() == TARGETS[batch["idx_lb"].numpy()].tolist()
    again, other = epoch(0), epoch(1)
    assert all(torch.equal(a["x_lb_s"], b["x_lb_s"]) for a, b in zip(batches, again, strict=True))
    assert any(not torch.equal(a["x_lb_s"], b["x_lb_s"]) for a, b in zip(batches, other, strict=True))


class Photographs(list[torch.Tensor]):
    """Images of several sizes that count how often each is read."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        super().__init__(
            torch.randint(0, 256, (3, 20 + i, 30), dtype=torch.uint8, generator=generator) for i in range(10)
        )
        self.read: list[int] = []

    def __getitem__(self, index: Any) -> Any:
        self.read.append(int(index))
        return super().__getitem__(index)


def test_an_image_is_read_and_resized_once_for_all_views(monkeypatch: pytest.MonkeyPatch) -> None:
    resized = []
    resize = images_module.resize_square
    monkeypatch.setattr(
        images_module, "resize_square", lambda image, size: (resized.append(size), resize(image, size))[1]
    )
    small, large = (build_views("image", settings(img_size=size, cutout=0.5)) for size in (16, 24))
    views = {"x_w": small["weak"], "x_s": small["strong"], "x_0": small["strong"], "x_big": large["strong"]}
    items = Photographs()
    positions = [3, 0, 2]
    torch.manual_seed(5)
    batch = Pool(items, ROWS, views, suffix="ulb").__getitems__(positions)
    assert items.read == ROWS[positions].tolist()
    assert sorted(resized) == [16] * 3 + [24] * 3
    torch.manual_seed(5)
    for key, view in views.items():  # in their order, each from the items themselves
        assert torch.equal(batch[key], view([list.__getitem__(items, row) for row in ROWS[positions]])), key


def test_other_views_get_the_items_themselves() -> None:
    items = Photographs()
    views = {"x": build_views("image", settings(img_size=16))["eval"], "shapes": lambda raw: [x.shape for x in raw]}
    batch = Pool(items, ROWS, views).__getitems__([0, 1])
    assert batch["shapes"] == [(3, 27, 30), (3, 22, 30)]
    assert batch["x"].shape == (2, 3, 16, 16)
    assert items.read == [7, 2]


def test_text_batches_keep_their_dictionary() -> None:
    text = build_views("text", ARGS, pad_token_id=0, mask_token_id=3)
    items = [[1, *range(10, 10 + n), 2] for n in range(10)]
    pool = Pool(items, ROWS, {"x_ulb_w": text["weak"], "x_ulb_s": text["strong"]}, suffix="ulb")
    (batch,) = DataLoader(pool, batch_size=5, collate_fn=collate)
    assert batch["x_ulb_w"]["input_ids"].shape == (5, 11)
    assert batch["x_ulb_w"]["attention_mask"].sum(1).tolist() == [9, 4, 11, 6, 2]
    assert (batch["x_ulb_s"]["input_ids"] == 3).any()
