"""The command that draws all figures of run folders."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from semilearn_bbam.__main__ import main
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.report import draw_all
from semilearn_bbam.report.plots import KINDS, MAX_LINES, MAX_MARKERS
from tests.conftest import has_line, naming
from tests.figure_runs import curve_rows, score_arrays, write_run

SCRIPT = Path(__file__).parents[1] / "scripts" / "plot.py"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """BBAM with two margins and CAP, all with everything; CAP with 10 % labelled too, but without results there."""
    full: dict[str, Any] = {"rows": curve_rows([0.1, 0.4]), "arrays": score_arrays(0, mapped=True)}
    cap: dict[str, Any] = {"rows": curve_rows([0.2, 0.3]), "arrays": score_arrays(0), "algorithm": "cap"}
    return [
        write_run(tmp_path / "runs" / "a", **full),
        write_run(tmp_path / "runs" / "b", **full, margin=0.2),
        write_run(tmp_path / "runs" / "c", **cap),
        write_run(tmp_path / "runs" / "d", label_ratio=0.1, algorithm="cap", results=False),
    ]


def test_everything_is_drawn_or_said_to_be_left_out(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch(figure: Figure, path: Path) -> list[Path]:  # to render them all takes seconds
        paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
        assert figure.axes
        for one in paths:
            one.touch()
        return paths

    monkeypatch.setattr("semilearn_bbam.report.plots.save", touch)
    out = tmp_path / "out"
    assert main(["plot", *map(str, folders), "--out", str(out), "--label", "dog"]) == 0
    lines = capsys.readouterr().out.splitlines()
    drawn = {
        "vectors_5pct_curves", "vectors_5pct_vdfd", "vectors_5pct_labels", "vectors_5pct_precision_recall",
        "vectors_5pct_angles_bbam-margin-0.4", "vectors_5pct_angles_bbam-margin-0.2", "vectors_5pct_sensitivity_bbam",
    }  # fmt: skip
    assert {path.name for path in out.iterdir()} == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert all(any(line.startswith(f"drew {out / name}.png") for line in lines) for name in drawn)
    left_out = [line for line in lines if line.startswith("left out")]
    assert len(lines) == len(drawn) + len(left_out)
    for name, reason in (
        ("vectors_10pct_curves", "test/mAP"),
        ("vectors_10pct_vdfd", "--report_figures true"),
        ("vectors_10pct_angles_cap", "kept no angles"),
        ("vectors_10pct_labels", "--report_figures true"),
        ("vectors_10pct_precision_recall", "--report_figures true"),
        ("ratios", "two labelled shares"),
    ):
        assert has_line("\n".join(left_out), f"left out {name}:", reason), name


def test_a_picture_names_the_methods_that_it_lacks(folders: list[Path], tmp_path: Path) -> None:
    bare = write_run(tmp_path / "bare", algorithm="mime")
    lines: list[str] = []
    written = draw_all([*folders[:1], bare], tmp_path / "out", kinds=["vdfd", "ratios"], log=lines.append)
    assert [path.name for path in written] == ["vectors_5pct_vdfd.png", "vectors_5pct_vdfd.svg"]
    assert has_line(lines[0], "vectors_5pct_vdfd.png", "without mime")
    assert has_line(lines[1], "left out ratios", "two labelled shares")


def test_methods_can_be_selected_and_named(folders: list[Path], tmp_path: Path) -> None:
    names = {"a": "ours", "b": "others"}
    written = draw_all(folders[:3], tmp_path / "out", kinds=["angles"], names=names, selected=["others"])
    assert [path.name for path in written] == ["vectors_5pct_angles_others.png", "vectors_5pct_angles_others.svg"]
    with pytest.raises(UserError, match=naming("method 'thers'", "did you mean others?")):
        draw_all(folders[:3], tmp_path / "out", names=names, selected=["thers"])
    with pytest.raises(UserError, match=naming("figure 'curve'", "did you mean curves?")):
        draw_all(folders, tmp_path / "out", kinds=["curve"])


def test_many_methods_share_pages_by_their_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[str]] = {}

    def note(figure: Figure, path: Path) -> list[Path]:
        drawn[path.name] = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        return [path]

    monkeypatch.setattr("semilearn_bbam.report.plots.save", note)
    count = MAX_LINES + 3
    runs = [
        write_run(
            tmp_path / f"m{i}", algorithm=f"m{i}", rows=curve_rows([0.1, 0.2]), scores={"mAP": (7 * i % count) / 20}
        )
        for i in range(count)
    ]
    draw_all(runs, tmp_path / "out", kinds=["curves"])
    assert list(drawn) == ["vectors_5pct_curves_1", "vectors_5pct_curves_2"]
    first, second = ([int(name[1:]) for name in names] for names in drawn.values())
    assert first == sorted(first)
    assert sorted(first + second) == list(range(count))
    assert min(7 * i % count for i in first) > max(7 * i % count for i in second)
    assert max(len(first), len(second)) <= MAX_LINES
    assert 1 < MAX_MARKERS <= MAX_LINES


def test_mistakes_are_one_sentence(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["plot.py", *words])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return stop.value.code

    out = str(tmp_path / "out")
    assert command(str(tmp_path), "--out", out) == 2
    text = capsys.readouterr().err
    assert text.startswith("plot.py: ")
    assert all(word in text for word in (str(tmp_path), "is no run folder", "config.yaml"))
    assert command(str(folders[0]), "--out", out, "--kinds", "ratios") == 1  # nothing was drawn
    assert command(str(folders[0]), "--out", out, "--kinds", "angles", "--label", "cow") == 1
    assert has_line(capsys.readouterr().out, "label 'cow'", "cat, dog")
    assert command(str(folders[0]), "--out", out, "--kinds", "labels") == 0
    with pytest.raises(RunError, match=naming(tmp_path, "no run folder", "config.yaml")):
        draw_all([folders[0], tmp_path], out)


def test_the_help_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plot", "--help"])
    lines = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}: {kind.words}" in lines for name, kind in KINDS.items())
