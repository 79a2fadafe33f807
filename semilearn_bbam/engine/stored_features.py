"""Features of a pool that are larger than memory: written to a file batch by batch, read in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.pool_blocks import CHUNK

LARGEST = float(np.finfo(np.float16).max)


class StoredFeatures:
    """Features [N,D] in a file of float16, whose chunks are float32 on a device; used in a `with`, which removes it.

    No part of the file stays mapped, so that its pages do not count as memory of the process.
    """

    def __init__(self, path: Path, width: int, device: torch.device) -> None:
        self.path, self.width, self.device = path, width, device

    @classmethod
    def write(cls, path: Path, batches: Iterable[Tensor], device: torch.device) -> StoredFeatures:
        """Write batches [B,D]. UserError for values that float16 cannot hold, RunError where the disk is full."""
        width = 0
        try:
            with open(path, "wb") as file:
                for batch in batches:
                    width = batch.shape[1]
                    if not bool((batch.abs() <= LARGEST).all()):  # NaN too
                        raise UserError(
                            "pool_storage: features are infinite, undefined or beyond the largest float16, 65504; set "
                            "pool_storage: memory, or lower lr"
                        )
                    file.write(batch.half().cpu().contiguous().numpy().tobytes())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise RunError(f"{path} cannot be written ({error.strerror}); free space there") from error
        except UserError:
            path.unlink(missing_ok=True)
            raise
        return cls(path, width, device)

    def __enter__(self) -> StoredFeatures:
        return self

    def __exit__(self, *error: object) -> None:
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self.path.stat().st_size // (2 * self.width) if self.width else 0

    def chunks(self) -> Iterator[Tensor]:
        """The rows in order, float32 [n,D] each."""
        with open(self.path, "rb") as file:
            while len(values := np.fromfile(file, np.float16, CHUNK * self.width)):
                yield torch.from_numpy(values).view(-1, self.width).to(self.device).float()
