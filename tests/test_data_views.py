from __future__ import annotations

import argparse
import pickle
import time
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from semilearn_bbam.data import views as views_module
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.views import NORMS, View, build_views, cut_out_, random_affine
from tests.conftest import naming


def arguments(**changes: Any) -> argparse.Namespace:
    base = {
        "strong": "auto",
        "img_size": 32,
        "normalize": "none",
        "flip": True,
        "randaugment_n": 2,
        "randaugment_m": 10,
        "cutout": 0.4,
        "feature_dropout": 0.3,
        "feature_noise": 0.1,
        "word_dropout": 0.5,
        "word_swap": 0.0,
    }
    return argparse.Namespace(**{**base, **changes})


def pictures(count: int, channels: int, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def drawn(view: View, items: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return view(items)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strong", ["auto", "randaugment", "affine", "none"])
def test_image_views_shapes_ranges_and_draws(channels: int, strong: str) -> None:
    items = pictures(6, channels)
    views = build_views("image", arguments(strong=strong))
    assert set(views) == {"eval", "weak", "strong"}
    for view in views.values():
        batch = drawn(view, items.numpy(), 1)
        assert batch.shape == (6, channels, 32, 32)
        assert batch.dtype == torch.float32
        assert batch.min() >= 0
        assert batch.max() <= 1
        assert torch.equal(batch, drawn(view, items.numpy(), 1))
        assert torch.equal(batch, drawn(view, list(items), 1))
    assert torch.equal(views["eval"](items.numpy()), items / 255)
    same = torch.equal(drawn(views["strong"], items.numpy(), 1), drawn(views["weak"], items.numpy(), 1))
    assert same == (strong == "none")
    if strong != "none":
        assert not torch.equal(drawn(views["strong"], items.numpy(), 1), drawn(views["strong"], items.numpy(), 2))


def plainly(items: Any, size: int, norm: str, flip: bool, randaugment: Any, cutout: float) -> torch.Tensor:
    """An image view image by image, without anything in place, with the draws in the view's order."""
    squares = [v2.functional.resize(item.contiguous(), [size, size], antialias=True) for item in items]
    if flip:
        draws = torch.rand(len(items))
        squares = [square.flip(-1) if draw < 0.5 else square for square, draw in zip(squares, draws, strict=True)]
    if randaugment is not None:
        squares = [randaugment(square) for square in squares]
    images = torch.stack(squares).float() / 255
    if cutout > 0:
        side = round(cutout * size)
        for image, (top, left) in zip(images, torch.randint(size, (len(items), 2)) - side // 2, strict=True):
            mean = image.mean(dim=(1, 2))
            for y in range(max(top, 0), min(top + side, size)):
                for x in range(max(left, 0), min(left + side, size)):
                    image[:, y, x] = mean
    if norm == "none":
        return images
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in NORMS[norm])
    return torch.stack([(image.expand(3, -1, -1) - mean) / deviation for image in images])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["none", "imagenet"])
@pytest.mark.parametrize("name", ["eval", "weak", "strong"])
def test_image_views_are_bit_equal_to_a_plain_derivation(name: str, norm: str, channels: int) -> None:
    # Channels last, as `decode_image` gives them.
    items = [pictures(1, channels, 20 + i, 50 - i)[0].permute(1, 2, 0).contiguous().permute(2, 0, 1) for i in range(18)]
    view = build_views("image", arguments(normalize=norm, cutout=0.45))[name]
    chosen = (name != "eval", v2.RandAugment(2, 10) if name == "strong" else None, 0.45 if name == "strong" else 0.0)
    for seed in range(4):
        batch = drawn(view, items, seed)
        assert batch.is_contiguous()
        torch.manual_seed(seed)
        assert torch.equal(batch, plainly(items, 32, norm, *chosen))


def test_views_leave_their_items_as_they_are() -> None:
    items = pictures(6, 3).numpy()
    before = items.copy()
    for view in build_views("image", arguments(normalize="imagenet")).values():
        view(items)
        assert np.array_equal(items, before)


def test_weak_view_mirrors_each_image_separately() -> None:
    items = pictures(40, 1)
    batch = drawn(build_views("image", arguments())["weak"], items.numpy(), 0) * 255
    mirrored = [bool(torch.equal(out, image.flip(-1).float())) for out, image in zip(batch, items, strict=True)]
    unchanged = [bool(torch.equal(out, image.float())) for out, image in zip(batch, items, strict=True)]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert 8 < sum(mirrored) < 32
    unflipped = build_views("image", arguments(flip=False))["weak"]
    assert torch.equal(unflipped(items.numpy()), items / 255)


def test_strong_images_differ_from_each_other() -> None:
    same = pictures(1, 1).expand(8, 1, 32, 32).numpy()
    for strong in ("randaugment", "affine"):
        batch = drawn(build_views("image", arguments(strong=strong))["strong"], same, 0)
        assert len({image.numpy().tobytes() for image in batch}) == 8


def test_images_of_any_size_become_squares() -> None:
    ramp = torch.linspace(0, 255, 60).round().to(torch.uint8).expand(3, 20, 60)
    items = [ramp, pictures(1, 3, 50, 40)[0], pictures(1, 3)[0]]
    batch = build_views("image", arguments())["eval"](items)
    assert batch.shape == (3, 3, 32, 32)
    assert (batch[0, 0, 0] - torch.linspace(0, 1, 32)).abs().max() < 0.03
    assert torch.equal(batch[2], items[2] / 255)
    assert build_views("image", arguments(img_size=16))["strong"](items).shape == (3, 3, 16, 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_imagenet_normalisation(channels: int) -> None:
    items = pictures(2, channels)
    batch = build_views("image", arguments(normalize="imagenet"))["eval"](items.numpy())
    assert batch.shape == (2, 3, 32, 32)
    for c, (mean, deviation) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        expected = (items[:, min(c, channels - 1)] / 255 - mean) / deviation
        assert torch.allclose(batch[:, c], expected, atol=1e-5)


def test_cutout_fills_one_clipped_square_with_the_mean() -> None:
    torch.manual_seed(0)
    images = torch.rand(50, 2, 20, 20)
    cut = images.clone()
    cut_out_(cut, 0.3)
    for before, after in zip(images, cut, strict=True):
        changed = (before != after).any(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        assert 3 <= len(rows) <= 6
        assert 3 <= len(columns) <= 6
        assert changed.sum() == len(rows) * len(columns)
        for c in range(2):
            assert torch.allclose(after[c][changed], before[c].mean())
    cut_out_(cut := images.clone(), 0.0)
    assert torch.equal(cut, images)


def test_affine_moves_a_little_and_stays_in_range() -> None:
    torch.manual_seed(0)
    images = torch.zeros(200, 1, 33, 33)
    images[:, :, 14:19, 14:19] = 1
    moved = random_affine(images)
    assert moved.min() >= 0
    assert moved.max() <= 1
    place = torch.arange(33).float()
    solid = (moved > 0.4).float()
    for axis in (2, 3):
        centre = (solid.sum(dim=5 - axis).squeeze(1) * place).sum(1) / solid.sum(dim=(1, 2, 3))
        assert 0.3 < centre.std() < 2
        assert (centre - 16).abs().max() < 0.08 * 1.5 * 33
    area = solid.sum(dim=(1, 2, 3))
    assert 15 < area.min() < 25 < area.max() < 40


@pytest.mark.parametrize("strong", ["randaugment", "affine"])
def test_weak_and_eval_views_do_no_strong_work(strong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("strong augmentation was computed")

    monkeypatch.setattr(v2.RandAugment, "forward", refuse)
    monkeypatch.setattr(views_module, "random_affine", refuse)
    monkeypatch.setattr(views_module, "cut_out_", refuse)
    views = build_views("image", arguments(strong=strong))
    items = pictures(3, 1).numpy()
    views["eval"](items)
    views["weak"](items)
    with pytest.raises(AssertionError, match="strong augmentation"):
        views["strong"](items)


def test_affine_view_is_fast_enough_for_digits() -> None:
    items = pictures(256, 1).numpy()
    strong = build_views("image", arguments(strong="affine"))["strong"]
    strong(items)
    best = 1.0
    for _ in range(3):
        start = time.perf_counter()
        strong(items)
        best = min(best, (time.perf_counter() - start) / 256)
    assert best < 250e-6


def test_feature_views() -> None:
    items = np.random.default_rng(0).normal(5, 1, size=(50, 40)).astype(np.float16)
    views = build_views("features", arguments())
    for name in ("eval", "weak"):
        batch = views[name](items)
        assert batch.dtype == torch.float32
        assert torch.equal(batch, torch.from_numpy(items).float())
        assert torch.equal(views[name](list(items)), batch)
    strong = drawn(views["strong"], items, 0)
    assert torch.equal(strong, drawn(views["strong"], items, 0))
    dropped = strong.abs() < 0.6
    assert 0.25 < dropped.float().mean() < 0.35
    noise = (strong - torch.from_numpy(items).float() / 0.7)[~dropped]
    assert abs(noise.mean()) < 0.02
    assert 0.09 < noise.std() < 0.11
    still = build_views("features", arguments(feature_dropout=0.0, feature_noise=0.0))["strong"]
    assert torch.equal(still(items), torch.from_numpy(items).float())
    none = build_views("features", arguments(strong="none"))["strong"]
    assert torch.equal(none(items), torch.from_numpy(items).float())


TEXTS = [[1, 11, 12, 13, 14, 2], [1, 21, 2], [1, 2], [1, 31, 32, 33, 2]]


def test_text_views_pad_to_the_longest() -> None:
    for items in (TEXTS, [np.array(text, dtype=np.int32) for text in TEXTS]):
        batch = build_views("text", arguments(), pad_token_id=9)["eval"](items)
        assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64
        assert batch["input_ids"].tolist() == [text + [9] * (6 - len(text)) for text in TEXTS]
        assert batch["attention_mask"].tolist() == [[1] * len(t) + [0] * (6 - len(t)) for t in TEXTS]


def test_word_dropout_replaces_inner_tokens() -> None:
    view = build_views("text", arguments(word_dropout=0.25), pad_token_id=9, mask_token_id=7)["strong"]
    replaced = total = 0
    for seed in range(100):
        batch = drawn(view, TEXTS, seed)
        assert batch["attention_mask"].sum(1).tolist() == [6, 3, 2, 5]
        for ids, text in zip(batch["input_ids"].tolist(), TEXTS, strict=True):
            assert ids[len(text) :] == [9] * (6 - len(text))
            assert (ids[0], ids[len(text) - 1]) == (1, 2)
            for token, original in zip(ids[1 : len(text) - 1], text[1:-1], strict=True):
                assert token in (original, 7)
                replaced, total = replaced + (token == 7), total + 1
    assert 0.2 < replaced / total < 0.3
    assert torch.equal(drawn(view, TEXTS, 3)["input_ids"], drawn(view, TEXTS, 3)["input_ids"])


def test_word_dropout_removes_where_there_is_no_mask_token() -> None:
    view = build_views("text", arguments(word_dropout=0.5), pad_token_id=9)["strong"]
    removed = 0
    for seed in range(100):
        batch = drawn(view, TEXTS, seed)
        lengths = batch["attention_mask"].sum(1).tolist()
        assert batch["input_ids"].shape[1] == max(lengths)
        for ids, mask, length, text in zip(*map(list, batch.values()), lengths, TEXTS, strict=True):
            assert mask.tolist() == [1] * length + [0] * (len(ids) - length)
            remaining, rest = ids[:length].tolist(), iter(text)
            assert all(token in rest for token in remaining)  # the order is the old one
            assert (remaining[0], remaining[-1]) == (1, 2)
            assert set(ids[length:].tolist()) <= {9}
            removed += len(text) - length
    assert 0.4 < removed / (100 * 8) < 0.6


def test_word_dropout_extremes() -> None:
    plain = build_views("text", arguments(), 9)["weak"](TEXTS)
    for strong in (
        build_views("text", arguments(word_dropout=0.0), 9, 7)["strong"](TEXTS),
        build_views("text", arguments(strong="none"), 9, 7)["strong"](TEXTS),
    ):
        assert all(torch.equal(strong[key], plain[key]) for key in plain)
    everything = build_views("text", arguments(word_dropout=1.0), 9)["strong"](TEXTS)
    assert everything["input_ids"].tolist() == [[1, 2]] * 4


def test_word_swap_moves_its_share_of_the_inner_tokens_and_loses_none() -> None:
    texts = [[1, *range(10, 50), 2], [1, *range(60, 80), 2], [1, 2], [1, 5, 2]]
    view = build_views("text", arguments(word_dropout=0.0, word_swap=0.5), pad_token_id=9)["strong"]
    moved = total = 0
    for seed in range(50):
        batch = drawn(view, texts, seed)
        for ids, mask, text in zip(batch["input_ids"].tolist(), batch["attention_mask"], texts, strict=True):
            assert int(mask.sum()) == len(text)
            inside = ids[: len(text)]
            assert sorted(inside) == sorted(text)
            assert (inside[0], inside[-1]) == (1, 2)
            assert set(ids[len(text) :]) <= {9}
            moved += sum(a != b for a, b in zip(inside, text, strict=True))
            total += len(text) - 2
    # Each token is chosen with probability 0.5, and a random order leaves one of each choice in place on average.
    assert moved / total == pytest.approx(0.5 - 2 / 61, abs=0.05)


def test_ready_texts_are_the_strong_view_where_there_are_any() -> None:
    items = [(np.array([1, 10, 2]), np.array([1, 20, 21, 2]), np.array([1, 30, 2])), (np.array([1, 11, 2]),)]
    views = build_views("text", arguments(word_dropout=1.0), pad_token_id=9, ready=True)
    assert views["weak"](items)["input_ids"].tolist() == [[1, 10, 2], [1, 11, 2]]
    id_sets = {tuple(drawn(views["strong"], items, seed)["input_ids"][0].tolist()) for seed in range(20)}
    assert {tuple(token for token in ids if token != 9) for ids in id_sets} == {(1, 20, 21, 2), (1, 30, 2)}
    assert drawn(views["strong"], items, 0)["input_ids"][1].tolist()[:3] == [1, 11, 2]
    words = build_views("text", arguments(strong="words", word_dropout=1.0), pad_token_id=9, ready=True)["strong"]
    assert words(items)["input_ids"].tolist() == [[1, 2], [1, 2]]
    with pytest.raises(DataError, match=naming("strong: ready", "column strong or aug_0", "words or none")):
        build_views("text", arguments(strong="ready"))


def test_symmetric_range() -> None:
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    view = build_views("image", arguments(normalize="symmetric"))["eval"]
    assert torch.equal(view(white), torch.ones(1, 3, 32, 32))
    assert torch.equal(view(0 * white), -torch.ones(1, 3, 32, 32))


@pytest.mark.parametrize("kind", ["image", "features", "text"])
def test_views_can_be_sent_to_workers(kind: str) -> None:
    items: Any = TEXTS if kind == "text" else pictures(2, 1).numpy()
    for view in build_views(kind, arguments()).values():
        first, second = drawn(view, items, 0), drawn(pickle.loads(pickle.dumps(view)), items, 0)
        if kind == "text":
            first, second = first["input_ids"], second["input_ids"]
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("video", {}, ("'video'", "image, text, features")),
        ("text", {"strong": "affine"}, ("strong: 'affine'", "text data", "auto, ready, words, none")),
        ("image", {"strong": "mixup"}, ("strong: 'mixup'", "image data", "auto, randaugment, affine, none")),
        ("image", {"img_size": 0}, ("img_size", "at least 1", "got 0")),
        ("image", {"normalize": "cifar"}, ("normalize", "none, imagenet or symmetric", "'cifar'")),
        ("image", {"cutout": 1.5}, ("cutout", "0 and 1", 1.5)),
        ("image", {"randaugment_m": 31}, ("randaugment_m", "0 and 30", 31)),
        ("image", {"randaugment_n": -1}, ("randaugment_n", "at least 0", "-1")),
        ("features", {"feature_dropout": 1.0}, ("feature_dropout", "0 and 0.99", "got 1")),
        ("features", {"feature_noise": -1.0}, ("feature_noise", "0 and inf", "-1")),
        ("text", {"word_dropout": float("nan")}, ("word_dropout", "0 and 1", "nan")),
    ],
)
def test_bad_settings_are_named(kind: str, changes: dict[str, Any], message: tuple[object, ...]) -> None:
    with pytest.raises(DataError, match=naming(*message)):
        build_views(kind, arguments(**changes))
