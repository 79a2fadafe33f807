"""Options that several methods share."""

from __future__ import annotations

import argparse

from semilearn_bbam.config import Option

ANGULAR_OPTIONS = (
    Option("scale", float, 20.0, "s, the sharpness of the sigmoid over cosines", above=0),
    Option("margin", float, 0.4, "m, the cosine of the decision boundary"),
    Option(
        "margin_on",
        str,
        "both",
        "both: s (cos - m) for both classes (slides); positive: s (cos - m y) (released code)",
        choices=("both", "positive"),
    ),
)
COSINE_HEAD_OPTIONS = ANGULAR_OPTIONS[:2]  # of methods with a linear head, which `head: cosine` replaces
ASYMMETRIC_OPTIONS = (
    Option("gamma_negative", float, 4.0, "focusing power of the asymmetric loss on negatives", minimum=0),
    Option("gamma_positive", float, 0.0, "focusing power of the asymmetric loss on positives", minimum=0),
    Option("clip", float, 0.05, "probability below which negatives cost nothing", minimum=0, below=1),
)
LOSS_REDUCTION = Option(
    "loss_reduction",
    str,
    "mean",
    "mean: each term over its own B and K (slides); sum: plain sums (released code)",
    choices=("mean", "sum"),
)
NUM_BRANCHES = Option(
    "num_branches", int, 1, "independent projections and heads over one backbone, scores averaged", minimum=1
)
CONFIDENCE_WEIGHTS = Option(
    "confidence_weights",
    bool,
    False,
    "true: a pseudo-label counts by the distance of its score from its label's threshold, at most 1",
)
RARE_SHRINKAGE = Option(
    "rare_shrinkage",
    float,
    0.0,
    "n_0: what a label learns from the pool counts n / (n + n_0) times, n its labelled positives; 0: fully",
    minimum=0,
)


def asymmetric_options(args: argparse.Namespace) -> dict[str, float]:
    """The settings of `ASYMMETRIC_OPTIONS`, as `losses.asymmetric_loss` takes them."""
    return {"gamma_negative": args.gamma_negative, "gamma_positive": args.gamma_positive, "clip": args.clip}
