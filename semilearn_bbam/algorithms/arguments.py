"""Algorithm arguments that several algorithms share, in USB's `SSL_Argument` form."""

from __future__ import annotations

from collections.abc import Callable

from semilearn.algorithms.utils import SSL_Argument


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


def positive(value: str) -> float:
    """An argument type: a finite number above 0."""
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("must be a finite number above 0")
    return number


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
