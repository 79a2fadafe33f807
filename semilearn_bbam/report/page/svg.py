"""A figure as SVG inside a page: identifiers that no other figure has, and the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
# Colours that stand in for those of the page, which has a light and a dark set of them.
INK, MUTED, GRID, SURFACE, POSITIVE, NEGATIVE = (f"#0101{number:02x}" for number in range(1, 7))
SERIES = tuple(f"#0102{number:02x}" for number in range(1, 9))
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", SURFACE: "surface", POSITIVE: "pos", NEGATIVE: "neg"}
_VARIABLES |= {color: f"run{number}" for number, color in enumerate(SERIES, 1)}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
STYLE = {
    "svg.fonttype": "none",  # texts stay texts, in the font of the page
    "svg.hashsalt": "semilearn_bbam",
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
    "path.simplify": True,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Figures that are drawn within have the look of the page, with stand-ins for its colours."""
    with rc_context(STYLE):
        yield


def to_svg(figure: Figure, prefix: str) -> str:
    """A figure as an `svg` element for a page.

    Args:
        figure: drawn within `page_style`; without texts of a user's, which belong in the page around it.
        prefix: what its identifiers begin with, unique on the page.

    Returns:
        The element without a declaration, metadata, a fixed size or a style sheet; the same figure gives the same text.
    """
    file = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    _rename_ids(root, prefix)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    return re.sub(r">\s+<", "><", text)


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Identifiers that something refers to get the prefix, the others go."""
    link = f"{{{XLINK}}}href"
    used: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            used.update(_REFERENCE.findall(value))
            if name == link:
                used.add(value.removeprefix("#"))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{prefix}-{own}")
        for name, value in list(element.attrib.items()):
            if name == link:
                element.set(name, f"#{prefix}-{value.removeprefix('#')}")
            elif name != "id":
                element.set(name, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))
