from __future__ import annotations

from typing import Any

import pytest

from semilearn_bbam.report.variances import last_variances, variances_text


def row(value: float, reading: str = "true") -> dict[str, Any]:
    return {f"vdfd_{reading}": value, f"var_pos_{reading}": 2 * value, f"var_neg_{reading}": value}


def run(method: str, hidden: str = "none", **variances: float) -> dict[str, Any]:
    place = {"method": method, "algorithm": method, "grid_dataset": "d", "grid_ratio": 0.05, "hidden_labels": hidden}
    return place | {"variances": variances}


def test_the_last_row_of_each_reading_counts() -> None:
    rows = [row(0.1), row(0.3) | {"vdfd_pseudo": None}, row(0.2, "pseudo"), {"test/mAP": 0.5}]
    rows[1]["var_pos_true"] = 0.9
    variances = last_variances(rows)
    assert variances == pytest.approx({"vdfd_true": 0.3, "ratio_true": 3, "vdfd_pseudo": 0.2, "ratio_pseudo": 2})
    assert last_variances([{"test/mAP": 0.5}]) == {}
    # No label has two positives and two negatives: there is no variance to compare.
    assert last_variances([{"vdfd_true": None, "var_pos_true": None, "var_neg_true": None}]) == {}


def test_a_row_per_method_with_mean_and_spread() -> None:
    runs = [
        run("cap", vdfd_true=0.01, ratio_true=1.0, vdfd_pseudo=-0.02, ratio_pseudo=0.5),
        run("cap", vdfd_true=0.03, ratio_true=3.0, vdfd_pseudo=-0.04, ratio_pseudo=0.5),
        run("top", hidden="all", vdfd_true=-0.007, ratio_true=0.7),
        run("none"),
    ]
    text = variances_text(runs)
    assert "| d, 5 % | cap | 2 | 0.0200 ± 0.0141 | 2.00 ± 1.41 | -0.0300 ± 0.0141 | 0.50 ± 0.00 |" in text
    assert "| d, 5 % | [top] | 1 | -0.0070 | 0.70 | - | - |" in text
    assert "labels of all training rows" in text
    assert "none" not in text
    assert variances_text([run("none")]) == ""
