"""Tables in the slides' form, checked against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from semilearn_bbam.report.comparison import cost_text, write_comparison
from semilearn_bbam.report.effects import effects_text
from semilearn_bbam.report.gap import gap_text
from semilearn_bbam.report.lead import lead_text
from semilearn_bbam.report.methods import summary
from semilearn_bbam.report.render import to_csv, to_latex, to_markdown
from semilearn_bbam.report.tables import METRICS, Cell, common_seeds, comparison_table, paired_p_value
from tests.comparison_runs import run
from tests.conftest import has_line

MAP = next(metric for metric in METRICS if metric.key == "mAP")


RUNS = [
    run("low", 0, 0.2), run("low", 1, 0.3), run("low", 2, 0.9),
    run("high", 0, 0.4), run("high", 1, 0.6),
    run("top", 0, 0.8, hidden="all"), run("top", 1, 0.9, hidden="all"),
    run("leaky", 0, 0.7, hidden="leak"), run("leaky", 1, 0.7, hidden="leak"),
]  # fmt: skip


def test_only_seeds_that_all_methods_have_are_averaged() -> None:
    assert common_seeds(RUNS, ["low", "high"]) == (0, 1)
    assert common_seeds(RUNS, ["low"]) == (0, 1, 2)
    table = comparison_table(RUNS, "d", "threshold 0.5", methods=["low", "high"])
    assert table.cells["low"]["mAP", 0.05].values == (0.2, 0.3)
    with pytest.raises(ValueError, match="no seed in common"):
        comparison_table([run("a", 0, 0.1), run("b", 1, 0.1)], "d", "prior")


def test_protocols_are_never_mixed() -> None:
    cells_of = {p: comparison_table(RUNS, "d", p).cells["high"] for p in ("threshold 0.5", "prior", "oracle")}
    macro = {protocol: cells["macro-F1", 0.05].mean for protocol, cells in cells_of.items()}
    assert macro == pytest.approx({"threshold 0.5": 0.4, "prior": 0.41, "oracle": 0.6})
    assert cells_of["oracle"]["mAP", 0.05].mean == pytest.approx(0.5)
    for protocol in cells_of:
        assert f"protocol {protocol}" in comparison_table(RUNS, "d", protocol).caption


def test_the_best_leads_unless_labels_were_given_away_to_it() -> None:
    table = comparison_table(RUNS, "d", "prior")
    best = {column: [m for m in table.rows if table.cells[m][column].best] for column in table.columns}
    assert all(leaders == ["high"] for leaders in best.values())  # also where less is better
    assert table.rows == {"low": "low", "high": "high", "top": "[top]", "leaky": "leaky †"}
    assert has_line(table.caption, "†", "labels of unlabelled rows")
    cell = table.cells["high"]["mAP", 0.05]
    assert cell.deviation == pytest.approx(0.1 * 2**0.5)
    # Differences 0.2 and 0.3: t = 0.25 / 0.05 = 5 with one degree of freedom, p = 1 - 2 atan(5) / pi.
    assert cell.p_value == pytest.approx(0.1257, abs=1e-4)
    assert not cell.significant


def test_paired_test_of_equal_differences() -> None:
    assert paired_p_value([0.1, 0.2], [0.1, 0.2]) == 1.0
    assert paired_p_value([0.5, 0.75], [0.25, 0.5]) == 0.0


def test_forms_of_a_table() -> None:
    more = [*RUNS[:2], *RUNS[3:5], run("low", 0, 0.3, ratio=0.1), run("low", 1, 0.3, ratio=0.1)]
    table = comparison_table(more, "d", "oracle", names={"low": "lo_w"}, metrics=[MAP])
    text = to_markdown(table)
    assert "| method | mAP 5 % | mAP 10 % |" in text
    assert "| lo_w | .250 ± .071 | **.300** ± .000 |" in text
    assert "| high | **.500** ± .141 | - |" in text
    latex = to_latex(table)
    assert r"lo\_w & $.250_{\pm.071}$ & $\mathbf{.300}_{\pm.000}$ \\" in latex
    assert r"\multicolumn{2}{c}{mAP}" in latex
    assert r"5\% & 10\%" in latex
    assert latex.count("{") == latex.count("}")
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["method"], float(row["label_ratio"]), row["best"]) for row in rows] == [
        ("low", 0.05, "0"), ("low", 0.1, "1"), ("high", 0.05, "1")]  # fmt: skip
    assert float(rows[2]["mean"]) == pytest.approx(0.5)


def test_one_seed_has_no_spread() -> None:
    table = comparison_table([run("a", 3, 0.5), run("b", 3, 0.4)], "d", "prior", metrics=[MAP])
    assert has_line(table.caption, "one run", "spread")
    assert "| a | **.500** |" in to_markdown(table)
    assert Cell((0.5,)).deviation is None


def test_every_run_with_hidden_labels_is_marked() -> None:
    text = summary(RUNS)
    assert "| [top] " in text
    assert "| leaky † " in text
    assert "In brackets" in text
    assert "as in the released code" in text


def test_validation_runs_are_named_as_such() -> None:
    runs = [{**run, "judged_on": "validation"} for run in RUNS]
    texts = [summary(runs), gap_text(runs, ["low"], ["top"], {}), lead_text(runs, "high")]
    texts += [effects_text(runs, {"x": ("low", "high")}), comparison_table(runs, "d", "prior").caption]
    for text in texts:
        assert "validation part" in text


def test_a_table_without_a_common_seed_is_left_out_and_the_rest_is_written(tmp_path: Path) -> None:
    lines: list[str] = []
    runs = [run("a", 0, 0.1), run("b", 1, 0.1)]
    write_comparison(runs, tmp_path, tables={"both": ["a", "b"], "one": ["a"]}, log=lines.append)
    (line,) = lines
    assert has_line(line, "left out", "table both of d", "seed")
    assert (tmp_path / "one_d_prior.md").is_file()
    assert not list(tmp_path.glob("both*"))


def test_latex_has_no_bracket_after_a_lines_end_and_no_bare_special() -> None:
    text = to_latex(comparison_table(RUNS, "d", "prior", names={"high": r"a\b{c}~d^e$f"}))
    assert "{[}top{]} &" in text
    assert not [line for line in text.splitlines() if line.startswith("[")]
    assert r"a\textbackslash{}" in text
    assert r"\{c\}" in text


def test_effects_are_differences_on_the_same_seeds() -> None:
    runs = [{**r, "oracle_epoch_mAP": r["test"]["mAP"] + 0.02 + 0.01 * r["seed"]} for r in RUNS]
    text = effects_text(
        runs, {"better": ("low", "high"), "a fault": ("low", "leaky"), "epoch": ("high", "oracle_epoch")}
    )
    table = text.split("\n\n")[1]
    assert "| better | 2 | +25.0 ± 7.1 |" in table  # 0.4 - 0.2 and 0.6 - 0.3
    assert "| a fault † | 2 | +45.0 ± 7.1 |" in table
    assert "| epoch | 2 | +2.5 ± 0.7 |" in table
    assert "| epoch |  | - |" in text.split("\n\n")[2]  # chosen by mAP alone
    alone = {**RUNS[0], "grid_ratio": 0.4}  # of one method of the pair: no column
    assert "40 %" not in effects_text([*runs, alone], {"better": ("low", "high")})


def test_a_comparison_leaves_runs_tables_and_the_gap(tmp_path: Path) -> None:
    text = write_comparison(
        RUNS, tmp_path, tables={"two": ["high", "low", "gone"]}, floors=["low"], ceilings=["top"], flagship="high"
    )
    with open(tmp_path / "runs.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(RUNS)
    assert rows[3]["folder"] == "high_s0"
    assert rows[3]["versions"] == "torch 2; numpy 1"
    assert float(rows[3]["test/mAP"]) == 0.4
    for protocol in ("threshold_0.5", "prior", "oracle"):
        for ending in ("md", "tex", "csv"):
            assert (tmp_path / f"two_d_{protocol}.{ending}").is_file()
    assert "low" in (tmp_path / "two_d_prior.md").read_text()
    assert not (tmp_path / "variances.md").exists()  # nothing was logged
    assert text == (tmp_path / "gap.md").read_text() + "\n" + (tmp_path / "lead.md").read_text()
    assert "| method | mAP 5 % | macro-F1 5 % |" in (tmp_path / "headline_two.md").read_text()
    assert not (tmp_path / "labels_saved.md").exists()  # one share is no curve
    assert "| mAP | seeds | d 5 % |" in text
    assert "| high | 2 | **42** ± 12 |" in text
    assert "leaky" not in text


def test_the_cost_of_a_comparison_in_a_line() -> None:
    runs = [{**run("a", seed, 0.5), "seconds": 30 * (seed + 1)} for seed in range(3)]
    runs[2] |= {"device": "cuda", "versions": {"torch": "3"}}
    numbers = ("3 runs", "3 minutes", "60 s a run at the median", "90 s at most")
    assert has_line(cost_text(runs), *numbers, "cpu, cuda", "torch 2 and 3", "numpy 1")
    assert cost_text(runs).count("\n") == 1
