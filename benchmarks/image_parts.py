#!/usr/bin/env python
"""Parts of loading a photograph, as they are and as they could be: microseconds of each, and whether pixels are equal.

python benchmarks/image_parts.py [--out results/performance/image_parts.md]
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import ratio, report, table, take_turns
from photographs import write_photographs
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from semilearn_bbam.data.images import decode_image, resize_square
from semilearn_bbam.data.pixels import image_pixels
from semilearn_bbam.data.views import NORMS, ImageView, View, apply_views, cut_out_

COUNT = 30  # photographs, a batch
Part = Callable[[], Tensor]


def decoding(paths: list[str], size: int) -> dict[str, tuple[Part, Part]]:
    """Of files: the way that is used, and another one, by name."""

    def each(decode: Callable[[str], Tensor]) -> Part:
        return lambda: torch.stack([resize_square(decode(path), size) for path in paths])

    def drafted(path: str) -> Tensor:
        with Image.open(path) as image:
            image.draft("RGB", (size, size))
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def in_threads() -> Tensor:
        with ThreadPoolExecutor(2) as threads:
            return torch.stack(list(threads.map(lambda path: resize_square(decode_image(path), size), paths)))

    used = each(decode_image)
    return {
        "decode and resize: channels put in order before resizing, not after": (
            used,
            each(lambda path: decode_image(path).contiguous()),
        ),
        "by `torchvision.io.decode_jpeg`, not Pillow": (
            used,
            each(lambda path: by_torchvision(Path(path).read_bytes())),
        ),
        "in JPEG's draft mode": (used, each(drafted)),
        "in two threads": (used, in_threads),
    }


def augmenting(raw: list[Tensor], squares: Tensor) -> dict[str, tuple[Part, Part]]:
    """Of images as decoded and of their squares uint8 [B,3,S,S]: the same two ways, with equal draws."""
    randaugment = v2.RandAugment(num_ops=2, magnitude=10)
    view = ImageView(squares.shape[-1], "imagenet", flip=True, cutout=0.5)

    def seeded(part: Part) -> Part:
        return lambda: (torch.manual_seed(0), part())[1]

    def anew() -> Tensor:
        mirrored = torch.rand(len(squares), 1, 1, 1) < 0.5
        images = torch.where(mirrored, squares.flip(-1), squares).float() / 255
        cut_out_(images, 0.5)
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in NORMS["imagenet"])
        return (images - mean) / deviation

    views: dict[str, View] = {
        "weak": ImageView(squares.shape[-1], flip=True),
        "strong": replace(view, randaugment=randaugment),
    }
    return {
        "weak and strong view: decoded once, resized for each": (
            seeded(lambda: apply_views(views, raw, np.arange(COUNT))["strong"]),
            seeded(lambda: {name: view(raw) for name, view in views.items()}["strong"]),
        ),
        "flip, cutout, normalise: not in place": (seeded(lambda: view.augment(squares)), seeded(anew)),
        "RandAugment: images with equal draws as one batch": (
            seeded(lambda: torch.stack([randaugment(image) for image in squares])),
            seeded(lambda: grouped(randaugment, squares)),
        ),
    }


def grouped(randaugment: v2.RandAugment, images: Tensor) -> Tensor:
    """RandAugment of each image, by private methods of it: all are drawn first, then equal operations are one batch."""
    height, width = images.shape[-2:]
    drawn: list[list[tuple[str, float]]] = []
    for _ in images:
        drawn.append([])
        for _ in range(randaugment.num_ops):
            name, (values, signed) = randaugment._get_random_item(randaugment._AUGMENTATION_SPACE)
            magnitudes = values(randaugment.num_magnitude_bins, height, width)
            magnitude = 0.0 if magnitudes is None else float(magnitudes[randaugment.magnitude])
            if magnitudes is not None and signed and torch.rand(()) <= 0.5:
                magnitude = -magnitude
            drawn[-1].append((name, magnitude))
    images = images.clone()
    for step in range(randaugment.num_ops):
        groups = defaultdict(list)
        for row, operations in enumerate(drawn):
            groups[operations[step]].append(row)
        for (name, magnitude), rows in groups.items():
            images[rows] = randaugment._apply_image_or_video_transform(
                images[rows], name, magnitude, interpolation=randaugment.interpolation, fill=randaugment._fill
            )
    return images


def by_pillow(data: bytes) -> Tensor | None:
    """The pixels of a JPEG, None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image_pixels(image)
    except Exception:  # of broken files Pillow raises anything
        return None


def by_torchvision(data: bytes) -> Tensor | None:
    """The same by `torchvision.io.decode_jpeg`."""
    try:
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError:
        return None


def agreement(paths: list[str], damaged: int) -> str:
    """On how many files of several forms, and on how many damaged ones that Pillow reads, both decoders agree."""
    rng, intact, counts = np.random.default_rng(0), [], [0, 0]
    for path, (width, height) in itertools.product(paths, ((192, 128), (191, 127), (17, 9))):
        image = Image.open(path).resize((width, height))
        forms: list[dict[str, Any]] = [{"quality": 95}, {"progressive": True}, {"restart_marker_blocks": 3}]
        for number, (form, subsampling) in enumerate(itertools.product(forms, (0, 1, 2))):
            buffer = io.BytesIO()
            (image.convert("L") if number == 0 else image).save(buffer, "JPEG", subsampling=subsampling, **form)
            intact.append(buffer.getvalue())
    equal = sum(torch.equal(by_pillow(data), by_torchvision(data)) for data in intact)
    for data in (bytearray(intact[row]) for row in rng.integers(0, len(intact), damaged)):
        for place in rng.integers(len(data) // 2, len(data), 3):
            data[place] = rng.integers(0, 256)
        pixels, others = by_pillow(bytes(data)), by_torchvision(bytes(data))
        if pixels is not None:
            counts[others is not None and torch.equal(pixels, others)] += 1
    return (
        f"`decode_jpeg` gives Pillow's pixels for {equal:,} of {len(intact):,} intact files, and for {counts[1]:,} of "
        f"{sum(counts):,} damaged ones that Pillow reads."
    )


def rows_of(kind: str, parts: dict[str, tuple[Part, Part]], repeats: int) -> list[list[str]]:
    lines = []
    for name, (used, tried) in parts.items():
        seconds = take_turns({"used": used, "tried": tried}, repeats)
        times = (f"{statistics.median(seconds[key]) / COUNT * 1e6:.0f}" for key in ("used", "tried"))
        equal = "equal" if torch.equal(used(), tried()) else "other"
        lines.append([kind, name, *times, f"{ratio(seconds, 'tried', 'used'):.2f}", equal])
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--repeats", type=int, default=25)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for shape, detail, size in (((192, 128), 0.12, 64), ((500, 375), 0.5, 224)):
            paths = list(map(str, write_photographs(Path(folder) / str(size), COUNT, shape, detail)))
            raw = [decode_image(path) for path in paths]
            squares = torch.stack([resize_square(image, size) for image in raw])
            kind = f"{shape[0]} x {shape[1]}, at {size} px"
            lines += rows_of(kind, decoding(paths, size) | augmenting(raw, squares), args.repeats)
        agreed = agreement(paths, 2000)
    heads = ["photographs", "instead", "µs as it is", "µs instead", "ratio", "pixels"]
    report(f"Microseconds per photograph:\n\n{table(heads, lines)}\n{agreed}", args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
