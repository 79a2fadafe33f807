"""The formulas of `theory` against a search over thresholds, against the slides' and Xu et al.'s text, and data."""

from __future__ import annotations

import csv
import itertools
import math
import runpy
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from semilearn_bbam.errors import UserError
from semilearn_bbam.report.theory import main
from semilearn_bbam.theory import (
    FIXED,
    Setting,
    best_errors,
    best_threshold,
    crossing_errors,
    errors_at,
    simulate,
    weighted_error,
)
from tests.conftest import naming

SCRIPT = Path(__file__).parents[1] / "scripts" / "theory.py"
RATIOS = (0.1, 0.5, 0.95, 1.0, 1.0001, 1.3, 3.0, 12.0)
NOISE = ((0.0, 0.0), (0.4, 0.05), (0.0, 0.3))


def phi(x: float) -> float:
    return NormalDist().cdf(x)


def printed(setting: Setting, ratio: float, shift: float) -> tuple[float, float]:
    """The slides' two cases, with A and q as in Xu et al. and L in q."""
    s_p, _ = setting.deviations(ratio)
    a = 2 * math.sqrt(setting.d) * setting.eta / ((ratio**2 - 1) * s_p)
    root = math.sqrt(a**2 + 2 * (math.log(ratio) + shift) / (ratio**2 - 1))
    sign = 1 if ratio > 1 else -1
    return phi(a - sign * ratio * root), phi(-ratio * a + sign * root)


@pytest.mark.parametrize("fixed", FIXED)
def test_no_threshold_on_a_fine_grid_has_a_lower_noisy_error(fixed: str) -> None:
    kinds = set()
    for ratio, alpha, (eps_pos, eps_neg), share, eta in itertools.product(
        RATIOS, (0.05, 0.3, 0.5, 0.9), NOISE, (0.5, 1.0), (0.1, 0.6)
    ):
        setting = Setting(3, eta, 1.3, alpha, eps_pos, eps_neg, share, fixed)
        (s_p, s_n), mu = setting.deviations(ratio), math.sqrt(3) * eta
        reach = mu + 8 * max(s_p, s_n)
        t = np.concatenate([[-np.inf], np.linspace(-reach, reach, 20_001), [np.inf]])
        miss, alarm = ndtr((t - mu) / s_p), ndtr(-(t + mu) / s_n)
        # The error on noisy labels, written out: right on a flipped label is wrong on the true one.
        flip_p, flip_n = share * eps_pos, share * eps_neg
        noisy = alpha * ((1 - flip_p) * miss + flip_p * (1 - miss))
        noisy += (1 - alpha) * ((1 - flip_n) * alarm + flip_n * (1 - alarm))
        best, crossing = best_errors(setting, ratio), crossing_errors(setting, ratio)
        value = weighted_error(setting, best) + alpha * flip_p + (1 - alpha) * flip_n
        assert noisy.min() - 1e-6 < value <= noisy.min() + 1e-12
        at = noisy.argmin()
        assert abs(best.positive - miss[at]) < 3e-3
        assert abs(best.negative - alarm[at]) < 3e-3
        # Positive below the threshold: an error where there was none and the other way round.
        flipped = 1 - noisy
        assert flipped.min() >= value - 1e-12
        kinds.add((math.isnan(crossing.threshold), best.threshold if math.isinf(best.threshold) else 0.0))
    assert {(True, math.inf), (True, -math.inf), (False, 0.0), (False, math.inf)} <= kinds


@pytest.mark.parametrize("ratio", [0.2, 0.7, 1.5, 6.0])
@pytest.mark.parametrize("alpha", [0.4, 0.5, 0.7])
def test_crossing_is_the_slides_formula_in_both_cases(ratio: float, alpha: float) -> None:
    for form in ("derived", "slides"):
        setting = Setting(7, 0.5, 0.9, alpha, 0.2, 0.1)
        errors = crossing_errors(setting, ratio, form)
        expected = printed(setting, ratio, setting.log_ratio(form))
        assert (errors.positive, errors.negative) == pytest.approx(expected, abs=1e-12)
        assert errors_at(setting, ratio, errors.threshold).positive == pytest.approx(errors.positive)
        assert errors_at(setting, ratio, errors.threshold).negative == pytest.approx(errors.negative)


def test_only_m_as_negative_over_positive_deviation_gives_the_slides_formula() -> None:
    setting, ratio = Setting(fixed="positive"), 2.0
    right = printed(setting, ratio, 0.0)
    assert (best_errors(setting, ratio).positive, best_errors(setting, ratio).negative) == pytest.approx(right)
    for other in (1 / ratio, ratio**2):  # positive over negative; ratio of variances
        assert abs(printed(setting, other, 0.0)[0] - right[0]) > 0.03


