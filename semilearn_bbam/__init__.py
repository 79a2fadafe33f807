"""Semi-supervised multi-label learning for USB (`semilearn`).

Importing the package registers its algorithms in USB's `ALGORITHMS`; it changes no random state and none of USB's
other globals.
"""

from __future__ import annotations

import sys
import warnings

__version__ = "0.1.0"

# `python -m semilearn_bbam doctor` must run where the import of USB fails, for it says why.
if sys.orig_argv[-2:] != ["semilearn_bbam", "doctor"]:
    with warnings.catch_warnings():
        # USB's own imports warn about timm, aim and torch.cuda.amp; none of it concerns a user of this package.
        warnings.simplefilter("ignore")
        try:
            from semilearn_bbam import algorithms as algorithms
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise ImportError(
                f"semilearn_bbam needs packages that do not import here ({error}); "
                "python -m semilearn_bbam doctor says which, and how to fix it"
            ) from error
