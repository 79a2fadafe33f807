"""Semi-supervised multi-label learning for USB (`semilearn`).

Importing the package registers its algorithms in USB's `ALGORITHMS`; it changes no random state and none of USB's
other globals.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # USB's own imports warn about timm, aim and torch.cuda.amp; none of it concerns a user of this package.
    warnings.simplefilter("ignore")
    from semilearn_bbam import algorithms as algorithms

__version__ = "0.1.0"
