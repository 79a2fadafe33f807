"""Views: how raw items become a batch, unchanged or augmented; only torch's random state is used.

DataLoader seeds torch in each worker again in each epoch, with a draw from the main process's generator plus the
worker's number; so views draw differently in every worker and epoch, and follow the seed of the run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.transforms import v2

from semilearn_bbam.config import Conflict
from semilearn_bbam.data.dataset import DataError, Items
from semilearn_bbam.data.images import read_squares
from semilearn_bbam.data.mapped import MappedArray

View = Callable[[Items], Any]
STRONG = {
    "image": ("auto", "randaugment", "affine", "none"),
    "text": ("auto", "ready", "words", "none"),
    "features": ("auto", "none"),
}
# Mean and standard deviation of the channels, by the value of `normalize`.
NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def view_conflicts(values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
    """Views that data of this kind, "" where it is not known yet, do not have."""
    if kind and values["strong"] not in STRONG[kind]:
        yield ("strong",), f"strong: {values['strong']!r} does not fit {kind} data; use {', '.join(STRONG[kind])}"


def build_views(
    kind: str,
    args: argparse.Namespace,
    pad_token_id: int = 0,
    mask_token_id: int | None = None,
    ready: bool = False,
) -> dict[str, View]:
    """The views "eval", "weak" and "strong" for this kind of data; each maps a list of raw items to a batch.

    Settings read from `args`: `strong` ("none" makes it the weak view); for images `img_size`, `normalize`
    ("none", "imagenet" or "symmetric"), `flip`, `cutout`, and with RandAugment ("auto", "randaugment")
    `randaugment_n`, `randaugment_m`; for features `feature_dropout`, `feature_noise`; for text `word_dropout` and
    `word_swap` ("words"), or the ready texts of the data ("ready"), if `ready` says that they exist; "auto" prefers
    those. DataError for a value out of range.
    """
    if kind not in STRONG:
        raise DataError(f"there are no views for data of kind {kind!r}; known are: {', '.join(STRONG)}")
    for _, sentence in view_conflicts(vars(args), kind):
        raise DataError(sentence)
    active = args.strong != "none"
    if kind == "image":
        return _image_views(args)
    if kind == "features":
        dropout = _in_range(args, "feature_dropout", 0.0, 0.99)
        noise = _in_range(args, "feature_noise", 0.0, float("inf"))
        either = FeatureView(copies=True)
        noisy = FeatureView(dropout, noise, copies=True) if active else either
        return {"eval": FeatureView(), "weak": either, "strong": noisy}
    text = TextView(pad_token_id)
    if args.strong == "ready" and not ready:
        raise DataError("strong: ready needs ready texts in the data (a column strong or aug_0); use words or none")
    strong = text
    if active and ready and args.strong != "words":
        strong = TextView(pad_token_id, ready=True)
    elif active:
        rate, swap = _in_range(args, "word_dropout", 0.0, 1.0), _in_range(args, "word_swap", 0.0, 1.0)
        strong = TextView(pad_token_id, rate, mask_token_id, swap)
    return {"eval": text, "weak": text, "strong": strong}


def apply_views(views: Mapping[str, View], items: Items, rows: NDArray[np.int64]) -> dict[str, Any]:
    """The batch of each view of `items[rows]`; images are decoded and resized once for all views of one size."""
    sizes = {view.size for view in views.values() if isinstance(view, ImageView)}
    if sizes and all(isinstance(view, ImageView) for view in views.values()):
        squares = read_squares(items, rows, sizes)
        return {key: view.augment(squares[view.size]) for key, view in views.items() if isinstance(view, ImageView)}
    raw = items[rows] if isinstance(items, (np.ndarray, MappedArray)) else [items[row] for row in rows]
    return {key: view(raw) for key, view in views.items()}


def _image_views(args: argparse.Namespace) -> dict[str, View]:
    if args.img_size < 1:
        raise DataError(f"img_size must be at least 1, got {args.img_size}")
    if args.normalize not in ("none", *NORMS):
        raise DataError(f"normalize must be none, {' or '.join(NORMS)}, got {args.normalize!r}")
    size, norm = int(args.img_size), str(args.normalize)
    cutout = _in_range(args, "cutout", 0.0, 1.0)
    weak = ImageView(size, norm, flip=bool(args.flip))
    strong = weak
    if args.strong == "affine":
        # Small rotations and shears do not change a digit or a letter into another one; mirroring would.
        strong = ImageView(size, norm, affine=True, cutout=cutout)
    elif args.strong != "none":
        count, magnitude = int(args.randaugment_n), int(_in_range(args, "randaugment_m", 0, 30))
        if count < 0:
            raise DataError(f"randaugment_n must be at least 0, got {count}")
        randaugment = v2.RandAugment(num_ops=count, magnitude=magnitude)
        strong = ImageView(size, norm, flip=bool(args.flip), randaugment=randaugment, cutout=cutout)
    return {"eval": ImageView(size, norm), "weak": weak, "strong": strong}


def _in_range(args: argparse.Namespace, name: str, low: float, high: float) -> float:
    value = float(getattr(args, name))
    if not low <= value <= high:
        raise DataError(f"{name} must be between {low:g} and {high:g}, got {value:g}")
    return value


@dataclass(frozen=True)
class ImageView:
    """Images uint8 [C,H,W], C = 1 or 3 -> float32 [B,C,size,size] in [0,1], or shifted and scaled by `normalize`.

    In this order: resize to a square, random mirroring (`flip`), `randaugment`, small random affine maps with
    light brightness changes and noise (`affine`), cutout of a square with the side `cutout` * size,
    normalisation, for which grey images are repeated to three channels. Each image has its own draws.
    """

    size: int
    normalize: str = "none"
    flip: bool = False
    randaugment: v2.RandAugment | None = None
    affine: bool = False
    cutout: float = 0.0

    def __call__(self, items: Items) -> Tensor:
        return self.augment(read_squares(items, np.arange(len(items)), [self.size])[self.size])

    def augment(self, squares: Tensor) -> Tensor:
        """The view of images that are resized already, uint8 [B,C,size,size], which stay as they are."""
        batch = squares
        if self.flip:
            mirrored = torch.rand(len(batch)) < 0.5
            batch = batch.clone()
            batch[mirrored] = batch[mirrored].flip(-1)
        if self.randaugment is not None:
            batch = torch.stack([self.randaugment(image) for image in batch])
        # In place from here on: allocating a large batch takes longer than dividing it.
        images = batch.to(torch.float32, copy=True).div_(255)
        if self.affine:
            images = random_affine(images)
        if self.cutout > 0:
            cut_out_(images, self.cutout)
        if self.normalize != "none":
            images = images if images.shape[1] == 3 else images.repeat(1, 3, 1, 1)
            mean, deviation = map(torch.tensor, NORMS[self.normalize])
            images.sub_(mean.view(3, 1, 1)).div_(deviation.view(3, 1, 1))
        return images


def random_affine(images: Tensor) -> Tensor:
    """Move and brighten or darken each image [B,C,S,S] in [0,1] slightly, so that a digit stays the same digit.

    Rotation up to 15 degrees, shear up to 10, scale 0.85 to 1.15, shift up to 8 % of the side, brightness up
    to 20 % up or down, noise of standard deviation 0.03; pixels from outside the image are black.
    """
    count = len(images)

    def uniform(limit: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape) * 2 - 1) * limit

    angle, shear = torch.deg2rad(uniform(15.0)), torch.tan(torch.deg2rad(uniform(10.0)))
    scale = 1 + uniform(0.15)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    maps = torch.stack([cosine, shear * cosine - sine, sine, shear * sine + cosine], dim=1).view(count, 2, 2)
    shift = uniform(0.16, 2, 1)  # grid coordinates run from -1 to 1, so 0.16 of them is 8 % of the side
    grid = F.affine_grid(torch.cat([maps, shift], dim=2), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    moved = moved * (1 + uniform(0.2, 1, 1, 1)) + 0.03 * torch.randn_like(moved)
    return moved.clamp(0, 1)


def cut_out_(images: Tensor, share: float) -> None:
    """Fill a square of side round(share * S), centred anywhere in each image [B,C,S,S], with its mean; in place."""
    size = images.shape[-1]
    side = round(share * size)
    start = torch.randint(size, (len(images), 2, 1)).squeeze(-1) - side // 2
    tops_lefts, ends = start.clamp(min=0).tolist(), (start + side).clamp(min=0).tolist()
    means = images.mean(dim=(2, 3), keepdim=True)
    for image, mean, (top, left), (bottom, right) in zip(images, means, tops_lefts, ends, strict=True):
        image[:, top:bottom, left:right] = mean


@dataclass(frozen=True)
class FeatureView:
    """Vectors [D] -> float32 [B,D], with dropout and then Gaussian noise.

    Survivors of dropout are scaled by 1/(1-dropout); the noise has the standard deviation `noise`, in the
    unit of the features as they are, the same for every dimension. Of items [C,D], a vector and its copies, the first
    is taken, or with `copies` one at random.
    """

    dropout: float = 0.0
    noise: float = 0.0
    copies: bool = False

    def __call__(self, items: Items) -> Tensor:
        array = np.asarray(items)
        changed = (
            self.dropout > 0 or self.noise > 0
        )  # into a new tensor, so that the items themselves will do until then
        share = changed and array.flags.writeable and array.dtype == np.float32
        batch = torch.from_numpy(array) if share else torch.tensor(array, dtype=torch.float32)
        if batch.dim() == 3:
            chosen = torch.randint(batch.shape[1], (len(batch),)) if self.copies else torch.zeros(len(batch)).long()
            batch = batch[torch.arange(len(batch)), chosen]
        if self.dropout > 0:
            batch = F.dropout(batch, self.dropout)
        if self.noise > 0:
            batch = batch + self.noise * torch.randn_like(batch)
        return batch


@dataclass(frozen=True)
class TextView:
    """Token ids -> {"input_ids", "attention_mask"} int64 [B,L], padded on the right to the longest text.

    With probability `word_dropout` each token but the first and the last of a text, which are the special
    ones, is replaced by `mask_token_id`, or removed where that is None; before that, a random share `word_swap`
    of them change places with one another. An item may be a tuple of a text and its ready strong texts: `ready`
    takes one of these at random (the text itself where there is none), every other view the text.
    """

    pad_token_id: int = 0
    word_dropout: float = 0.0
    mask_token_id: int | None = None
    word_swap: float = 0.0
    ready: bool = False

    def __call__(self, items: Items) -> dict[str, Tensor]:
        texts = [torch.as_tensor(self._choose(item), dtype=torch.int64) for item in items]
        ids = pad_sequence(texts, batch_first=True, padding_value=self.pad_token_id)
        lengths = torch.tensor([len(text) for text in texts])
        if self.word_swap > 0:
            ids = self._swap(ids, lengths)
        if self.word_dropout > 0:
            ids, lengths = self._drop(ids, lengths)
        attended = torch.arange(ids.shape[1]) < lengths[:, None]
        return {"input_ids": ids, "attention_mask": attended.long()}

    def _choose(self, item: Any) -> Any:
        if not isinstance(item, tuple):
            return item
        return item[int(torch.randint(1, len(item), ()))] if self.ready and len(item) > 1 else item[0]

    def _swap(self, ids: Tensor, lengths: Tensor) -> Tensor:
        position = torch.arange(ids.shape[1]).expand_as(ids)
        inner = (position > 0) & (position < lengths[:, None] - 1)
        moved = inner & (torch.rand(ids.shape) < self.word_swap)
        # The swapped positions in their order, and in a random order; all others stay in place.
        from_left = torch.where(moved, position, position + ids.shape[1]).argsort(dim=1)
        at_random = torch.where(moved, torch.rand(ids.shape), 1.0 + position).argsort(dim=1)
        count = moved.sum(1, keepdim=True)
        swapped = position < count
        source = torch.where(swapped, at_random, from_left)
        return ids.scatter(1, from_left, ids.gather(1, source))

    def _drop(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        position = torch.arange(ids.shape[1])
        inner = (position > 0) & (position < lengths[:, None] - 1)
        dropped = inner & (torch.rand(ids.shape) < self.word_dropout)
        if self.mask_token_id is not None:
            return ids.masked_fill(dropped, self.mask_token_id), lengths
        # A stable sort on "dropped" moves the dropped tokens, then the padding, behind those that stay.
        order = (dropped.int() + 2 * (position >= lengths[:, None]).int()).argsort(dim=1, stable=True)
        lengths = lengths - dropped.sum(1)
        ids = ids.gather(1, order).masked_fill(position >= lengths[:, None], self.pad_token_id)
        return ids[:, : int(lengths.max())], lengths
