"""What a search found, as Markdown: the choice of each method on each dataset, and what mattered."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from semilearn_bbam.compare.tuning.sampling import KEPT, RANDOM_TRIALS, UNPRUNED_TRIALS, importances
from semilearn_bbam.compare.tuning.search import Search
from semilearn_bbam.compare.tuning.space import Tuning, as_text, values_text
from semilearn_bbam.compare.tuning.trials import SKIPPED, Trial

AHEAD, LEVEL, BEHIND = "ahead", "level", "behind"
# How a method is to the reference at its defaults, and with chosen settings.
VERDICTS = {
    (BEHIND, BEHIND): "idea",
    (BEHIND, LEVEL): "settings",
    (BEHIND, AHEAD): "settings",
    (LEVEL, AHEAD): "settings",
    (LEVEL, BEHIND): "idea",
}


def report_text(searches: Sequence[Search]) -> str:
    """The page of a search: its protocol, a table of choices and one of importances for each dataset."""
    tuning = searches[0].tuning
    parts = [protocol_text(tuning)]
    for dataset in tuning.datasets:
        of_dataset = [search for search in searches if search.dataset == dataset and search.runs]
        if of_dataset:
            parts += [f"## {dataset}", choices_table(of_dataset), importance_table(of_dataset)]
    return "\n\n".join([*(part for part in parts if part), cost_line(searches)]) + "\n"


def protocol_text(tuning: Tuning) -> str:
    """How trials were made and judged, and what the columns mean."""
    seeds = _listed(tuning.seeds)
    lines = [
        f"Judged by the last model's mAP on a validation part of the labelled data, mean of seeds {seeds}, never on "
        f"the test set: {100 * tuning.label_ratio:g} % of the training rows are labelled, of which "
        f"{100 * tuning.val_ratio:g} % judge and the rest, {100 * tuning.trained_share:g} % of all, trains. Each "
        f"method has {tuning.trials} trials on each set: its defaults, any settings that the file names, then draws of "
        f"Optuna's TPE sampler, at random until {RANDOM_TRIALS} are made."
    ]
    if tuning.prune:
        lines.append(
            f"From trial {UNPRUNED_TRIALS} on, the defaults being trial 0, one in the lowest {100 - KEPT} % after seed "
            f"{tuning.seeds[0]} gets no further seed and counts as a trial."
        )
    lines.append(
        "In brackets: single seeds. Best: the highest of all complete trials, so it is too high as an estimate, and "
        "never below the defaults. Two seeds do not rank settings that are a point apart."
    )
    if tuning.reference:
        lines.append(
            f"Settings or idea: ahead of or behind {tuning.reference} on every seed (level: neither), at the defaults "
            "of both and with the chosen settings of both, whose distance in points is in brackets. idea: behind after "
            "the search, and not ahead before it; settings: better after it than before."
        )
    return " ".join(lines)


def choices_table(searches: Sequence[Search]) -> str:
    """A row for each method: validation mAP by default and at best, trials, seconds, and the chosen values."""
    reference = {search.contender.method: search for search in searches}.get(searches[0].tuning.reference)
    head = ["method", "defaults", "best", "gain", "trials", "skipped", "failed", "seconds", "chosen"]
    head += ["settings or idea"] if reference else []
    lines = [head]
    for search in searches:
        first, best, made = search.by_default, search.best, search.finished
        skipped = sum(any(run.state == SKIPPED for run in trial.runs.values()) and not trial.failed for trial in made)
        gain = f"{100 * (best.mean - first.mean):+.1f}" if best and first else "-"
        line = [search.contender.method, _scores(first), _scores(best), gain, f"{len(made)} of {search.tuning.trials}"]
        line += [str(skipped), str(sum(trial.failed for trial in made)), f"{best.seconds:.0f}" if best else "-"]
        line.append(chosen_text(search))
        lines.append([*line, verdict(search, reference)] if reference else line)
    return _markdown(lines)


def chosen_text(search: Search) -> str:
    """The chosen values that differ from the defaults."""
    if search.best is None:
        return "-"
    changed = {name: value for name, value in search.best.values.items() if value != search.start[name]}
    return values_text(changed) or "the defaults"


def verdict(search: Search, reference: Search) -> str:
    """Whether a method is where it is by its settings or by its idea, with the chosen settings' distance in points."""
    if search is reference:
        return "reference"
    pairs = [(search.by_default, reference.by_default), (search.best, reference.best)]
    if any(one is None or other is None for one, other in pairs):
        return "-"
    before, after = (_standing(one, other) for one, other in pairs if one is not None and other is not None)
    word = VERDICTS.get((before, after), f"{after} before and after" if before == after else f"{before}, now {after}")
    best, other = search.best, reference.best
    return f"{word} ({100 * (best.mean - other.mean):+.1f})" if best and other else "-"