def test_clean_and_balanced_is_the_case_of_xu() -> None:
    d, eta, sigma, ratio = 10, 0.4, 1.2, 2.5
    a = 2 * math.sqrt(d) * eta / ((ratio**2 - 1) * sigma)
    q = 2 * math.log(ratio) / (ratio**2 - 1)
    best = best_errors(Setting(d, eta, sigma), ratio)
    assert best.positive == pytest.approx(phi(a - ratio * math.sqrt(a**2 + q)))
    assert best.negative == pytest.approx(phi(-ratio * a + math.sqrt(a**2 + q)))
    mirrored = best_errors(Setting(d, eta, sigma), 1 / ratio)
    assert (mirrored.positive, mirrored.negative) == pytest.approx((best.negative, best.positive))


def test_limits() -> None:
    setting = Setting(eta=0.3, alpha=0.3, eps_pos=0.2)
    mu, shift = setting.mu, setting.log_ratio()
    equal = best_errors(setting, 1.0)
    assert equal.threshold == pytest.approx(-shift / (2 * mu))  # of equal variances: s^2 L / (2 mu) below 0
    for near in (1 - 1e-9, 1 + 1e-9):
        assert best_errors(setting, near).positive == pytest.approx(equal.positive, abs=1e-7)
    far = crossing_errors(Setting(), 1e8)
    assert (far.positive, far.negative) == pytest.approx((0, 0.5), abs=1e-3)
    none = crossing_errors(Setting(alpha=0.05), 2.0)
    assert math.isnan(none.threshold)
    assert math.isnan(none.positive)
    assert best_errors(Setting(alpha=0.05), 2.0).vca == 0.25
    assert best_errors(Setting(alpha=0.95), 0.5).threshold == -math.inf


def test_slides_log_ratio_agrees_in_two_cases_only() -> None:
    for eps in (0.0, 0.2, 0.45):
        same = Setting(alpha=0.2, eps_pos=eps, eps_neg=eps)
        assert same.log_ratio() == pytest.approx(math.log(0.25))
        assert same.log_ratio("slides") == pytest.approx(math.log(0.25))
    unequal = Setting(eps_pos=0.4, eps_neg=0.1)
    assert unequal.log_ratio() == pytest.approx(math.log(0.6 / 0.9))
    assert unequal.log_ratio("slides") == pytest.approx(math.log(1.1 / 1.4))
    for share in np.linspace(0, 1, 41):
        other = replace(unequal, pseudo_share=float(share))
        difference = other.log_ratio() - other.log_ratio("slides")
        assert np.sign(round(difference, 12)) == np.sign(round(1 / 3 - share, 12))  # 1 / (4 - 2 (0.4 + 0.1))
    small = Setting(eps_pos=0.002, eps_neg=0.001)
    assert small.log_ratio() / small.log_ratio("slides") == pytest.approx(2, abs=0.01)


def test_vca_claims_of_the_slides() -> None:
    def values(setting: Setting, top: float) -> np.ndarray:
        return np.array([best_errors(setting, ratio).vca for ratio in np.geomspace(1, top, 120)])

    for top in (50.0, 1 / 50):
        rising = values(Setting(), top)
        assert rising[0] < 1e-20
        assert (np.diff(rising) > 0).all()
    # Not where the other deviation, or the mean variance, is the one that stays.
    for fixed, top in (("positive", 1 / 50), ("negative", 50.0), ("mean", 50.0), ("mean", 1 / 50)):
        peaked = values(Setting(fixed=fixed), top)
        assert peaked[0] < 1e-20
        assert (np.diff(peaked)[:10] > 0).all()
        assert (np.diff(peaked)[-10:] < 0).all()
    # With L < 0 the two errors are unequal at M = 1, and equal somewhere above.
    noisy = Setting(eps_pos=0.4, eps_neg=0.05)
    assert best_errors(noisy, 1.0).vca > 1e-3
    assert values(noisy, 4.0).min() < 1e-5
    # Just above 1/16 before it comes down to it.
    assert best_errors(Setting(), 150.0).vca > best_errors(Setting(), 1000.0).vca > 1 / 16


def test_equal_variances_have_the_greatest_mean_error_of_a_given_mean_variance() -> None:
    def mean(ratio: float) -> float:
        errors = best_errors(Setting(fixed="mean"), ratio)
        return (errors.positive + errors.negative) / 2

    ratios = np.geomspace(1, 20, 40)
    assert (np.diff([mean(ratio) for ratio in ratios]) < 0).all()
    assert (np.diff([mean(1 / ratio) for ratio in ratios]) < 0).all()


