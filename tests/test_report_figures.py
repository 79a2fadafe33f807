"""Numbers in the figures, against separate derivations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from semilearn_bbam.errors import FigureError
from semilearn_bbam.report.figures import (
    draw_angle_histogram,
    draw_label_ap,
    draw_learning_curves,
    draw_precision_recall,
    draw_ratios,
    draw_sensitivity,
    draw_vdfd,
    read_methods,
    save,
)
from semilearn_bbam.report.figures.style import DASHES, MARKERS, Style, metric_words
from tests.conftest import naming
from tests.figure_runs import curve_rows, score_arrays, write_run


def line(axis: Axes, label: str) -> tuple[list[float], list[float]]:
    """Data of the line with this label."""
    (curve,) = [line for line in axis.get_lines() if line.get_label() == label]
    x, y = curve.get_data()
    return list(np.asarray(x, float)), list(np.asarray(y, float))


def bars(axis: Axes, label: str) -> tuple[list[float], list[float], list[float]]:
    """Places, means and half lengths of the error bars with this label."""
    (bars,) = [container for container in axis.containers if container.get_label() == label]
    x, y = bars[0].get_data()
    ends = bars[2][0].get_segments() if bars[2] else [np.array([[0, 0], [0, 0]])] * len(x)
    return list(x), list(y), [float(np.ptp(end[:, 1])) / 2 if len(end) else np.nan for end in ends]


def words(figure: Figure) -> str:
    """All text of a figure outside its panels."""
    texts = [text.get_text() for text in figure.texts]
    for legend in figure.legends:
        texts += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return " ".join(" ".join(texts).split())


@pytest.fixture
def two_methods(tmp_path: Path) -> list[Path]:
    """BBAM with seeds 0, 1 and 2, CAP without the last one."""
    folders = []
    for seed in range(3):
        rows = curve_rows([0.1 + seed, 0.2, 0.6], pseudo=[0, 2 + seed, 5])
        folders.append(write_run(tmp_path / f"bbam_s{seed}", seed=seed, rows=rows))
    for seed in range(2):
        folders.append(write_run(tmp_path / f"cap_s{seed}", seed=seed, algorithm="cap", rows=curve_rows([0.3, 0.4, 1])))
    return folders


def test_learning_curves_are_means_over_common_seeds(two_methods: list[Path]) -> None:
    figure = draw_learning_curves(read_methods(two_methods), ("test/mAP", "test/macro_f1"))
    first, second = figure.axes
    assert line(first, "bbam") == ([10, 20, 30], pytest.approx([0.6, 0.2, 0.6]))
    assert line(second, "cap") == ([10, 20, 30], pytest.approx([0.15, 0.2, 0.5]))
    band = first.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.1)
    assert band[band[:, 0] == 10, 1].min() == pytest.approx(0.1)
    assert [axis.get_ylabel() for axis in figure.axes] == ["test mAP", "test macro-F1 at 0.5"]
    assert "mean over seeds 0, 1;" in words(figure)


def test_variances_of_both_readings(two_methods: list[Path]) -> None:
    figure = draw_vdfd(read_methods(two_methods))
    true, pseudo, true_ratio, pseudo_ratio = figure.axes
    assert line(true, "bbam") == ([1, 2, 3], pytest.approx([-0.4, -0.8, -0.4]))
    assert line(true_ratio, "cap") == ([1, 2, 3], pytest.approx([0.65, 0.7, 1]))
    assert line(pseudo, "bbam") == ([2, 3], pytest.approx([(2 + 3) / 2 - 4, 1]))
    assert line(pseudo_ratio, "bbam") == ([2, 3], pytest.approx([2.5 / 4, 5 / 4]))
    assert "cap" not in [curve.get_label() for curve in pseudo.get_lines()]
    assert "rad" in true.get_ylabel()
    # The warm-up of all ends after epoch 1.
    assert [1, 1] in [list(curve.get_xdata()) for curve in true.get_lines()]


def test_without_pseudo_labels_there_is_one_column(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", rows=curve_rows([0.5, 0.6]))]
    assert len(draw_vdfd(read_methods(runs)).axes) == 2


def heights(axis: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Edges and heights of the histogram with this label."""
    (bars,) = [container for container in axis.containers if container[0].get_label().startswith(label)]
    patches = [patch for patch in bars if isinstance(patch, Rectangle)]
    edges = [patch.get_x() for patch in patches] + [patches[-1].get_x() + patches[-1].get_width()]
    return np.array(edges), np.array([patch.get_height() for patch in patches])


