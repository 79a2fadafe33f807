"""Names in figures: as written, in a font that has them, or numbered with the full names in a text beside."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import ft2font
from PIL import Image

from semilearn_bbam.data import Source
from semilearn_bbam.data.views import build_views
from semilearn_bbam.report import draw_contact_sheet
from semilearn_bbam.report.figures import Method, draw_label_ap, draw_precision_recall, save
from semilearn_bbam.report.figures import names as names_module
from semilearn_bbam.report.figures.names import NamedFigure, fonts_for, verbatim
from semilearn_bbam.report.plots import _name
from tests.conftest import settings

LONG = "x" * 300


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only matplotlib's own font, which has no CJK."""
    monkeypatch.setattr(names_module, "_further_fonts", lambda: [])
    fonts_for.cache_clear()
    yield
    fonts_for.cache_clear()


@pytest.mark.usefixtures("no_fonts")
def test_what_can_be_drawn_stays_and_the_rest_is_numbered(tmp_path: Path) -> None:
    figure = NamedFigure()
    assert [figure.shown(name) for name in ("cat", "Grüße", "cost_$ a$b")] == ["cat", "Grüße", "cost_$ a$b"]
    assert figure.numbered == {}
    assert figure.write_names(tmp_path / "a.png") == []
    assert figure.shown("猫") == "[1]"
    assert figure.shown("犬 dog") == "[2] ? dog"
    assert figure.shown("猫") == "[1]"
    shown = figure.shown(LONG)
    assert shown.startswith("[3] xxx")
    assert len(shown) < 60
    assert figure.shown("two\nlines\x07") == "[4] two lines?"
    (path,) = figure.write_names(tmp_path / "a.png")
    assert path == tmp_path / "a_names.txt"
    assert path.read_text(encoding="utf-8").split("\n")[:3] == ["[1] 猫", "[2] 犬 dog", f"[3] {LONG}"]


def test_a_font_that_has_the_characters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    own = names_module._own_font()
    monkeypatch.setattr(
        names_module, "_further_fonts", lambda: [("Without", "none.ttf"), ("Noto Sans CJK JP", "cjk.ttc")]
    )
    glyphs = {own: frozenset(range(32, 0x250)), "cjk.ttc": frozenset({ord("猫"), ord("犬")})}
    monkeypatch.setattr(names_module, "glyphs", lambda path: glyphs.get(path, frozenset()))
    fonts_for.cache_clear()
    figure = NamedFigure()
    text = figure.suptitle(verbatim(figure.shown("猫 und $")))
    assert figure.numbered == {}
    figure.use_fonts()
    assert text.get_fontfamily()[-1] == "Noto Sans CJK JP"
    assert figure.shown("狐") == "[1]"
    fonts_for.cache_clear()


def test_a_font_file_that_cannot_be_read_has_no_glyphs(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert names_module.glyphs(str(tmp_path / "broken.ttf")) == frozenset()
    assert ord("a") in names_module.glyphs(names_module._own_font())
    assert ft2font.FT2Font(names_module._own_font()).family_name == "DejaVu Sans"


def drawn_without_warnings(draw: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw()  # type: ignore[operator]


@pytest.mark.usefixtures("no_fonts")
def test_a_contact_sheet_shows_dollars_long_names_and_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3, 12, 12), np.uint8)
    targets = np.ones((4, 4), np.float32)
    labels = ("cost_$", "a $\\frac b$", LONG, "猫")
    ids = ["im$1$.png", "im_2$.png", "図3.png", LONG + ".png"]
    source = Source("a$b$", "image", pixels, targets, pixels, targets, labels, "mark", ids, ids)
    views = build_views("image", settings(img_size=12, normalize="none"))
    path = tmp_path / "sheet.png"
    drawn_without_warnings(lambda: draw_contact_sheet(source, views, path, seed=0, rows=4))
    with Image.open(path) as image:
        assert image.height < 3000
        assert image.width < 1500
    listed = (tmp_path / "sheet_names.txt").read_text(encoding="utf-8")
    assert {"猫", LONG, "図3.png", LONG + ".png"} <= {line.partition("] ")[2] for line in listed.splitlines()}


@pytest.mark.usefixtures("no_fonts")
def test_figures_of_runs_draw_any_label_and_method(tmp_path: Path) -> None:
    from semilearn_bbam.report.figures.style import Style

    rng = np.random.default_rng(0)
    labels = np.array(["cost_$ a$b", "x_$", LONG, "猫", "a $\\frac b$"])
    targets = np.tile(np.eye(5, dtype=np.uint8), (4, 1))

    class FakeRun:
        seed, algorithm, setting, results = 0, "bbam", ("数 $x$", "5pct"), {"hidden_labels": "none"}
        arrays = {
            "label_names": labels,
            "targets": targets,
            "known": np.ones(20, bool),
            "test_scores": rng.random((20, 5)).astype(np.float32),
            "test_targets": targets,
        }

    method = Method("名 $\\frac$", Style.of(0), (FakeRun(),))  # type: ignore[arg-type]
    for name, draw in (("labels", draw_label_ap), ("curve", lambda m: draw_precision_recall(m, labels.tolist()))):
        paths: list[Path] = []
        drawn_without_warnings(
            lambda name=name, draw=draw, paths=paths: paths.extend(save(draw([method]), tmp_path / name))
        )
        assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg", f"{name}_names.txt"]
        listed = paths[2].read_text(encoding="utf-8")
        assert "猫" in listed
        assert LONG in listed


def test_files_of_pictures_have_names_that_a_system_takes() -> None:
    assert _name("data", "5pct", "curves") == "data_5pct_curves"
    first, second = (_name("data", "猫" * 100 + end) for end in "ab")
    assert first != second
    assert max(len(name.encode()) for name in (first, second)) < 200
