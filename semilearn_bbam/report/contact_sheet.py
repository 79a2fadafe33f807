"""A picture of the input of a net: items as they are, and their weak and strong views, with their labels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semilearn_bbam.data import Source, View
from semilearn_bbam.errors import UserError

COLUMNS = ("eval", "weak", "strong", "strong")


def draw_contact_sheet(
    source: Source, views: Mapping[str, View], path: str | Path, *, seed: int, rows: int = 8, tokenizer: Any = None
) -> None:
    """Write a PNG with `rows` random labelled training items: as they are, a weak and two strong views of each.

    Texts (tokenized, with their `tokenizer`) are shown as the words that remain; image views should not be
    normalised. UserError for feature vectors, which have no picture.
    """
    if source.kind == "features":
        raise UserError("data browse draws images and texts; feature vectors have no picture")
    rng = np.random.default_rng(seed)
    selected = np.sort(rng.permutation(len(source.targets))[:rows])
    torch.manual_seed(seed)
    width, height = (2.2, 2.4) if source.kind == "image" else (3.4, 1.9)
    figure = Figure(figsize=(width * len(COLUMNS), height * len(selected)), layout="constrained")
    axes = figure.subplots(len(selected), len(COLUMNS), squeeze=False)
    for line, row in zip(axes, selected, strict=True):
        for axis, name in zip(line, COLUMNS, strict=True):
            batch = views[name](_batch_of_one(source.train, row))
            axis.set_axis_off()
            if source.kind == "image":
                _show_image(axis, batch[0])
            else:
                _show_text(axis, tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0] > 0]))
        names = [source.label_names[k] for k in np.flatnonzero(source.targets[row] > 0)]
        title = f"{source.item_name('train', int(row))}\n{textwrap.fill(', '.join(names) or 'no label', 60)}"
        line[0].set_title(title, fontsize=8, loc="left")
    for axis, name in zip(axes[0][1:], COLUMNS[1:], strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(f"{source.name}: as it is, weak, strong, strong again", fontsize=10)
    figure.savefig(path, dpi=110)


def _batch_of_one(items: Any, row: int) -> Any:
    return items[np.array([row])] if isinstance(items, np.ndarray) else [items[row]]


def _show_image(axis: Axes, image: torch.Tensor) -> None:
    pixels: NDArray[np.float32] = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)


def _show_text(axis: Axes, text: str) -> None:
    lines = textwrap.wrap(text, 52, max_lines=11, placeholder=" ...")
    axis.text(0, 1, "\n".join(lines).replace("$", r"\$"), fontsize=7, va="top", transform=axis.transAxes)
