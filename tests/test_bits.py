"""Masks as bits."""

from __future__ import annotations

import pytest
import torch

from semilearn_bbam import bits
from semilearn_bbam.bits import LabelBits, num_bytes, pack_labels, unpack_labels


@pytest.mark.parametrize("num_labels", [1, 7, 8, 9, 23, 64])
def test_unpacking_gives_what_was_packed(num_labels: int) -> None:
    mask = torch.rand(50, num_labels, generator=torch.Generator().manual_seed(num_labels)) < 0.4
    packed = pack_labels(mask)
    assert packed.dtype == torch.uint8
    assert packed.shape == (50, num_bytes(num_labels))
    assert torch.equal(unpack_labels(packed, num_labels), mask)
    assert torch.equal(pack_labels(mask.T.contiguous().T), packed)  # from label-major memory
    for row in range(3):
        assert int(packed[row, 0]) == sum(2**k for k in range(min(8, num_labels)) if mask[row, k])


@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize("branches", [1, 3])
def test_rows_are_those_of_the_whole(small: int, branches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the mask is kept unpacked, and where it is not."""
    monkeypatch.setattr(bits, "SMALL", small)
    mask = torch.rand(20, branches * 11, generator=torch.Generator().manual_seed(0)) < 0.3
    packed, rows = LabelBits.of(mask, branches), torch.tensor([3, 3, 19, 0])
    assert packed.packed.shape == (20, branches, 2)
    assert len(packed) == 20
    assert torch.equal(packed.rows(rows), mask[rows])
    assert torch.equal(packed.whole, mask)
    assert torch.equal(packed.to("cpu").rows(rows), mask[rows])
