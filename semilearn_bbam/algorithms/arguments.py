"""Algorithm arguments that several algorithms share, in USB's `SSL_Argument` form."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from semilearn.algorithms.utils import SSL_Argument, str2bool


def one_of(*choices: str) -> Callable[[str], str]:
    """An argument type that takes one of these words; ValueError, naming them, for any other."""

    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    check.__name__ = "|".join(choices)
    return check


def share(value: str) -> float:
    """An argument type: a number in [0, 1]."""
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError("must lie in [0, 1]")
    return number


def positive_or_zero(value: str) -> float:
    """An argument type: a finite number of at least 0."""
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError("must be a finite number of at least 0")
    return number


def whole(value: str) -> int:
    """An argument type: a whole number of at least 0."""
    number = int(value)
    if number < 0:
        raise ValueError("must be a whole number of at least 0")
    return number


def whole_positive(value: str) -> int:
    """An argument type: a whole number of at least 1."""
    number = int(value)
    if number < 1:
        raise ValueError("must be a whole number of at least 1")
    return number


def below_one(value: str) -> float:
    """An argument type: a number of at least 0 and below 1."""
    number = float(value)
    if not 0 <= number < 1:
        raise ValueError("must be at least 0 and below 1")
    return number


def positive(value: str) -> float:
    """An argument type: a finite number above 0."""
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("must be a finite number above 0")
    return number


def asymmetric_options(args: argparse.Namespace) -> dict[str, float]:
    """The settings of `ASYMMETRIC_ARGUMENTS`, as `losses.asymmetric_loss` takes them."""
    return {"gamma_negative": args.gamma_negative, "gamma_positive": args.gamma_positive, "clip": args.clip}


ANGULAR_ARGUMENTS = (
    SSL_Argument("--scale", positive, 20.0, "s, the sharpness of the sigmoid over cosines"),
    SSL_Argument("--margin", float, 0.4, "m, the cosine at which the decision boundary lies"),
    SSL_Argument(
        "--margin_on",
        one_of("both", "positive"),
        "both",
        "both: s (cos - m) for both classes (slides); positive: s (cos - m y) (released code)",
    ),
)
ASYMMETRIC_ARGUMENTS = (
    SSL_Argument("--gamma_negative", positive_or_zero, 4.0, "focusing power of the asymmetric loss on negatives"),
    SSL_Argument("--gamma_positive", positive_or_zero, 0.0, "focusing power of the asymmetric loss on positives"),
    SSL_Argument("--clip", below_one, 0.05, "probability below which negatives cost nothing"),
)
REDUCTION_ARGUMENT = SSL_Argument(
    "--loss_reduction",
    one_of("mean", "sum"),
    "mean",
    "mean: each term over its own B and K (slides); sum: plain sums (released code)",
)
BRANCHES_ARGUMENT = SSL_Argument(
    "--num_branches",
    whole_positive,
    1,
    "independent projections and heads over one backbone, scores averaged",
)
WEIGHTS_ARGUMENT = SSL_Argument(
    "--confidence_weights",
    str2bool,
    False,
    "true: a pseudo-label counts as far as its score lies from its label's threshold, at most 1",
)
