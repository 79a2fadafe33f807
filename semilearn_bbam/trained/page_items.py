"""Items of the test part for a page: which are shown, and each as a thumbnail, a text or a name."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semilearn_bbam.data import Source
from semilearn_bbam.report.page.model import CORRECT, MISSED, UNKNOWN, WRONG, Item, ItemGroup, ItemLabel, ScoredPart
from semilearn_bbam.report.page.render import short

SIDE = 160  # pixels of a thumbnail's longer side
SMALL = 64  # pixels up to which a picture is kept as it is
TEXT_LONGEST = 320  # characters
MAX_LABELS = 8
QUALITY = 80


def wrongness(scored: ScoredPart, thresholds: NDArray[Any]) -> NDArray[np.float64]:
    """How far the scores of items are on the wrong side of their thresholds.

        sum over wrong decisions of |score - min(threshold, 1)|

    Args:
        scored: scores, targets and known cells of the test part.
        thresholds: [K], inf for a label that is never predicted.

    Returns:
        [M], at least 0; cells that are not known do not count.
    """
    limits = np.minimum(np.asarray(thresholds, np.float64), 1.0)
    wrong = ((scored.scores >= thresholds) != scored.targets) & scored.known
    distances: NDArray[np.float64] = (np.abs(scored.scores - limits) * wrong).sum(axis=1)
    return distances


def uncertainty(scored: ScoredPart) -> NDArray[np.float64]:
    """Mean entropy of the scores of items, taken as probabilities, in bits.

        mean over labels of -(p log2 p + (1 - p) log2 (1 - p))

    Args:
        scored: scores of the test part.

    Returns:
        [M] in [0, 1].
    """
    p = np.clip(scored.scores.astype(np.float64), 1e-12, 1 - 1e-12)
    entropy: NDArray[np.float64] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(axis=1)
    return entropy


def item_groups(
    source: Source, scored: ScoredPart, thresholds: NDArray[Any], *, count: int, seed: int
) -> tuple[ItemGroup, ...]:
    """The most wrong, the most uncertain and random items of the test part.

    Args:
        source: the data, of whose test part `scored` has the scores.
        scored: scores, targets and known cells [M,K].
        thresholds: [K] of the decisions.
        count: items in a group; fewer where the part, or its wrong items, are fewer.
        seed: of the random items.

    Returns:
        Three groups, in this order.

    Raises:
        UserError: a picture that cannot be decoded.
    """
    distance, entropy = wrongness(scored, thresholds), uncertainty(scored)
    wrong = [row for row in np.argsort(-distance, kind="stable")[:count] if distance[row] > 0]
    unsure = np.argsort(-entropy, kind="stable")[:count]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(entropy))[:count])

    def items(rows: Any, measure: Callable[[int], str]) -> tuple[Item, ...]:
        return tuple(_item(source, scored, thresholds, int(row), measure(row)) for row in rows)

    far = "By how far scores are on the wrong side of their thresholds, summed over labels."
    return (
        ItemGroup("Most wrong", far, items(wrong, lambda row: f"{distance[row]:.2f}")),
        ItemGroup(
            "Most uncertain",
            "By the mean entropy of the scores, in bits.",
            items(unsure, lambda row: f"{entropy[row]:.2f} bits"),
        ),
        ItemGroup("Random", f"Drawn with seed {seed}.", items(drawn, lambda row: "")),
    )


def _item(source: Source, scored: ScoredPart, thresholds: NDArray[Any], row: int, measure: str) -> Item:
    true, known, scores = scored.targets[row] & scored.known[row], scored.known[row], scored.scores[row]
    predicted = scores >= thresholds
    shown = sorted(np.flatnonzero(true | predicted), key=lambda k: -float(scores[k]))
    # A label that is missed has a low score, and must not be cut off.
    shown = sorted(sorted(shown, key=lambda k: not true[k])[:MAX_LABELS], key=lambda k: -float(scores[k]))
    labels = tuple(
        ItemLabel(source.label_names[k], float(scores[k]), _outcome(bool(true[k]), bool(predicted[k]), bool(known[k])))
        for k in shown
    )
    content = source.test[row]
    return Item(
        name=str(source.test_ids[row]) if len(source.test_ids) else f"row {row}",
        labels=labels,
        hidden=int((true | predicted).sum()) - len(labels),
        picture=thumbnail(content) if source.kind == "image" else "",
        text=short(" ".join(str(content).split()), TEXT_LONGEST) if source.kind == "text" else "",
        measure=measure,
    )


def _outcome(true: bool, predicted: bool, known: bool) -> str:
    if not known:
        return UNKNOWN
    return (CORRECT if predicted else MISSED) if true else WRONG


def thumbnail(image: Any) -> str:
    """A picture as a data URI.

    Args:
        image: uint8 [C,H,W], an array or a tensor, C = 1 or 3.

    Returns:
        "data:image/..": a PNG of a small picture, else a JPEG of which the longer side has `SIDE` pixels.
    """
    pixels = np.moveaxis(np.asarray(image), 0, -1)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    small = max(picture.size) <= SMALL
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    if small:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"
