"""The numbers of the theory page and its picture: the command behind `scripts/theory.py`."""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from semilearn_bbam.errors import UserError
from semilearn_bbam.report.figures.style import save, stem
from semilearn_bbam.report.methods import fill_marks
from semilearn_bbam.report.theory_figure import Simulated, draw_theory
from semilearn_bbam.theory import FIXED, ClassErrors, Setting, best_errors, crossing_errors, simulate
from semilearn_bbam.util.progress import progress_bar

# From 1/8 to 8 in steps of sqrt(2).
RATIOS = tuple(2 ** (step / 2) for step in range(-6, 7))
FARTHEST = 1000.0  # M, and 1 / M, up to which VCA is computed
STEPS = 600
PAGE = Path("docs") / "theory.md"
WAYS = ("lda", "theta")
QUANTITIES = ("positive", "negative", "vca")
NOTE = (
    "lines: formula; points: {samples} noisy samples, direction by discriminant analysis, threshold with the fewest "
    "errors, measured on clean samples, mean ± standard deviation of {seeds} seeds; d = {d}, eta = {eta:g}, "
    "{held} stays {s:g}; L: log ratio of the class weights"
)
HELD = {
    "smaller": "the smaller deviation",
    "positive": "the positives' deviation",
    "negative": "the negatives' deviation",
    "mean": "the root of the mean variance",
}

Results = Mapping[str, Mapping[str, Simulated]]


def panels(setting: Setting) -> dict[str, Setting]:
    """A setting, the same with equally many positives, and that without noise."""
    balanced = replace(setting, alpha=0.5)
    return {
        "clean, balanced": replace(balanced, eps_pos=0.0, eps_neg=0.0),
        "noisy, balanced": balanced,
        "noisy, imbalanced": setting,
    }


def simulate_all(settings: Mapping[str, Setting], seeds: int, samples: int) -> Results:
    """Direction -> setting -> M -> an entry per seed; ValueError as in `simulate`."""
    simulated: dict[str, dict[str, dict[float, list[ClassErrors]]]] = {
        way: {name: {} for name in settings} for way in WAYS
    }
    for name, ratio in progress_bar([(name, ratio) for name in settings for ratio in RATIOS], "simulations"):
        runs = [simulate(settings[name], ratio, seed=seed, samples=samples) for seed in range(seeds)]
        for way in WAYS:
            simulated[way][name][ratio] = [run[way] for run in runs]
    return simulated


# ---------------------------------------------------------------------- tables


