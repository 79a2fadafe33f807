"""The files of a comparison: every run in one CSV, tables under each protocol, and the gap that was closed."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from semilearn_bbam.report.columns import compared
from semilearn_bbam.report.effects import effects_text
from semilearn_bbam.report.gap import gap_text
from semilearn_bbam.report.headline import headline_text, saved_csv, saved_tables, saved_text
from semilearn_bbam.report.lead import lead_text
from semilearn_bbam.report.methods import summary
from semilearn_bbam.report.render import to_csv, to_latex, to_markdown
from semilearn_bbam.report.tables import PROTOCOLS, Run, common_seeds, comparison_table, validation_note
from semilearn_bbam.report.variances import variances_text

PLACE = ("method", "grid_dataset", "grid_ratio", "seed", "algorithm", "hidden_labels", "num_labels", "steps", "seconds")
TRACE = ("oracle_epoch_mAP", "device", "folder", "config", "options", "versions")
PRINTED = ("gap.md", "lead.md", "effects.md")
FORMS = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def write_runs(results: Sequence[Run], path: Path) -> None:
    """A line per run: its place in the grid, every test metric under both protocols, and its origin."""
    metrics = [(part, key) for part in ("test", "test_prior") for key in (results[0][part] if results else ())]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        judged_on = results[0].get("judged_on", "test") if results else "test"
        writer.writerow([*PLACE, *(f"{part}/{key}".replace("test", judged_on, 1) for part, key in metrics), *TRACE])
        for run in results:
            values = {**run, "versions": "; ".join(f"{name} {number}" for name, number in run["versions"].items())}
            row = [values.get(key, "") for key in PLACE] + [run[part][key] for part, key in metrics]
            writer.writerow(row + [values.get(key, "") for key in TRACE])


def cost_text(results: Sequence[Run]) -> str:
    """One line: the number of runs, how long they trained, on which devices and with which versions."""
    seconds = [run["seconds"] for run in results]
    if not seconds:
        return ""
    devices = ", ".join(sorted({run["device"] for run in results}))
    versions: dict[str, set[str]] = {}
    for run in results:
        for name, number in run["versions"].items():
            versions.setdefault(name, set()).add(number)
    used = ", ".join(f"{name} {' and '.join(sorted(numbers))}" for name, numbers in versions.items())
    return (
        f"{len(seconds)} runs, {sum(seconds) / 60:.0f} minutes of training in all, one after the other "
        f"({statistics.median(seconds):.0f} s a run at the median, {max(seconds):.0f} s at most); {devices}; {used}.\n"
    )


def write_comparison(
    results: Sequence[Run],
    folder: Path,
    *,
    tables: Mapping[str, Sequence[str]],
    names: Mapping[str, str] | None = None,
    floors: Collection[str] = (),
    ceilings: Collection[str] = (),
    flagship: str = "",
    flagship_family: Collection[str] = (),
    effects: Mapping[str, tuple[str, str]] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> str:
    """Write the files of a comparison into a folder; returns the texts of `gap.md`, `lead.md` and `effects.md`.

    `runs.csv` has every run, `summary.md` a table per dataset and ratio. tables: methods of each table, in the order
    of its rows (those without a run are left out), written as `<table>_<dataset>_<protocol>.{md,tex,csv}`. With floors,
    `labels_saved.md`, `labels_saved.csv` and `headline.md`, with ceilings too `gap.md`; of each also one for the
    methods of a table, such as `gap_<table>.md`. `lead.md` of the flagship; `effects.md` where pairs of methods are
    named; `variances.md` where runs logged their angle variances; `cost.md`, the cost of all runs. Ratios at which
    only floors were run are in `runs.csv`, `summary.md` and the floor's curve. `log` gets a line for each table that is
    left out, because its methods have no seed in common, and where floors have no curve.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_runs(results, folder / "runs.csv")
    (folder / "summary.md").write_text(summary(results), encoding="utf-8")
    datasets = list(dict.fromkeys(run["grid_dataset"] for run in results))
    for title, methods in tables.items():
        table_runs = compared([run for run in results if run["method"] in methods], floors, ceilings)
        for dataset in datasets:
            dataset_runs = [run for run in table_runs if run["grid_dataset"] == dataset]
            rows = [method for method in methods if any(run["method"] == method for run in dataset_runs)]
            seeds = common_seeds(dataset_runs, rows)
            if rows and not seeds:
                log(f"left out table {title} of {dataset}: its methods have no seed in common")
            for protocol in PROTOCOLS if seeds else ():
                table = comparison_table(dataset_runs, dataset, protocol, methods=rows, names=names)
                stem = f"{title}_{dataset}_{protocol.replace(' ', '_')}"
                for ending, render in FORMS.items():
                    (folder / f"{stem}.{ending}").write_text(render(table), encoding="utf-8")
    texts = _with_ends(results, tables, names or {}, floors, ceilings, folder, log) if floors else {}
    if flagship:
        texts["lead.md"] = lead_text(results, flagship, flagship_family, ceilings, names)
    if effects:
        texts["effects.md"] = effects_text(results, effects)
    for name, text in {**texts, "variances.md": variances_text(results), "cost.md": cost_text(results)}.items():
        if text:
            (folder / name).write_text(text, encoding="utf-8")
    return "\n".join(text for name, text in texts.items() if text and name in PRINTED)


def _with_ends(
    results: Sequence[Run],
    tables: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
    floors: Collection[str],
    ceilings: Collection[str],
    folder: Path,
    log: Callable[[str], None],
) -> dict[str, str]:
    """What is measured from floors and towards ceilings, by file, of all methods and of those of each table."""
    texts = {}
    for title, methods in {"": list(dict.fromkeys(run["method"] for run in results)), **tables}.items():
        ending = f"_{title}" if title else ""
        selected = [run for run in results if run["method"] in {*methods, *floors, *ceilings}]
        if ceilings:
            texts[f"gap{ending}.md"] = gap_text(selected, floors, ceilings, names)
        saved = saved_tables(selected, floors, ceilings, methods)
        texts[f"labels_saved{ending}.md"] = saved_text(saved, floors, names, validation_note(results))
        texts[f"headline{ending}.md"] = headline_text(selected, floors, ceilings, methods, names)
        if saved and not title:
            texts["labels_saved.csv"] = saved_csv(saved)
        for dataset in sorted({run["grid_dataset"] for run in selected} - {table.dataset for table in saved}):
            log(
                f"left out {dataset} in labels_saved{ending}.md: it needs two label_ratios of floors, and a seed of all"
            )
    return texts
