"""How run folders are read, named and sorted for figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from semilearn_bbam.errors import FigureError, RunError
from semilearn_bbam.report.figures import (
    draw_angle_histogram,
    draw_label_ap,
    draw_learning_curves,
    draw_precision_recall,
    draw_vdfd,
    read_methods,
)
from tests.conftest import naming
from tests.figure_runs import curve_rows, score_arrays, write_run


def test_methods_are_named_by_the_options_that_differ(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", seed=0),
        write_run(tmp_path / "b", seed=1, num_threads=1, data_dir="/elsewhere", report_figures=True),
        write_run(tmp_path / "c", margin=0.2),
        write_run(tmp_path / "d", algorithm="cap"),
        write_run(tmp_path / "e", label_ratio=0.1),
    ]
    methods = read_methods(folders)
    assert [method.name for method in methods] == ["bbam, margin 0.4", "bbam, margin 0.2", "cap"]
    assert [run.folder.name for run in methods[0].runs] == ["a", "e", "b"]
    assert [run.setting for run in methods[0].runs] == [("vectors", "5pct"), ("vectors", "10pct"), ("vectors", "5pct")]
    named = read_methods(folders, {"a": "new", "b": "new", "c": "old"})
    assert [method.name for method in named] == ["new", "old", "cap", "bbam, margin 0.4"]
    many = write_run(tmp_path / "wild_vectors_5pct_s3", seed=3, margin=0.1, scale=1.0, lr=0.5, epoch=7)
    assert read_methods([*folders, many])[-1].name == "wild_vectors"
    with pytest.raises(
        RunError, match=naming(f"'{folders[0]}'", f"'{tmp_path / 'twin'}'", "bbam", "vectors 5pct", "seed 0")
    ):
        read_methods([folders[0], folders[0], write_run(tmp_path / "twin")])


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    rows = curve_rows([0.1, 0.2])
    first = write_run(tmp_path / "first", rows=rows)
    share = write_run(tmp_path / "share", rows=rows, label_ratio=0.1)
    other = write_run(tmp_path / "other", rows=rows, algorithm="cap", seed=5)
    bare = write_run(tmp_path / "bare", results=False)
    with pytest.raises(FigureError, match=naming("settings", "(vectors 5pct, vectors 10pct)")):
        draw_vdfd(read_methods([share, first]))
    with pytest.raises(FigureError, match=naming("seed in common")):
        draw_learning_curves(read_methods([first, other]))
    for draw in (draw_vdfd, draw_label_ap, draw_precision_recall):
        with pytest.raises(FigureError, match=naming("no run", "--report_figures true")):
            draw(read_methods([bare]))
    with pytest.raises(FigureError, match=naming("bbam", "no angles", "--report_figures true")):
        draw_angle_histogram(read_methods([bare])[0])


def test_broken_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=naming(f"'{tmp_path}'", "no run folder", "config.yaml")):
        read_methods([tmp_path])
    folder = write_run(tmp_path / "a", rows=curve_rows([0.1]), arrays=score_arrays(0))
    for name in ("figures.npz", "results.json"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-30])
    (folder / "metrics.jsonl").write_text('{"it": \n{"it": 2}\n')  # a last row that was cut off would only be left out
    (run,) = read_methods([folder])[0].runs
    files = {"metrics": "metrics.jsonl", "arrays": "figures.npz", "results": "results.json"}
    for name in files:
        with pytest.raises(RunError, match=naming(folder / files[name], "cannot be read", "rerun")):
            getattr(run, name)
    (folder / "config.yaml").write_text("algorithm: bbam\n")
    with pytest.raises(RunError, match=naming(folder / "config.yaml", "no dataset", "seed", "complete config")):
        read_methods([folder])
    whole = write_run(tmp_path / "b")
    with pytest.raises(RunError, match=naming(whole / "results.json", "test/fame")):
        read_methods([whole])[0].runs[0].value("test/fame")
