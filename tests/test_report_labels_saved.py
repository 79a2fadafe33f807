"""The share at which the best floor is as good as a method, against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from semilearn_bbam.errors import FigureError
from semilearn_bbam.report.comparison import write_comparison
from semilearn_bbam.report.figures.labels_saved import MAX_METHODS, Drawn, draw_labels_saved, write_labels_saved
from semilearn_bbam.report.figures.style import Style
from semilearn_bbam.report.headline import headline_text, saved_csv, saved_tables, saved_text
from semilearn_bbam.report.labels_saved import (
    FloorCurve,
    equal_share,
    factor_words,
    labels_saved,
    saved_share,
    share_words,
)
from tests.comparison_runs import run, seeds
from tests.conftest import has_line

MAP = ("mAP", "prior")
SHARES = (0.025, 0.05, 0.1, 0.2)
# Of two floors: "a" is the best up to 5 %, "b" from 10 % on; "m" has two shares and no others.
FLOORS = {"a": (0.3, 0.4, 0.42, 0.44), "b": (0.2, 0.3, 0.5, 0.6)}
RUNS = [
    *(r for floor, values in FLOORS.items() for share, value in zip(SHARES, values, strict=True)
      for r in seeds(floor, [value - 0.01, value + 0.01], ratio=share)),
    *seeds("m", [0.445, 0.455], ratio=0.05), *seeds("m", [0.685, 0.695], ratio=0.1),
    *seeds("top", [0.9, 0.9], ratio=0.05, hidden="all"), *seeds("top", [0.9, 0.9], ratio=0.1, hidden="all"),
]  # fmt: skip


def share_of(value: float, curve: list[float], shares: tuple[float, ...] = SHARES) -> float:
    (share,) = equal_share(np.array([value]), np.array([curve]), shares)
    return float(share)


def test_between_two_points_the_logarithm_of_the_share_is_linear() -> None:
    curve = [0.3, 0.4, 0.5, 0.6]
    assert share_of(0.45, curve) == pytest.approx(math.sqrt(0.05 * 0.1))
    assert share_of(0.325, curve) == pytest.approx(0.025 * 2**0.25)
    for share, value in zip(SHARES, curve, strict=True):
        assert share_of(value, curve) == pytest.approx(share)
        assert share_of(value + 1e-12, curve) == pytest.approx(share)  # sums in another order


def test_nothing_is_extrapolated() -> None:
    assert share_of(0.29, [0.3, 0.4, 0.5, 0.6]) == 0
    assert share_of(0.61, [0.3, 0.4, 0.5, 0.6]) == math.inf


def test_where_the_curve_dips_fewer_labels_count() -> None:
    curve = [0.3, 0.5, 0.4, 0.6]
    assert share_of(0.45, curve) == pytest.approx(0.025 * 2**0.75)  # before the dip, though 10 % are worse
    assert share_of(0.5, curve) == pytest.approx(0.05)
    assert share_of(0.55, curve) == pytest.approx(math.sqrt(0.1 * 0.2))  # from the end of the dip on
    assert share_of(0.6, [0.6, 0.5, 0.5, 0.5]) == pytest.approx(0.025)
    assert share_of(0.61, [0.6, 0.5, 0.5, 0.5]) == math.inf


def test_rows_have_curves_of_their_own() -> None:
    curves = np.array([[0.1, 0.2], [0.2, 0.3], [0.3, 0.4]])
    np.testing.assert_allclose(equal_share(np.array([0.2, 0.2, 0.2]), curves, (0.1, 0.4)), [0.4, 0.1, 0])


def test_the_share_grows_with_the_value() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        curve = rng.random((1, 6))
        found = equal_share(np.sort(rng.random(40)), curve, (0.01, 0.02, 0.05, 0.1, 0.2, 0.4))
        assert (np.diff(found[np.isfinite(found)]) >= 0).all()
        assert ((found == 0) | np.isinf(found) | ((found >= 0.01) & (found <= 0.4))).all()


def test_the_interval_is_that_of_seeds_drawn_for_both() -> None:
    """A seed that is lucky for method and floor alike says nothing against what is saved."""
    luck = np.array([[-0.1], [0.0], [0.1], [0.02], [-0.05]])
    curve = FloorCurve((0.1, 0.2, 0.4), ("a",) * 3, np.array([[0.3, 0.4, 0.5]]) + luck)
    share, interval = saved_share(0.35 + luck[:, 0], curve)
    assert share == pytest.approx(math.sqrt(0.1 * 0.2))
    assert interval == pytest.approx((share, share))
    share, interval = saved_share(np.array([0.35, 0.45, 0.25, 0.4, 0.3]), curve)
    assert interval is not None
    assert interval[0] < share < interval[1]
    assert saved_share(np.array([0.35]), FloorCurve(curve.shares, curve.methods, curve.values[:1]))[1] is None


def test_the_spread_of_resampled_means_is_that_of_the_sample() -> None:
    """Drawn are S - 1 seeds: with S of them the variance of the mean would be short by a factor (S - 1) / S."""
    values = np.array([0.30, 0.34, 0.27, 0.36, 0.33, 0.31, 0.35, 0.29, 0.32, 0.33])
    curve = FloorCurve((0.1, 10.0), ("a", "a"), np.array([[0.0, 1.0]] * 10))  # the logarithm is linear in the value
    _, interval = saved_share(values, curve)
    assert interval is not None
    low, high = (math.log(share / 0.1) / math.log(100) for share in interval)
    error = values.std(ddof=1) / math.sqrt(10)
    assert (high - low) / 2 == pytest.approx(2.262 * error, rel=0.05)  # Student's t with nine degrees of freedom


@pytest.mark.parametrize(("number", "covered"), [(3, (0.6, 0.85)), (5, (0.88, 0.98)), (10, (0.88, 0.98))])
def test_how_often_the_interval_holds_the_true_share(number: int, covered: tuple[float, float]) -> None:
    """Means and deviations as on Ohsumed; half of the variance of a seed is that of its labelled rows."""
    shares = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4)
    means, deviations = np.array([0.33, 0.42, 0.477, 0.532, 0.579, 0.62]), np.array([20, 18, 16, 10, 6, 4]) / 1000
    true = math.exp(np.interp(0.521, means, np.log(shares)))
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        rows = rng.normal(size=(number, 1))
        floor = means + deviations * (rows + rng.normal(size=(number, 6))) / math.sqrt(2)
        method = 0.521 + 0.012 * (rows[:, 0] + rng.normal(size=number)) / math.sqrt(2)
        _, interval = saved_share(method, FloorCurve(shares, ("a",) * 6, floor))
        assert interval is not None
        held.append(interval[0] <= true <= interval[1])
    assert covered[0] <= np.mean(held) <= covered[1]


def test_the_curve_is_of_the_best_floor_at_each_share() -> None:
    saved = labels_saved(RUNS, "d", MAP, floors=["a", "b"], ceilings=["top"])
    assert saved is not None
    assert saved.curve.shares == SHARES
    assert saved.curve.methods == ("a", "a", "b", "b")
    np.testing.assert_allclose(saved.curve.means, [0.3, 0.4, 0.5, 0.6])
    assert set(saved.points) == {"a", "b", "m"}  # neither the ceiling
    assert list(saved.points["m"]) == list(saved.points["a"]) == [0.05, 0.1]  # nor shares of floors alone
    assert saved.points["m"][0.05].share == pytest.approx(math.sqrt(0.05 * 0.1))
    assert saved.points["m"][0.05].rows == 50
    assert saved.points["m"][0.1].share == math.inf
    assert saved.points["b"][0.05].share == pytest.approx(0.025)


def test_without_a_curve_or_a_common_seed_nothing_is_saved() -> None:
    assert labels_saved(RUNS, "d", MAP, floors=["m"], ceilings=["a"]) is not None  # two shares are enough
    assert labels_saved([r for r in RUNS if r["grid_ratio"] == 0.05], "d", MAP, floors=["a"]) is None
    other_seed = [*RUNS, run("n", 7, 0.5)]
    assert labels_saved(other_seed, "d", MAP, floors=["a", "b"]) is None
    assert labels_saved(other_seed, "d", MAP, floors=["a", "b"], methods=["m"]) is not None


def test_shares_in_words() -> None:
    curve = FloorCurve((0.025, 0.2), ("a", "a"), np.zeros((1, 2)))
    assert [share_words(s, curve) for s in (0, 0.0561, 0.2, math.inf)] == ["< 2.5 %", "5.6 %", "20.0 %", "> 20 %"]
    assert [factor_words(s, 0.05, curve) for s in (0, 0.06, math.inf)] == ["< 0.5", "1.2", "> 4.0"]
    assert share_words(0.0075, FloorCurve((0.005, 0.2), ("a", "a"), np.zeros((1, 2)))) == "0.75 %"


def test_the_table_reads_as_a_person_understands_it() -> None:
    text = saved_text(saved_tables(RUNS, ["a", "b"], ["top"]), ["a", "b"], {"m": "our method"})
    table = text.split("\n\n")[1]
    assert table.splitlines() == [
        "| d, mAP | seeds | 5 % | 10 % |",
        "| --- | --- | --- | --- |",
        "| our method | 2 | **7.1 %** (1.4x, 1.4 to 1.5) | **> 20 %** (> 2.0x) |",
        "| a | 2 | floor | 5.7 % (0.6x) |",
        "| b | 2 | 2.5 % (0.5x) | floor |",
    ]
    assert has_line(text, "Best floor", ".300 at 2.5 % (a)", ".600 at 20 % (b)")
    assert "| d, macro-F1 (prior) | seeds |" in text
    assert saved_text([], ["a"], {}) == ""


def test_rows_of_the_table_as_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(saved_csv(saved_tables(RUNS, ["a", "b"], ["top"], ["m"])))))
    assert [(row["metric"], row["method"], row["label_ratio"], row["labeled_rows"]) for row in rows[:2]] == [
        ("mAP", "m", "0.05", "50"), ("mAP", "m", "0.1", "100")]  # fmt: skip
    assert float(rows[0]["factor"]) == pytest.approx(math.sqrt(2))
    assert float(rows[0]["factor_low"]) == pytest.approx(2**0.45)  # .455 on a curve through .41 and .51
    assert (rows[1]["floor_share"], rows[1]["factor"], rows[1]["seeds"]) == (">0.2", ">2", "2")


def test_the_headline_has_all_three_side_by_side() -> None:
    text = headline_text(RUNS, ["a", "b"], ["top"], ["a", "m", "top"], {})
    lines = text.splitlines()
    assert lines[2] == (
        "| method | mAP 5 % | mAP 10 % | macro-F1 5 % | macro-F1 10 % | labels saved 5 % | labels saved 10 % |"
    )
    assert lines[5].startswith("| m | **.450**")
    assert lines[5].endswith("| 1.4x | > 2.0x |")
    assert lines[6].startswith("| [top] | .900")
    assert lines[6].endswith("| - | - |")


def test_files_of_all_methods_and_of_each_table(tmp_path: Path) -> None:
    lines: list[str] = []
    runs: list[dict[str, Any]] = [*RUNS, run("n", 7, 0.5)]
    write_comparison(
        runs, tmp_path, tables={"main": ["a", "b", "m"]}, floors=["a", "b"], ceilings=["top"], log=lines.append
    )
    assert (tmp_path / "labels_saved_main.md").is_file()
    assert "| m | .450 " not in (tmp_path / "summary.md").read_text()
    assert not (tmp_path / "labels_saved.md").exists()
    assert any(has_line(line, "left out d", "labels_saved.md") for line in lines)
    assert "mAP 2.5 %" not in (tmp_path / "main_d_prior.md").read_text()  # of floors alone


def arrows(panel: Axes) -> list[tuple[float, float, float]]:
    """Start, end and height of each line from a method."""
    found = [text for text in panel.texts if text.arrow_patch is not None]  # type: ignore[attr-defined]
    return [(text.get_position()[0], text.xy[0], text.xy[1]) for text in found]  # type: ignore[attr-defined]


def test_a_line_leads_from_a_method_to_the_floor() -> None:
    tables = saved_tables(RUNS, ["a", "b"], ["top"], ["m"])
    rows = {ratio: round(1000 * ratio) for ratio in SHARES}
    figure = draw_labels_saved(tables, {"m": Drawn("our method", Style.of(0))}, rows)
    panel, second = figure.axes
    (floor,) = [line for line in panel.get_lines() if line.get_label() == "best floor"]
    np.testing.assert_allclose(floor.get_xydata(), np.column_stack([SHARES, [0.3, 0.4, 0.5, 0.6]]))
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["2.5 %\n25", "5 %\n50", "10 %\n100", "20 %\n200"]
    near, far = arrows(panel)
    assert near == pytest.approx((0.05, math.sqrt(0.05 * 0.1), 0.45))
    assert far == pytest.approx((0.1, panel.get_xlim()[1], 0.69))  # out of the picture
    assert [text.get_text() for text in panel.texts if text.get_text()] == ["1.4x", "> 2.0x"]
    assert second.get_ylabel() == "test macro-F1 at prior thresholds"
    with pytest.raises(FigureError, match="floor"):
        draw_labels_saved(tables, {"gone": Drawn("gone", Style.of(0))}, rows)


def test_a_picture_per_dataset_with_no_more_methods_than_can_be_told_apart(tmp_path: Path) -> None:
    crowd = [r for number in range(MAX_METHODS) for r in seeds(f"x{number}", [0.3, 0.3 + number / 100])]
    lines: list[str] = []
    drawn = ["a", "top", "m", *(f"x{number}" for number in range(MAX_METHODS))]
    ends: dict[str, Any] = {"floors": ["a", "b"], "ceilings": ["top"], "names": {}}
    written = write_labels_saved([*RUNS, *crowd], tmp_path, methods=drawn, log=lines.append, **ends)
    assert [path.name for path in written] == ["d_labels_saved.png", "d_labels_saved.svg"]
    (line,) = lines
    assert has_line(line, "left out", "x0")
    assert "x1" not in line
    assert write_labels_saved(RUNS, tmp_path, methods=["a", "top"], **ends) == []
