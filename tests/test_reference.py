"""Parity with the released code: `data/reference.npz` holds what its functions give on random data.

The released code departs from the slides: the margin is on positives only, statistics are blended with
momentum 0.01 from zeros, variances are taken around the blended means, and all unmasked negatives count.
Row 0 of `means` and `variances` are negatives, row 1 positives; the arrays of the losses (`cos` and what
follows from it) keep the first 200 rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics, label_angles, label_prototypes
from semilearn_bbam.losses import angular_logits, balanced_cosine, bam_loss, bbam_loss
from semilearn_bbam.metrics import multilabel_metrics
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels, class_thresholds

MOMENTUM, SCALE, MARGIN = 0.01, 20.0, 0.4
Arrays = dict[str, Tensor]


@pytest.fixture(scope="module")
def reference() -> Arrays:
    with np.load(Path(__file__).parent / "data" / "reference.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=tolerance)


def released_estimate(angles: Tensor, targets: Tensor, valid: Tensor, previous: AngleStatistics) -> AngleStatistics:
    plain = AngleStatistics.estimate(angles, targets, valid=valid).blend(previous, MOMENTUM)
    center = (plain.mean_pos, plain.mean_neg)
    return AngleStatistics.estimate(angles, targets, valid=valid, center=center).blend(previous, MOMENTUM)


def assert_statistics(actual: AngleStatistics, reference: Arrays, which: str) -> None:
    means, variances = reference["means" + which], reference["variances" + which]
    close(torch.stack([actual.mean_neg, actual.mean_pos]), means, 1e-6)
    close(torch.stack([actual.var_neg, actual.var_pos]), variances, 1e-7)
    close((actual.var_pos + actual.var_neg) / 2, reference["mean_variances" + which], 1e-7)


@pytest.mark.parametrize("which", ["", "2"])
def test_prototypes(reference: Arrays, which: str) -> None:
    # Masked positives are left out; the released division by (count + 1e-5) is the whole difference.
    kept = reference["targets"] & reference["mask"]
    close(label_prototypes(reference["features" + which], kept), reference["prototypes" + which], 1e-6)


def test_first_statistics(reference: Arrays) -> None:
    angles = label_angles(reference["features"], reference["prototypes"])
    statistics = released_estimate(angles, reference["targets"], reference["mask"], AngleStatistics.zeros(7))
    assert_statistics(statistics, reference, "")


def test_second_statistics(reference: Arrays) -> None:
    # The released function overwrites the caller's mark of masked entries by 0 in its first call. Its second
    # call on the same array therefore takes all masked entries for negatives; `valid` of ones says the same.
    targets, mask = reference["targets"], reference["mask"]
    angles = label_angles(reference["features"], reference["prototypes"])
    first = released_estimate(angles, targets, mask, AngleStatistics.zeros(7))
    angles = label_angles(reference["features2"], reference["prototypes2"])
    second = released_estimate(angles, targets & mask, torch.ones_like(mask), first)
    assert_statistics(second, reference, "2")


@pytest.fixture
def second_statistics(reference: Arrays) -> AngleStatistics:
    (mean_neg, mean_pos), (var_neg, var_pos) = reference["means2"], reference["variances2"]
    return AngleStatistics(mean_pos, var_pos, mean_neg, var_neg)


# The cosines are float64 but the statistics float32: the map is exact to about 1e-7, a logit to s times that.
def test_balanced_losses(reference: Arrays, second_statistics: AngleStatistics) -> None:
    cosine = reference["cos"].double()
    targets = reference["targets"][: len(cosine)]
    balanced = balanced_cosine(cosine, targets, second_statistics)
    close(balanced, reference["bbam_cos"], 2e-7)
    logits = angular_logits(balanced, targets, scale=SCALE, margin=MARGIN, margin_on="positive")
    close(logits, reference["bbam_logits"], 4e-6)
    loss = bbam_loss(cosine, targets, second_statistics, scale=SCALE, margin=MARGIN, margin_on="positive")
    close(loss, reference["bbam_loss"], 4e-6)


def test_label_free_cosine(reference: Arrays, second_statistics: AngleStatistics) -> None:
    cosine = reference["cos"].double()
    balanced = balanced_cosine(cosine, torch.full_like(cosine, 0.5), second_statistics)
    close(balanced, reference["blend_cos"], 2e-7)


def test_plain_loss(reference: Arrays) -> None:
    # The released log(1 - sigmoid(x)) cancels for well-classified negatives: hence 1e-9 even in float64.
    cosine = reference["cos"].double()
    targets = reference["targets"][: len(cosine)]
    loss = bam_loss(cosine, targets, scale=SCALE, margin=MARGIN, margin_on="positive")
    close(loss, reference["bam_loss"], 1e-9)


def test_slides_form_differs_from_the_released_form_in_negatives_only(reference: Arrays) -> None:
    cosine = reference["cos"].double()
    targets = reference["targets"][: len(cosine)]
    loss = bam_loss(cosine, targets, scale=SCALE, margin=MARGIN)
    close(loss[targets], reference["bam_loss"][targets], 1e-9)
    assert (loss[~targets] < reference["bam_loss"][~targets]).all()


def test_class_aware_pseudo_labels(reference: Arrays) -> None:
    scores, rate = reference["cap_scores"], reference["cap_freq"]
    targets, mask = class_aware_pseudo_labels(scores, rate)
    assert torch.equal(targets.bool(), reference["cap_pseudo"])
    assert mask.all()
    assert torch.equal(scores >= class_thresholds(scores, rate), reference["cap_pseudo"])


def test_metrics(reference: Arrays) -> None:
    result = multilabel_metrics(reference["metric_scores"], reference["targets"])
    num_labels = reference["targets"].shape[1]
    # Numbers 4, 8 and 9 are areas under the ROC curve, which this package does not report.
    expected = dict(enumerate(reference["metrics"].tolist()))
    actual = {
        0: (result["coverage_error"] - 1) / num_labels,
        1: result["ranking_loss"],
        2: result["lrap"],
        3: result["mAP"],
        5: result["oracle_macro_f1"],
        6: result["oracle_micro_f1"],
        7: result["oracle_hamming_loss"],
        10: result["one_error"],
        11: 100 * result["mAP"],
    }
    assert actual == pytest.approx({index: expected[index] for index in actual}, abs=1e-12)