def importance_table(searches: Sequence[Search]) -> str:
    """A row for each method: percent of the variance over its trials that each hyperparameter explains, by fANOVA."""
    rows: dict[str, dict[str, float]] = {}
    for search in searches:
        if found := importances(search.contender, search.trials, search.tuning.seeds):
            rows[search.contender.method] = found
    if not rows:
        return ""
    spaces = {search.contender.method: [item.name for item in search.contender.space] for search in searches}
    counts = {name: sum(name in space for space in spaces.values()) for space in spaces.values() for name in space}
    shared = [name for name, count in counts.items() if count > 1 or len(spaces) == 1]
    lines = [["method", *shared, "its own"]]
    for method, found in rows.items():
        own = [name for name in spaces[method] if name not in shared]
        cells = [f"{100 * found[name]:.0f}" if name in found else "" for name in shared]
        lines.append([method, *cells, ", ".join(f"{name} {100 * found.get(name, 0):.0f}" for name in own)])
    caption = "Importance in percent (fANOVA over the complete trials; so few of them give a rough idea only)."
    return f"{caption}\n\n{_markdown(lines)}"


def cost_line(searches: Sequence[Search]) -> str:
    """How many runs were made and how long they took, one after the other."""
    seconds = [run.seconds for search in searches for run in search.runs if run.seconds is not None]
    return f"{len(seconds)} runs, {sum(seconds) / 3600:.1f} hours of training in all, one after the other."


def plan_text(searches: Sequence[Search], workers: int) -> str:
    """What the command would do: the spaces, a row for each search, and how long the runs take at most."""
    spaces = {
        search.contender.method: "; ".join(f"{item.name}: {item.words()}" for item in search.contender.space)
        for search in searches
    }
    lines = [["method", "dataset", "trials", "runs left at most", "minutes at most"]]
    hours, runs = 0.0, 0
    for search in searches:
        left = search.total - len(search.runs)
        hours, runs = hours + left * search.contender.seconds / 3600, runs + left
        minutes = f"{left * search.contender.seconds / 60:.0f}"
        lines.append([search.contender.method, search.dataset, str(search.tuning.trials), str(left), minutes])
    cost = f"{runs} runs at most, {hours:.1f} hours of one core, {hours / workers:.1f} with --jobs {workers}."
    listed = "\n".join(f"- {method}: {text}" for method, text in spaces.items())
    return f"{protocol_text(searches[0].tuning)}\n\n{listed}\n\n{_markdown(lines)}\n\n{cost}\n"


def _standing(trial: Trial, reference: Trial) -> str:
    """Whether a trial is ahead of or behind another on every seed."""
    pairs = list(zip(trial.scores(), reference.scores(), strict=True))
    if all(one > other for one, other in pairs):
        return AHEAD
    return BEHIND if all(one < other for one, other in pairs) else LEVEL


def _scores(trial: Trial | None) -> str:
    """A mean and, in brackets, the single seeds."""
    if trial is None:
        return "-"
    single = ", ".join(f"{score:.3f}" for score in trial.scores())
    return f"{statistics.mean(trial.scores()):.3f} ({single})"


def _listed(numbers: Sequence[object]) -> str:
    words = [as_text(number) for number in numbers]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
