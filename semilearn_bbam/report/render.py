"""A `Table` as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from semilearn_bbam.report.tables import Cell, Table

LATEX_SPECIAL = str.maketrans(
    {character: rf"\{character}" for character in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"†": r"$\dagger$", ">": r"$>$", "<": r"$<$", "±": r"$\pm$"}
    | {"[": "{[}", "]": "{]}"}  # after a line's end a bracket would be its argument
)


def to_markdown(table: Table) -> str:
    """One row per method; the column of a metric and ratio is headed `metric 5 %`."""
    return f"{table.caption}\n\n{to_rows(markdown_lines(table))}\n"


def markdown_lines(table: Table) -> list[list[str]]:
    """The cells of the head, and of each row."""
    head = ["method", *(f"{title} {100 * ratio:g} %" for title, ratio in table.columns)]
    cells = table.cells
    return [head, *([name, *(_markdown(cells[method].get(column)) for column in table.columns)]
                    for method, name in table.rows.items())]  # fmt: skip


def to_rows(lines: Sequence[Sequence[str]]) -> str:
    """A head and rows of cells as a table in Markdown, without a line's end."""
    head, *rows = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def _markdown(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    mean = short(cell.mean)
    mean = f"**{mean}**" if cell.best else mean
    spread = "" if cell.deviation is None else f" ± {short(cell.deviation)}"
    return f"{mean}{'*' if cell.best and cell.significant else ''}{spread}".replace("***", "** *")


def to_latex(table: Table) -> str:
    """A `table*` for the packages booktabs and multirow: metrics over their ratios, as in the slides."""
    per_metric = len(table.ratios)
    spans = " & ".join(rf"\multicolumn{{{per_metric}}}{{c}}{{{metric.title}}}" for metric in table.metrics)
    starts = range(2, 2 + per_metric * len(table.metrics), per_metric)
    rules = " ".join(rf"\cmidrule(lr){{{start}-{start + per_metric - 1}}}" for start in starts)
    ratios = " & ".join(rf"{100 * ratio:g}\%" for _, ratio in table.columns)
    lines = [
        r"\begin{table*}",
        r"\centering\scriptsize",
        rf"\caption{{{table.caption.translate(LATEX_SPECIAL)}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        rf"\multirow{{2}}{{*}}{{method}} & {spans} \\",
        rules,
        rf"& {ratios} \\",
        r"\midrule",
    ]
    for method, name in table.rows.items():
        cells = (_latex(table.cells[method].get(column)) for column in table.columns)
        lines.append(rf"{name.translate(LATEX_SPECIAL)} & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"]) + "\n"


def _latex(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    mean = rf"\mathbf{{{short(cell.mean)}}}" if cell.best else short(cell.mean)
    star = "^{*}" if cell.best and cell.significant else ""
    spread = "" if cell.deviation is None else rf"_{{\pm{short(cell.deviation)}}}"
    return f"${mean}{star}{spread}$"


def to_csv(table: Table) -> str:
    """One line per cell: method, metric, label ratio, mean, standard deviation, seeds, best, p-value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "metric", "label_ratio", "mean", "deviation", "seeds", "best", "p_value"])
    for method in table.rows:
        for (title, ratio), cell in table.cells[method].items():
            spread = "" if cell.deviation is None else cell.deviation
            p_value = "" if cell.p_value is None else cell.p_value
            writer.writerow([method, title, ratio, cell.mean, spread, len(cell.values), int(cell.best), p_value])
    return text.getvalue()


def short(value: float) -> str:
    """Three digits after the point, without the 0 before it, as the slides' tables have them."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