def write_csv(path: Path, settings: Mapping[str, Setting], results: Results) -> None:
    """A row per setting and M: the formula's and the slides' values, and mean and deviation of the simulated ones."""
    rows = []
    for name, setting in settings.items():
        for ratio in RATIOS:
            best = best_errors(setting, ratio)
            row: dict[str, object] = {
                "setting": name,
                "alpha": setting.alpha,
                "eps_pos": setting.eps_pos,
                "eps_neg": setting.eps_neg,
                "M": f"{ratio:.6g}",
                "classifier": _kind(best),
            }
            forms = {"formula": best, "slides": crossing_errors(setting, ratio, "slides")}
            for form, errors in forms.items():
                row |= {f"{form}_{quantity}": f"{getattr(errors, quantity):.6f}" for quantity in QUANTITIES}
            for way in WAYS:
                for quantity in QUANTITIES:
                    values = [getattr(errors_of_seed, quantity) for errors_of_seed in results[way][name][ratio]]
                    row[f"{way}_{quantity}_mean"] = f"{statistics.mean(values):.6f}"
                    row[f"{way}_{quantity}_sd"] = f"{statistics.stdev(values):.6f}" if len(values) > 1 else ""
            rows.append(row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summary(settings: Mapping[str, Setting], results: Results) -> str:
    """Two Markdown tables: how far formulas and simulation are apart, and where VCA rises with the distance from 1."""
    return f"{_agreement(settings, results)}\n{_claims(settings)}"


def _agreement(settings: Mapping[str, Setting], results: Results) -> str:
    head = ["setting", "L", "slides' L", "largest, learned", "largest, theta", "rms, learned", "rms, slides' L"]
    rows = []
    for name, setting in settings.items():
        learned, along_theta = (
            _differences(setting, results["lda"][name]),
            _differences(setting, results["theta"][name]),
        )
        slides = _differences(setting, results["lda"][name], "slides")
        cells = [f"{setting.log_ratio():.3f}", f"{setting.log_ratio('slides'):.3f}"]
        cells += ["{:.4f} (M = {:.3g})".format(*max(differences)) for differences in (learned, along_theta)]
        cells += [
            f"{math.sqrt(statistics.mean(difference**2 for difference, _ in differences)):.4f}"
            for differences in (learned, slides)
        ]
        ends = sum(math.isinf(best_errors(setting, ratio).threshold) for ratio in RATIOS)
        without_crossing = sum(math.isnan(crossing_errors(setting, ratio).threshold) for ratio in RATIOS)
        rows.append([name, *cells, f"{ends} of {len(RATIOS)}", f"{without_crossing} of {len(RATIOS)}"])
    return _table([*head, "one class only", "no crossing"], rows)


def _differences(setting: Setting, simulated: Simulated, log_ratio: str = "derived") -> list[tuple[float, float]]:
    """|formula - mean over seeds| of both class-wise errors, each with its M."""
    differences = []
    for ratio, runs in simulated.items():
        best = best_errors(setting, ratio, log_ratio)
        for quantity in ("positive", "negative"):
            mean = statistics.mean(getattr(errors, quantity) for errors in runs)
            differences.append((abs(getattr(best, quantity) - mean), ratio))
    return differences


def _claims(settings: Mapping[str, Setting]) -> str:
    head = ["setting", "held fixed", "VCA at M = 1", "greatest for M > 1", f"at M = {FARTHEST:g}"]
    head += ["greatest for M < 1", f"at M = 1/{FARTHEST:g}"]
    rows = []
    for number, (name, setting) in enumerate(settings.items()):
        for fixed in FIXED if number == 0 else (setting.fixed,):
            variant = replace(setting, fixed=fixed)
            cells = [f"{best_errors(variant, 1.0).vca:.4f}"]
            for sign in (1, -1):
                ratios = np.geomspace(1, FARTHEST**sign, STEPS)
                values = [best_errors(variant, ratio).vca for ratio in ratios]
                top = int(np.argmax(values))
                greatest = "never above M = 1" if top == 0 else f"{values[top]:.4f} (M = {ratios[top]:.3g})"
                cells += [greatest, f"{values[-1]:.4f}"]
            rows.append([name, HELD[fixed], *cells])
    return _table(head, rows)


def _kind(errors: ClassErrors) -> str:
    if math.isfinite(errors.threshold):
        return "threshold"
    return "all negative" if errors.threshold > 0 else "all positive"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


# ---------------------------------------------------------------------- the command


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, measure and write what a command line asks for; UserError for an invalid value."""
    base = Setting(alpha=0.1, eps_pos=0.4, eps_neg=0.05)
    parser = argparse.ArgumentParser(
        prog="theory.py", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", default="docs/theory", metavar="PATH", help="pictures, without .png and .svg")
    parser.add_argument("--results", default="results/theory", metavar="FOLDER", help="theory.csv and summary.md")
    parser.add_argument("--docs", action="store_true", help="update the tables in docs/theory.md of this folder too")
    parser.add_argument("--d", type=int, default=base.d, help="dimensions")
    parser.add_argument("--eta", type=float, default=base.eta, help="each coordinate of the positives' mean")
    parser.add_argument("--s", type=float, default=base.s, help="the standard deviation that is held fixed")
    parser.add_argument("--fixed", choices=FIXED, default=base.fixed, help="which one that is")
    parser.add_argument("--alpha", type=float, default=base.alpha, help="share of positives")
    parser.add_argument("--eps_pos", type=float, default=base.eps_pos, help="share of positives labelled negative")
    parser.add_argument("--eps_neg", type=float, default=base.eps_neg, help="share of negatives labelled positive")
    parser.add_argument("--pseudo_share", type=float, default=base.pseudo_share, help="share that is pseudo-labelled")
    parser.add_argument("--seeds", type=int, default=5, help="simulations of each point")
    parser.add_argument("--samples", type=int, default=50_000, help="training samples of a simulation")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        raise UserError(f"--seeds: there must be at least 1, got {args.seeds}")
    if args.docs and not PAGE.is_file():
        raise UserError(f"--docs: there is no {PAGE} here; start the command in the folder of the project")
    names = ("d", "eta", "s", "alpha", "eps_pos", "eps_neg", "pseudo_share", "fixed")
    try:
        settings = panels(Setting(**{name: getattr(args, name) for name in names}))
        results = simulate_all(settings, args.seeds, args.samples)
    except ValueError as error:
        raise UserError(str(error)) from None
    folder = Path(args.results)
    text = summary(settings, results)
    note = NOTE.format(
        samples=f"{args.samples:,}", seeds=args.seeds, d=args.d, eta=args.eta, held=HELD[args.fixed], s=args.s
    )
    try:
        for parent in (folder, stem(args.out).parent):
            parent.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "theory.csv", settings, results)
        (folder / "summary.md").write_text(text, encoding="utf-8")
        written = save(draw_theory(settings, results["lda"], note), args.out)
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None
    if args.docs:
        fill_marks([], [PAGE], Path())
    print(text)
    print(f"wrote {', '.join(map(str, [*written, folder / 'theory.csv', folder / 'summary.md']))}")
    return 0
