"""A forward pass over a labelled and an unlabelled batch whose rows are mixed with each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from semilearn_bbam.config import Option
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.mixing import mix_rows
from semilearn_bbam.nets.ensemble import for_branches

MIXUP = Option(
    "mixup", float, 0.0, "alpha: each row of a batch is mixed with another by Beta(alpha, alpha); 0: not", minimum=0
)

Values = tuple[Tensor, ...]
Passed = tuple[dict[str, Tensor], Values]


def mixed_pass(
    algorithm: MultiLabelAlgorithm,
    x_lb: Any,
    values_lb: Values,
    x_ulb: Any,
    values_ulb: Values,
    known_lb: Tensor | None = None,
) -> tuple[Passed, Passed]:
    """Outputs of the net for a labelled and an unlabelled batch, with targets and weights as they were mixed.

    The two batches are mixed as one, so that labelled rows are mixed with unlabelled ones. Rows are mixed at the input;
    texts, which cannot be, at the backbone's feature. values: tensors [B,..] of the rows, in the same order for both.
    With `mixup: 0` this is `algorithm.joint` and nothing is mixed.

    known_lb [B_l,K]: which targets of labelled rows are known, None: all. The values are (targets, weights) then, and
    the weight of a cell is 0 where it is unknown, of a mixed row where it is unknown in one of the two rows.
    """
    alpha = algorithm.args.mixup
    if alpha == 0:
        outputs_lb, outputs_ulb = algorithm.joint(x_lb, x_ulb)
        if known_lb is not None:
            values_lb = masked(values_lb, known_lb)
        return (outputs_lb, values_lb), (outputs_ulb, values_ulb)
    if known_lb is not None:
        values_lb = (values_lb[0].float().masked_fill(~known_lb, float("nan")), *values_lb[1:])
    texts = not isinstance(x_lb, Tensor)
    if texts:
        x_lb, x_ulb = (algorithm.model(x, only_backbone=True) for x in (x_lb, x_ulb))
    sizes, widths = [len(x_lb), len(x_ulb)], [value.shape[1] for value in values_lb]
    values = torch.cat([torch.cat([value.float() for value in pair], dim=1) for pair in (values_lb, values_ulb)])
    rows, values = mix_rows(torch.cat([x_lb, x_ulb]), values, alpha)
    outputs = algorithm.joint(*rows.split(sizes), **({"from_backbone": True} if texts else {}))
    parts = [part.split(widths, dim=1) for part in values.split(sizes)]
    if known_lb is not None:
        parts = [masked(part, ~part[0].isnan()) for part in parts]
    return (outputs[0], parts[0]), (outputs[1], parts[1])


def masked(values: Values, known: Tensor) -> Values:
    """Targets and weights of rows, both 0 where the label is not known."""
    targets, weights = values
    return targets.masked_fill(~known, 0.0), weights * for_branches(known, weights)
