"""Pictures of images to label: thumbnails with their names, a page or several."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semilearn_bbam.data.dataset import Items
from semilearn_bbam.report.figures.names import NamedFigure, verbatim
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.progress import progress_bar

COLUMNS, PAGE = 8, 200  # images in a row and on a page
SIDE = 160  # pixels of a thumbnail
WIDTH, HEIGHT = 1.5, 1.75  # inches of one with its name
NAME_LONGEST, LETTERS = 60, 24  # characters of a name, and of one line


def sheet_paths(out: Path, count: int) -> list[Path]:
    """The pages of a sheet next to a table: `<stem>.png`, `<stem>_2.png`, .. for this many images."""
    return [
        out.with_name(f"{out.stem}{f'_{page}' if page > 1 else ''}.png") for page in range(1, -(-count // PAGE) + 1)
    ]


def draw_item_sheet(images: Items, names: Sequence[str], out: Path, labels: Sequence[Sequence[str]] = ()) -> list[Path]:
    """Write the pages of `sheet_paths`, images uint8 [C,H,W] in their order; labels: names below each image.

    Returns all files, those of names that a page can only number too. OSError if one cannot be written.
    """
    written: list[Path] = []
    bar = iter(progress_bar(range(len(names)), "thumbnails"))
    for page, path in enumerate(sheet_paths(out, len(names))):
        rows = range(page * PAGE, min((page + 1) * PAGE, len(names)))
        lines = -(-len(rows) // COLUMNS)
        figure = NamedFigure(figsize=(WIDTH * COLUMNS, HEIGHT * lines), layout="constrained")
        for axis in figure.subplots(lines, COLUMNS, squeeze=False).flat:
            axis.set_axis_off()
        for row, axis in zip(rows, figure.axes, strict=False):
            next(bar)
            axis.imshow(_thumbnail(images[row]), cmap="gray", vmin=0, vmax=255)
            words = [figure.shown(names[row], NAME_LONGEST)]
            words += [", ".join(figure.shown(label) for label in labels[row]) or "no label"] if labels else []
            text = "\n".join(textwrap.fill(word, LETTERS, max_lines=3, placeholder=" ...") for word in words)
            axis.set_title(verbatim(text), fontsize=6)
        figure.use_fonts()
        write_atomically(path, lambda temporary, figure=figure: figure.savefig(temporary, dpi=110))  # type: ignore[misc]
        written += [path, *figure.write_names(path)]
    for _ in bar:
        pass
    return written


def _thumbnail(image: Any) -> np.ndarray[Any, Any]:
    """Small pixels [H,W] or [H,W,3] of an image uint8 [C,H,W]."""
    pixels = np.asarray(image).transpose(1, 2, 0)
    small = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    small.thumbnail((SIDE, SIDE))
    return np.asarray(small)