@pytest.mark.parametrize("mapped", [True, False])
def test_histograms_show_the_counted_angles(tmp_path: Path, mapped: bool) -> None:
    arrays = score_arrays(0, mapped=mapped, unknown=30)
    (method,) = read_methods([write_run(tmp_path / "a", arrays=arrays)])
    figure = draw_angle_histogram(method, "dog")
    before = figure.axes[0]
    assert len(figure.axes) == (2 if mapped else 1)
    # In plain words: BBAM's rows are those in `counted`, others' those with true labels.
    angles, labels = [], []
    for row in range(200):
        if mapped and arrays["counted"][row, 1]:
            labels.append(arrays["targets"][row, 1] if row < 40 else arrays["pseudo_targets"][row - 40, 1])
            angles.append(float(arrays["angles_pseudo"][row, 1]))
        elif not mapped and row < 170:
            labels.append(arrays["targets"][row, 1])
            angles.append(float(arrays["angles_true"][row, 1]))
    for word, value in (("positives", 1), ("negatives", 0)):
        selected = [angle for angle, label in zip(angles, labels, strict=True) if label == value]
        edges, density = heights(before, f"{word}, n = {len(selected)}")
        expected, _ = np.histogram(np.array(selected, np.float32), bins=edges, density=True)
        np.testing.assert_allclose(density, expected, rtol=1e-6)
    mean, variance = (0.9, 0.01) if mapped else moments(angles, labels)
    x, y = line(before, rf"$\mu_p$ = {mean:.3f}, $\sigma_p^2$ = {variance:.4f}")
    assert max(y) == pytest.approx(1 / np.sqrt(2 * np.pi * variance), rel=1e-3)
    assert x[int(np.argmax(y))] == pytest.approx(mean, abs=0.01)


def moments(angles: list[float], labels: list[float]) -> tuple[float, float]:
    selected = [angle for angle, label in zip(angles, labels, strict=True) if label == 1]
    return float(np.mean(selected)), float(np.var(selected, ddof=1))


def test_after_the_map_both_gaussians_have_the_pooled_variance(tmp_path: Path) -> None:
    arrays = score_arrays(0, mapped=True)
    (method,) = read_methods([write_run(tmp_path / "a", arrays=arrays)])
    _, after = draw_angle_histogram(method, "cat").axes
    pooled = (0.01 + 0.04) / 2
    for side, mean in (("p", 0.9), ("n", 1.3)):
        _, y = line(after, rf"$\mu_{side}$ = {mean:.3f}, $\sigma_{side}^2$ = {pooled:.4f}")
        assert max(y) == pytest.approx(1 / np.sqrt(2 * np.pi * pooled), rel=1e-3)
    labels = np.concatenate([arrays["targets"][:40], arrays["pseudo_targets"]])[:, 0]
    counted = arrays["counted"][:, 0] & (labels == 0)
    theta = arrays["angles_pseudo"][counted, 0].astype(np.float64)
    edges, density = heights(after, "negatives")
    # psi = a theta + (1 - a) mu with a = sigma_hat / sigma.
    slope = np.sqrt(pooled / 0.04)
    expected, _ = np.histogram(slope * theta + (1 - slope) * 1.3, bins=edges, density=True)
    np.testing.assert_allclose(density, expected, rtol=1e-6)


def test_a_map_that_is_not_used_is_called_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", algorithm="bam", balance=False, arrays=score_arrays(0, mapped=True))
    (method,) = read_methods([folder])
    assert "which bam does not use" in draw_angle_histogram(method).axes[1].get_title()
    with pytest.raises(FigureError, match=naming("label 'cow'", "cat, dog")):
        draw_angle_histogram(method, "cow")


