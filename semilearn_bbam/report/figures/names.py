"""Names in figures: as they are written, in a font that has their characters, or numbered with a legend in text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from semilearn_bbam.util.files import write_atomically

LONGEST = 48  # characters of a label's or an item's name in a figure
METHOD_LONGEST = 100  # of a method's, which may name its options
UNKNOWN = "?"


def verbatim(text: str) -> str:
    """A name as it is, not as mathematics."""
    return text.replace("$", r"\$")


class NamedFigure(Figure):
    """A figure that keeps the full names of what it cannot show, by number, and the further fonts that it needs.

    Give every name of a user's through `shown`, call `use_fonts` before saving and `write_names` after it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.numbered: dict[str, int] = {}
        self.fonts: dict[str, None] = {}

    def shown(self, name: str, longest: int = LONGEST) -> str:
        """The name as this figure can show it: itself, or where it is long or lacks a font its number and a part of it.

        Characters that no font has become ?. Escape it by `verbatim` where the figure would read mathematics.
        """
        line = "".join(c if c.isprintable() else " " if c.isspace() else UNKNOWN for c in name)
        fonts, missing = fonts_for(frozenset(line))
        drawn = "".join(UNKNOWN if c in missing else c for c in line)
        if len(drawn) <= longest and (drawn == line) and line == name:
            self.fonts.update(dict.fromkeys(fonts))
            return name
        number = self.numbered.setdefault(name, len(self.numbered) + 1)
        self.fonts.update(dict.fromkeys(fonts))
        part = drawn if len(drawn) <= longest else drawn[: longest - 1].rstrip() + "…"
        return f"[{number}] {part}" if part.strip(UNKNOWN + " …") else f"[{number}]"

    def use_fonts(self) -> None:
        """Give all texts of the figure the further fonts that its names need."""
        if self.fonts:
            for text in self.findobj(Text):
                assert isinstance(text, Text)
                text.set_fontfamily([*text.get_fontfamily(), *self.fonts])

    def write_names(self, picture: Path) -> list[Path]:
        """Write the numbered names next to a picture, as `<its name>_names.txt`; no file where there are none."""
        path = picture.with_name(f"{picture.stem}_names.txt")
        if not self.numbered:
            return []
        lines = (f"[{number}] {name}\n" for name, number in self.numbered.items())
        write_atomically(path, lambda temporary: temporary.write_text("".join(lines), encoding="utf-8"))
        return [path]


@lru_cache(maxsize=4096)
def fonts_for(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The installed fonts that have these characters where matplotlib's own lacks them, and what no font has."""
    missing = {c for c in characters if ord(c) > 127 and ord(c) not in glyphs(_own_font())}
    fonts: list[str] = []
    while missing:
        best, share = "", set[str]()
        for family, path in _further_fonts():
            covered = {c for c in missing if ord(c) in glyphs(path)}
            if len(covered) > len(share):
                best, share = family, covered
            if share == missing:
                break
        if not share:
            break
        fonts.append(best)
        missing -= share
    return tuple(fonts), frozenset(missing)


@lru_cache(maxsize=512)
def glyphs(path: str) -> frozenset[int]:
    """The code points that a font file can draw; none for a file that cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _own_font() -> str:
    return font_manager.findfont(FontProperties())


def _further_fonts() -> list[tuple[str, str]]:
    """Regular fonts by family, those made for East Asia first."""
    regular = {
        font.name: font.fname
        for font in font_manager.fontManager.ttflist
        if (font.style, font.weight) == ("normal", 400)
    }
    return sorted(regular.items(), key=lambda font: (not _is_east_asian(font[0]), font[0]))


def _is_east_asian(family: str) -> bool:
    words: Iterable[str] = ("cjk", "han ", "wenquan", "wqy", "gothic", "ming", "song", "hei", "yahei", "pingfang")
    return any(word in family.lower() for word in words)
