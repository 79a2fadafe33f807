"""What a page about runs shows, gathered from their folders and, where they can still be read, their data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam import __version__
from semilearn_bbam.config import format_yaml
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.inference import load_run
from semilearn_bbam.metrics import average_precision_per_label, prediction_metrics
from semilearn_bbam.report.figures.style import setting_words
from semilearn_bbam.report.page.figures import course_charts, own_charts, precision_recall_charts
from semilearn_bbam.report.page.labels import label_rows
from semilearn_bbam.report.page.model import MAX_RUNS, PageData, RunPage, ScoredPart
from semilearn_bbam.report.tables import marks_explained
from semilearn_bbam.runs.decisions import run_thresholds
from semilearn_bbam.runs.folder import FIGURES, METRICS, RESULTS
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.trained.page_items import item_groups
from semilearn_bbam.trained.run_data import RunData, load_run_data
from semilearn_bbam.util.progress import progress_bar

# Of the decisions that a page shows, the first that a run has.
PREFERRED = ("tuned", "prior", "0.5")
PARTS = ("test", "test_prior", "test_tuned", "tuned", "validation", "validation_prior", "validation_tuned")
SAME_MAP = 1e-3  # the same scores on other hardware
RANDOM_SEED = 0  # of the random items
WITHOUT_ITEMS = "Left out: the page was made with --items 0."


@dataclass(frozen=True, eq=False)
class _Gathered:
    """A run with what is known of its test part."""

    record: Run
    scored: ScoredPart | None = None
    data: RunData | None = None
    notes: tuple[str, ...] = ()
    items_note: str = ""


def gather(folders: Sequence[str | Path], *, items: int = 6, data_dir: str = "", device: str = "auto") -> PageData:
    """The data of a page about these runs.

    Args:
        folders: of one to `MAX_RUNS` runs; one that is named twice counts once. A run that has not ended is shown as
            far as it has logged.
        items: items of the test part in each group; 0: neither data nor model are read.
        data_dir: where the data are now; "": where they were in training.
        device: on which a run that kept no scores makes them again; as in `load_run`.

    Returns:
        The page. Where the data of a run cannot be read any more, it has the reason in place of items.

    Raises:
        RunError: a folder that is no run, that is damaged, or that has logged nothing yet.
        UserError: too many runs.
    """
    paths = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    if len(paths) > MAX_RUNS:
        raise UserError(f"a page shows at most {MAX_RUNS} runs, not {len(paths)}; make several pages")
    records = [Run.read(path) for path in paths]
    for record in records:
        if not (record.results or record.metrics):
            raise RunError(f"'{record.folder}' has neither {RESULTS} nor a row in {METRICS} yet; wait until it has")
    names = _names(paths)
    pages, parts, labels = [], {}, {}
    for number, record in enumerate(progress_bar(records, "report"), 1):
        with _whole(record):
            gathered = _test_part(record, items, data_dir, device)
            page = _run_page(gathered, number, names[number - 1], few=len(records) > 1)
            pages.append(_with_items(page, gathered, items))
        if gathered.scored is not None:
            parts[number], labels[number] = gathered.scored, label_names(record)
    numbered = dict(enumerate(records, 1))
    charts = [course_charts(numbered)]
    if any(page.finished for page in pages):
        charts.append(precision_recall_charts(parts, labels))
    return PageData(tuple(pages), tuple(charts), __version__, _differences(records))


@contextmanager
def _whole(record: Run) -> Iterator[None]:
    """RunError where the files of a run do not hold what they should."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RunError(
            f"'{record.folder}': {RESULTS} or {FIGURES} does not hold what a run writes there ({error}); rerun it"
        ) from error


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as it takes to tell them apart."""
    resolved = [path.resolve() for path in paths]
    for count in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-count:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return names


def _differences(records: Sequence[Run]) -> tuple[str, ...]:
    """Why numbers of these runs may not be comparable."""
    settings = {record.setting for record in records}
    if len({data for data, _ in settings}) > 1:
        return ("The runs are of different data, so their numbers cannot be compared.",)
    if len(settings) > 1:
        return ("The runs have different labelled parts.",)
    return ()


# ---------------------------------------------------------------------- the test part


def _test_part(record: Run, items: int, data_dir: str, device: str) -> _Gathered:
    """Scores that the run kept, else those that its model makes of the data, and the data for items."""
    if not record.results:
        return _Gathered(record)
    scored = kept_scores(record)
    if not items:
        return _Gathered(record, scored, items_note=WITHOUT_ITEMS)
    try:
        data = load_run_data(record.folder, data_dir=data_dir)
    except UserError as error:
        return _Gathered(record, scored, items_note=f"Left out: {error}.")
    source = data.source
    if scored is None:
        try:
            scores = load_run(record.folder, device=device).scores(source)
        except UserError as error:
            return _Gathered(record, None, data, items_note=f"Left out, for there are no scores: {error}.")
        scored = ScoredPart(scores, source.test_targets > 0, source.test_targets >= 0)
    elif not np.array_equal(scored.targets & scored.known, source.test_targets > 0):
        words = "the test part of the data has other labels than the scores that the run kept"
        return _Gathered(record, scored, items_note=f"Left out: {words}.")
    return _Gathered(record, scored, data, _checked(record, scored))


def kept_scores(record: Run) -> ScoredPart | None:
    """The scores in `figures.npz`.

    Args:
        record: the run.

    Returns:
        Scores, targets and known cells [M,K]; None where the run kept none.
    """
    if not record.arrays:
        return None
    targets = record.arrays["test_targets"] > 0
    known = record.arrays["test_known"] if "test_known" in record.arrays else np.ones(targets.shape, dtype=bool)
    return ScoredPart(record.arrays["test_scores"], targets, known)


def _checked(record: Run, scored: ScoredPart) -> tuple[str, ...]:
    """A note where scores give another mAP than the run recorded."""
    areas = average_precision_per_label(scored.scores, scored.targets & scored.known, scored.known)
    found, recorded = float(np.nan_to_num(areas).mean()), record.value("test/mAP")
    if abs(found - recorded) <= SAME_MAP:
        return ()
    return (
        f"The scores on this page give mAP {found:.3f}, the run recorded {recorded:.3f}: its model, its data or "
        "the versions have changed since.",
    )


def decision_thresholds(record: Run, count: int) -> dict[str, NDArray[np.float32]]:
    """The thresholds of a run by protocol.

    Args:
        record: the run.
        count: of its labels, K.

    Returns:
        Protocol -> [K], "0.5" first, then of `PREFERRED` what it has; inf for a label that is never predicted.
    """
    thresholds = run_thresholds(record, count)
    return {protocol: thresholds[protocol] for protocol in PREFERRED[::-1] if protocol in thresholds}


def label_names(record: Run) -> list[str]:
    """The names of a run's labels.

    Args:
        record: the run, with any of the files that have them.

    Returns:
        K names, none where no file has them.
    """
    if rows := record.results.get("per_label"):
        return [str(row["label"]) for row in rows]
    return [str(name) for name in record.arrays["label_names"]] if record.arrays else []


def _labeled_positives(gathered: _Gathered) -> NDArray[Any] | None:
    arrays = gathered.record.arrays
    if gathered.data is not None:
        counts: NDArray[Any] = (gathered.data.targets > 0).sum(axis=0)
        return counts
    return arrays["targets"][: int(arrays["num_labeled"])].sum(axis=0, dtype=np.int64) if arrays else None


# ---------------------------------------------------------------------- the page of a run


def _run_page(gathered: _Gathered, number: int, name: str, *, few: bool) -> RunPage:
    record, scored = gathered.record, gathered.scored
    page = RunPage(
        letter=ascii_uppercase[number - 1],
        name=name,
        algorithm=record.algorithm,
        facts=_facts(record),
        settings=record.settings,
        yaml=format_yaml(record.settings),
    )
    if not record.results:
        done = max(float(row["epoch"]) for row in record.metrics)
        return replace(page, finished=False, progress=f"It has logged {done:g} of {record.settings['epoch']} epochs.")
    names = label_names(record)
    thresholds = decision_thresholds(record, len(names))
    decided_at = next(protocol for protocol in PREFERRED if protocol in thresholds)
    rows = (
        label_rows(
            names,
            record.results.get("per_label", ()),
            thresholds[decided_at],
            decided_at,
            scored,
            _labeled_positives(gathered),
        )
        if names
        else ()
    )
    return replace(
        page,
        mark=" ".join(marks_explained([record.results.get("hidden_labels", "none")])),
        metrics=_metrics(record, scored, thresholds),
        decided_at=decided_at,
        labels=rows,
        notes=gathered.notes,
        charts=own_charts(record, scored, names, thresholds, page.letter, few=few),
        items_note=gathered.items_note,
        versions=record.results.get("versions", {}),
    )


def _with_items(page: RunPage, gathered: _Gathered, count: int) -> RunPage:
    if gathered.data is None or gathered.scored is None or gathered.items_note:
        return page
    source = gathered.data.source
    limits = decision_thresholds(gathered.record, len(source.label_names))[page.decided_at]
    try:
        return replace(page, items=item_groups(source, gathered.scored, limits, count=count, seed=RANDOM_SEED))
    except UserError as error:
        return replace(page, items_note=f"Left out: {error}.")


def _metrics(
    record: Run, scored: ScoredPart | None, thresholds: Mapping[str, NDArray[Any]]
) -> dict[str, Mapping[str, float]]:
    metrics = {part: record.results[part] for part in PARTS if isinstance(record.results.get(part), Mapping)}
    if "tuned" in thresholds and scored and not {"tuned", "test_tuned"} & set(metrics):
        predictions = scored.scores >= thresholds["tuned"]
        metrics["test_tuned"] = prediction_metrics(predictions, scored.targets & scored.known, scored.known)
    return metrics


def _facts(record: Run) -> tuple[tuple[str, str], ...]:
    results, settings = record.results, record.settings
    data, share = record.setting
    facts = [("Method", record.algorithm), ("Data", data)]
    if "num_labels" in results:
        total = round(results["num_labels"] / results["label_ratio"])
        facts.append(("Labelled", f"{results['num_labels']:,} of {total:,} ({100 * results['label_ratio']:.3g} %)"))
    else:
        facts.append(("Labelled", setting_words((data, share)).rpartition(", ")[2]))
    facts.append(("Labels", str(len(label_names(record)) or "–")))
    facts.append(("Seed", str(record.seed)))
    if "steps" in results:
        facts.append(("Epochs", f"{results['epochs']:,} ({results['steps']:,} step{'s' * (results['steps'] != 1)})"))
        last = results["selected_on"] == "last"
        chosen = "the last epoch" if last else f"epoch {results['selected_epoch']}, best by {results['selected_on']}"
        facts.append(("Model", chosen))
        facts.append(("Time", f"{_duration(results['seconds'])} on {results['device']}"))
    else:
        facts.append(("Epochs", str(settings.get("epoch", "–"))))
    return tuple(facts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