@pytest.mark.parametrize("fixed", FIXED)
@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_deviations(fixed: str, ratio: float) -> None:
    s_p, s_n = Setting(s=1.5, fixed=fixed).deviations(ratio)
    assert s_n / s_p == pytest.approx(ratio)
    fixed_value = {"smaller": min(s_p, s_n), "positive": s_p, "negative": s_n, "mean": math.sqrt((s_p**2 + s_n**2) / 2)}
    assert fixed_value[fixed] == pytest.approx(1.5)


def test_best_threshold_against_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 5, 40):
        z, labels = rng.integers(0, 9, size).astype(float), rng.random(size) < 0.5
        errors = {t: ((z > t) != labels).sum() for t in (-math.inf, *np.arange(-0.5, 9), math.inf)}
        assert ((z > best_threshold(z, labels)) != labels).sum() == min(errors.values())
    z = np.array([0.0, 1.0, 2.0])
    assert best_threshold(z, np.array([True, True, True])) == -math.inf
    assert best_threshold(z, np.array([False, False, False])) == math.inf


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_simulation_finds_the_formula_along_both_directions(ratio: float) -> None:
    setting = Setting(eps_pos=0.4, eps_neg=0.05, pseudo_share=0.8)
    runs = [simulate(setting, ratio, seed=seed, samples=40_000) for seed in range(4)]
    formula, unflipped = best_errors(setting, ratio), best_errors(replace(setting, eps_pos=0.0), ratio)
    for way in ("theta", "lda"):
        positive, negative = (np.mean([getattr(run[way], name) for run in runs]) for name in ("positive", "negative"))
        assert abs(positive - formula.positive) < 0.04
        assert abs(negative - formula.negative) < 0.04
        assert abs(positive - unflipped.positive) > 0.05  # the noise has an effect
    assert simulate(setting, ratio, seed=0, samples=40_000) == runs[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"d": 0}, {"eta": 0.0}, {"eta": math.nan}, {"s": 0.0}, {"s": -1.0}, {"s": math.inf}, {"alpha": 0.0},
        {"alpha": 1.0}, {"eps_pos": 0.5}, {"eps_neg": -0.1}, {"pseudo_share": 1.1}, {"fixed": "both"},
    ],
)  # fmt: skip
def test_values_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} must"):
        Setting(**wrong)


def test_other_arguments_that_cannot_be() -> None:
    for ratio in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=naming("M", "positive", ratio)):
            best_errors(Setting(), ratio)
    with pytest.raises(ValueError, match=naming("log_ratio", "derived, slides", "'slide'")):
        crossing_errors(Setting(), 2.0, "slide")
    with pytest.raises(ValueError, match="take at least 13"):
        simulate(Setting(), 1.0, seed=0, samples=12)
    with pytest.raises(ValueError, match="one class"):
        simulate(Setting(alpha=1e-9), 1.0, seed=0, samples=20)


def test_script_writes_picture_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--seeds", "2", "--samples", "400", "--d", "2", "--out", str(tmp_path / "pictures" / "theory.png")]
    monkeypatch.setattr("sys.argv", ["theory.py", *arguments, "--results", str(tmp_path / "numbers")])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert done.value.code == 0
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"theory.png", "theory.svg"}
    with (tmp_path / "numbers" / "theory.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 13
    clean = next(row for row in rows if row["setting"] == "clean, balanced" and row["M"] == "1")
    expected = phi(-math.sqrt(2) * 0.4)
    assert float(clean["formula_positive"]) == float(clean["slides_negative"]) == pytest.approx(expected, abs=1e-6)
    assert float(clean["lda_positive_mean"]) == pytest.approx(expected, abs=0.2)
    assert (tmp_path / "numbers" / "summary.md").read_text(encoding="utf-8").count("noisy, imbalanced") == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--alpha", "2"], "alpha must lie"),
        (["--seeds", "0"], "--seeds"),
        (["--samples", "3"], "few"),
        (["--docs"], "no docs"),
    ],
)
def test_wrong_options_are_one_sentence(
    wrong: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        main([*wrong, "--out", str(tmp_path / "a"), "--results", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "numbers").touch()
    with pytest.raises(UserError, match=r"cannot write .*numbers: \w"):
        main(["--seeds", "1", "--samples", "200", "--out", str(tmp_path / "a"), "--results", str(tmp_path / "numbers")])