def average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean precision at the ranks of the positives, for scores without ties."""
    ranked = targets[np.argsort(-scores)]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked > 0].mean())


def test_average_precision_per_label_in_the_order_of_frequency(tmp_path: Path) -> None:
    arrays = [score_arrays(seed) for seed in (0, 1)]
    for content in arrays:  # the last label becomes the most frequent one
        content["targets"][:, 2] = 1
        content["test_targets"][:, 1] = 0
    folders = [write_run(tmp_path / f"a{seed}", seed=seed, arrays=arrays[seed]) for seed in (0, 1)]
    figure = draw_label_ap(read_methods(folders))
    top, bottom = figure.axes
    assert [text.get_text() for text in bottom.get_xticklabels()] == [r"mat \$ b", "cat", "dog"]
    assert [bar.get_height() for bar in bottom.patches] == pytest.approx([100, 50, 25])
    _, means, halves = bars(top, "bbam")
    values = np.array([[average_precision(content["test_scores"][:, k], content["test_targets"][:, k]) for k in (2, 0)]
                       for content in arrays])  # fmt: skip
    np.testing.assert_allclose(means[:2], values.mean(axis=0), rtol=1e-6)
    assert np.isnan(means[2])  # no test positive
    np.testing.assert_allclose(halves[:2], np.ptp(values, axis=0) / 2, rtol=1e-6)


def test_runs_that_agree_have_bars_of_no_length(tmp_path: Path) -> None:
    """The mean of equal numbers need not equal them: (v + v + v) / 3 may be above v by a last digit."""
    for number in range(8):
        arrays = score_arrays(number)
        same = [write_run(tmp_path / f"{number}_{seed}", seed=seed, arrays=arrays) for seed in range(3)]
        _, _, halves = bars(draw_label_ap(read_methods(same)).axes[0], "bbam")
        np.testing.assert_allclose(halves, 0, atol=1e-12)


@pytest.mark.parametrize("draw", [draw_label_ap, draw_precision_recall])
def test_runs_with_different_labels_do_not_share_a_picture(draw: Callable[..., Figure], tmp_path: Path) -> None:
    other = score_arrays(1)
    other["label_names"] = other["label_names"][::-1]
    folders = [write_run(tmp_path / "a", arrays=score_arrays(0)), write_run(tmp_path / "b", seed=1, arrays=other)]
    with pytest.raises(FigureError, match="different sets of labels"):
        draw(read_methods(folders))


def test_precision_and_recall(tmp_path: Path) -> None:
    arrays = score_arrays(3)
    figure = draw_precision_recall(read_methods([write_run(tmp_path / "a", arrays=arrays)]), ["dog"])
    micro, dog = figure.axes
    for axis, scores, targets in (
        (micro, arrays["test_scores"].ravel(), arrays["test_targets"].ravel()),
        (dog, arrays["test_scores"][:, 1], arrays["test_targets"][:, 1]),
    ):
        recall, precision = line(axis, f"bbam, AP {average_precision(scores, targets):.3f}")
        for threshold in np.quantile(scores, [0.2, 0.6, 0.9]):
            hits = float(targets[scores >= threshold].sum())
            point = (hits / targets.sum(), hits / (scores >= threshold).sum())
            assert any(pytest.approx(point) == pair for pair in zip(recall, precision, strict=True))
    assert [axis.get_title() for axis in figure.axes] == ["all labels, micro-averaged", "label 'dog'"]
    typical = draw_precision_recall(read_methods([tmp_path / "a"]))
    assert [axis.get_title() for axis in typical.axes[1:]] == ["label 'cat'", "label 'dog'", r"label 'mat \$ b'"]


@pytest.mark.parametrize(
    ("kinds", "marks", "explained", "not_explained"),
    [
        (("none",), "m0", [], ["In brackets", "†"]),
        (("none", "all"), "[m1]", ["[In brackets:"], ["†"]),
        (("none", "leak"), "m1 †", ["†: labels of unlabelled rows"], ["In brackets"]),
        (("all", "leak"), "m1 †", ["[In brackets:", "†: labels of unlabelled rows"], []),
    ],
)
def test_each_mark_is_explained_and_no_other(
    tmp_path: Path, kinds: tuple[str, ...], marks: str, explained: list[str], not_explained: list[str]
) -> None:
    folders = [
        write_run(tmp_path / f"m{number}", algorithm=f"m{number}", rows=curve_rows([0.1, 0.2]), hidden_labels=kind)
        for number, kind in enumerate(kinds)
    ]
    figure = draw_learning_curves(read_methods(folders))
    text = words(figure)
    assert marks in text
    assert all(part in text for part in explained)
    assert not any(part in text for part in not_explained)


def test_metrics_against_the_labelled_share(tmp_path: Path) -> None:
    values = {("bbam", 0.05): (0.4, 0.6), ("bbam", 0.1): (0.7, 0.7), ("full", 0.05): (0.9, 0.8), ("full", 0.1): (1, 1)}
    folders = [
        write_run(
            tmp_path / f"{name}_{ratio}_{seed}",
            algorithm=name,
            label_ratio=ratio,
            seed=seed,
            scores={"mAP": value},
            hidden_labels="all" if name == "full" else "none",
        )
        for (name, ratio), pair in values.items()
        for seed, value in enumerate(pair)
    ]
    figure = draw_ratios(read_methods(folders), ("test/mAP",))
    (axis,) = figure.axes
    places, means, deviations = bars(axis, "bbam")
    assert places == pytest.approx([5, 10], abs=0.7)
    assert means == pytest.approx([0.5, 0.7])
    assert deviations == pytest.approx([np.sqrt(0.02), 0])  # (0.1^2 + 0.1^2) / (2 - 1)
    assert bars(axis, "[full]")[1] == pytest.approx([0.85, 1])
    assert "In brackets" in words(figure)
    with pytest.raises(FigureError, match="same labelled share"):
        draw_ratios(read_methods([folders[0]]))
    other = write_run(tmp_path / "other", feature_file="other.npz")
    with pytest.raises(FigureError, match=naming("datasets", "(other, vectors)")):
        draw_ratios(read_methods([folders[0], other]))


def test_sensitivity_is_drawn_around_the_base(tmp_path: Path) -> None:
    def sweep(name: str, value: float, **settings: Any) -> None:
        for seed in (0, 1):
            write_run(tmp_path / f"{name}{seed}", seed=seed, scores={"mAP": value + seed / 10}, **settings)

    sweep("a", 0.1, margin=0.2)  # comes first, but the next has more neighbours
    sweep("b", 0.2)
    sweep("c", 0.3, scale=1.0)
    sweep("d", 0.4, scale=5.0)
    sweep("e", 0.5, scale=5.0, margin=0.2)  # differs from the base in two options
    sweep("f", 0.6, balance=False)  # no number
    figure = draw_sensitivity(read_methods(sorted(tmp_path.iterdir())), ("test/mAP",))
    panels = {axis.get_xlabel(): axis for axis in figure.axes}
    assert sorted(panels) == ["margin", "scale"]
    (scale,) = panels["scale"].containers
    assert list(scale[0].get_xdata()) == [1, 5, 20]
    assert list(scale[0].get_ydata()) == pytest.approx([0.35, 0.45, 0.25])
    (margin,) = panels["margin"].containers
    assert list(margin[0].get_xdata()) == [0.2, 0.4]
    assert list(margin[0].get_ydata()) == pytest.approx([0.15, 0.25])
    assert panels["scale"].get_xscale() == "log"
    assert "margin 0.4, scale 20" in words(figure) or "scale 20, margin 0.4" in words(figure)
    with pytest.raises(FigureError, match=naming("no run", "one option", "number")):
        draw_sensitivity(read_methods([tmp_path / "b0", tmp_path / "f0"]))
    cap = write_run(tmp_path / "cap", algorithm="cap")
    with pytest.raises(FigureError, match=naming("algorithms", "(bbam, cap)")):
        draw_sensitivity(read_methods([tmp_path / "b0", cap]))


DRAWN: dict[str, Callable[[list[Path]], Figure]] = {
    "curves": lambda folders: draw_learning_curves(read_methods(folders)),
    "vdfd": lambda folders: draw_vdfd(read_methods(folders)),
    "angles": lambda folders: draw_angle_histogram(read_methods(folders)[0]),
    "labels": lambda folders: draw_label_ap(read_methods(folders)),
    "precision_recall": lambda folders: draw_precision_recall(read_methods(folders)),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_files_are_no_blanks_and_the_same_each_time(kind: str, tmp_path: Path) -> None:
    rows, arrays = curve_rows([0.1, 0.4]), score_arrays(0, mapped=True)
    folders = [write_run(tmp_path / name, algorithm=name, rows=rows, arrays=arrays) for name in ("bbam", "cap")]
    first, second = (save(DRAWN[kind](folders), tmp_path / f"{n}.2.5pct") for n in ("one", "two"))
    assert [path.name for path in first] == ["one.2.5pct.png", "one.2.5pct.svg"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    with Image.open(first[0]) as image:
        ink = np.asarray(image.convert("L")) < 128
        assert 0.002 < ink.mean() < 0.5
    assert "<dc:date>" not in first[1].read_text()


def test_styles_differ_without_colour() -> None:
    looks = [Style.of(number) for number in range(40)]
    assert len({(str(look.dash), look.marker) for look in looks}) == 40 == len(DASHES) * len(MARKERS)


def test_words_name_the_protocol() -> None:
    assert metric_words("test_prior/micro_f1") == "test micro-F1 at prior thresholds"
    assert metric_words("test/oracle_macro_f1") == "test macro-F1 (oracle)"
    assert metric_words("validation/mAP") == "validation mAP"
