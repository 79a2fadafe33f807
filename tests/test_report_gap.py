"""The gap from the best floor to the best ceiling, checked against numbers worked out by hand."""

from __future__ import annotations

import pytest

from semilearn_bbam.report.columns import columns, compared, metric_of
from semilearn_bbam.report.gap import gap_closed, gap_text
from tests.comparison_runs import run, seeds
from tests.conftest import has_line

MAP, ERROR = metric_of("mAP"), metric_of("one-error")
COLUMN = {
    "low": {0: 0.2, 1: 0.4}, "lower": {0: 0.3, 1: 0.1},
    "method": {0: 0.4, 1: 0.5},
    "top": {0: 0.8, 1: 0.9}, "second": {0: 0.9, 1: 0.6},
}  # fmt: skip


def test_the_gap_is_from_the_best_floor_to_the_best_ceiling_on_each_seed() -> None:
    gap = gap_closed(COLUMN, MAP, ["lower", "low"], ["second", "top"])
    assert gap is not None
    assert (gap.floor, gap.ceiling) == ("low", "top")  # .3 and .85 in the mean, not the best of a seed
    assert (gap.floor_mean, gap.ceiling_mean) == pytest.approx((0.3, 0.85))
    assert gap.closed["method"] == pytest.approx((0.2 / 0.6, 0.1 / 0.5))
    assert gap.closed["lower"] == pytest.approx((0.1 / 0.6, -0.3 / 0.5))
    assert gap.closed["low"] == (0, 0)
    assert not {"top", "second"} & gap.closed.keys()


def test_where_less_is_better_the_ends_are_the_lowest() -> None:
    errors = {method: {seed: 1 - value for seed, value in values.items()} for method, values in COLUMN.items()}
    gap = gap_closed(errors, ERROR, ["lower", "low"], ["second", "top"])
    assert gap is not None
    assert (gap.floor, gap.ceiling) == ("low", "top")
    assert gap.closed["method"] == pytest.approx((0.2 / 0.6, 0.1 / 0.5))


def test_a_seed_on_which_all_labels_are_no_better_is_left_out() -> None:
    column = {"low": {0: 0.5, 1: 0.4}, "method": {0: 0.6, 1: 0.5}, "top": {0: 0.5, 1: 0.9}}
    gap = gap_closed(column, MAP, ["low"], ["top"])
    assert gap is not None
    assert gap.closed["method"] == pytest.approx((0.1 / 0.5,))
    assert gap_closed(column, MAP, ["gone"], ["top"]) is None
    assert gap_closed(column, MAP, ["low"], ["gone"]) is None


def test_each_column_names_its_ends() -> None:
    runs = [*seeds("a", [0.2, 0.2]), *seeds("b", [0.3, 0.3]), *seeds("m", [0.4, 0.5])]
    runs += [*seeds("a", [0.5, 0.5], ratio=0.1), *seeds("b", [0.4, 0.4], ratio=0.1), *seeds("m", [0.6, 0.2], ratio=0.1)]
    for ratio in (0.05, 0.1):
        runs += seeds("top", [0.7, 0.7], ratio=ratio, hidden="all") + seeds("out", [1, 1], ratio=ratio, hidden="all")
    text = gap_text(runs, ["a", "b"], ["top"], {"m": "a method"})
    assert "| mAP | seeds | d 5 % | d 10 % |\n" in text
    assert "| best floor |  | b .300 | a .500 |\n| best ceiling |  | top .700 | top .700 |\n" in text
    assert "| a method | 2 | **38** ± 18 | -50 ± 141 |\n" in text
    assert "| a | 2 | -25 ± 0 | **floor** |\n" in text
    assert "| b | 2 | floor | -50 ± 0 |\n" in text
    assert "| top |" not in text
    assert "out" not in text.split("\n\n")[1]  # labels were given away to it


def test_the_gap_averages_over_the_seeds_that_all_methods_have() -> None:
    """A method with a lucky third seed is not ahead of one that beats it on every seed they share."""
    runs = seeds("low", [0.2] * 3) + seeds("top", [0.6] * 3, hidden="all")
    runs += seeds("a", [0.3, 0.3, 0.6]) + seeds("b", [0.32, 0.32])
    text = gap_text(runs, ["low"], ["top"], {})
    assert "| a | 2 | 25 ± 0 |" in text
    assert "| b | 2 | **30** ± 0 |" in text


def test_a_method_that_is_named_a_ceiling_closes_no_gap() -> None:
    """Also where its results do not say that it had all labels."""
    runs = [run("low", 0, 0.2), run("top", 0, 0.6), run("higher", 0, 0.7), run("m", 0, 0.3)]
    text = gap_text(runs, ["low"], ["top", "higher"], {})
    assert has_line(text, "best ceiling", "higher .700")
    assert "| m | 1 | **20** |" in text
    assert "| top |" not in text


def test_shares_of_floors_alone_are_in_no_other_table() -> None:
    runs = seeds("low", [0.2, 0.3, 0.1]) + seeds("low", [0.1], ratio=0.01) + seeds("m", [0.4, 0.4, 0.4])
    kept = compared(runs, ["low"], [])
    assert {r["grid_ratio"] for r in kept} == {0.05}
    assert list(columns(kept, MAP, "prior")["d", 0.05]["low"]) == [0, 1, 2]  # the seed of the curve's share is no limit
    assert compared(runs[:4], ["low"], []) == runs[:4]
