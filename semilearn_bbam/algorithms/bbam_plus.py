"""S2ML2-BBAM on mixed rows: this project's extension, not in the paper."""

from __future__ import annotations

from typing import Any, ClassVar

from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.algorithms.bbam import BBAM


@ALGORITHMS.register("bbam_plus")
class BBAMPlus(BBAM):
    """S2ML2-BBAM whose labelled and pseudo-labelled rows are mixed with each other.

    A row of lam x_i + (1 - lam) x_j has the targets lam y_i + (1 - lam) y_j and the weights lam beta_i + (1 - lam)
    beta_j; a soft target mixes the two balancing maps. Everything else is `bbam`. The
    choice of alpha: `docs/methods/bbam_plus.md`.
    """

    defaults: ClassVar[dict[str, Any]] = {"mixup": 2.0, "teacher": "auto", "readout": "auto"}
