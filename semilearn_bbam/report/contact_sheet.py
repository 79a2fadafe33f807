"""A picture of the input of a net: items as they are, and their weak and strong views, with their labels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from semilearn_bbam.data import Source, View
from semilearn_bbam.errors import UserError
from semilearn_bbam.report.figures.names import NamedFigure, verbatim
from semilearn_bbam.report.figures.style import LETTERS

COLUMNS = ("eval", "weak", "strong", "strong")
ITEM_LONGEST, TEXT_LONGEST = 80, 600  # characters of an item's name and of a text


def draw_contact_sheet(
    source: Source, views: Mapping[str, View], path: str | Path, *, seed: int, rows: int = 8, tokenizer: Any = None
) -> list[Path]:
    """Write a PNG with `rows` random labelled training items: as they are, a weak and two strong views of each.

    Texts (tokenized, with their `tokenizer`) are shown as the words that remain; image views should not be
    normalised. Returns the file of the names that it can only number, if any. UserError for feature vectors, which
    have no picture.
    """
    if source.kind == "features":
        raise UserError("data browse draws images and texts; feature vectors have no picture")
    rng = np.random.default_rng(seed)
    selected = np.sort(rng.permutation(len(source.targets))[:rows])
    torch.manual_seed(seed)
    width, height = (2.2, 2.4) if source.kind == "image" else (3.4, 1.9)
    figure = NamedFigure(figsize=(width * len(COLUMNS), height * len(selected)), layout="constrained")
    axes = figure.subplots(len(selected), len(COLUMNS), squeeze=False)
    for number, (line, row) in enumerate(zip(axes, selected, strict=True)):
        for axis, name in zip(line, COLUMNS, strict=True):
            batch = views[name](_batch_of_one(source.train, row))
            axis.set_axis_off()
            if source.kind == "image":
                _show_image(axis, batch[0])
            else:
                text = tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0] > 0])
                _show_text(axis, figure.shown(" ".join(text.split())[:TEXT_LONGEST], TEXT_LONGEST))
        names = [figure.shown(source.label_names[k]) for k in np.flatnonzero(source.targets[row] > 0)]
        # On the line of the first row's title are the names of the columns.
        letters = int(width * LETTERS) if number == 0 else 60
        labels = textwrap.fill(", ".join(names) or "no label", letters, max_lines=6, placeholder=" ...")
        item = textwrap.fill(figure.shown(source.item_name("train", int(row)), ITEM_LONGEST), letters)
        line[0].set_title(verbatim(f"{item}\n{labels}"), fontsize=8, loc="left")
    for axis, name in zip(axes[0][1:], COLUMNS[1:], strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(verbatim(f"{source.name}: as it is, weak, strong, strong again"), fontsize=10)
    figure.use_fonts()
    figure.savefig(path, dpi=110)
    return figure.write_names(Path(path))


def _batch_of_one(items: Any, row: int) -> Any:
    return items[np.array([row])] if isinstance(items, np.ndarray) else [items[row]]


def _show_image(axis: Axes, image: torch.Tensor) -> None:
    pixels: NDArray[np.float32] = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)


def _show_text(axis: Axes, text: str) -> None:
    lines = textwrap.wrap(text, 52, max_lines=11, placeholder=" ...")
    axis.text(0, 1, verbatim("\n".join(lines)), fontsize=7, va="top", transform=axis.transAxes)
