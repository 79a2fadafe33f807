"""The first import of USB: without its warnings, and with a clear message if it fails.

Packages that use USB import this module before it.
"""

from __future__ import annotations

import warnings

from semilearn_bbam.errors import InstallError, first_line

with warnings.catch_warnings():
    # USB's own imports warn about timm, aim and torch.cuda.amp; none of it concerns users of this package.
    warnings.simplefilter("ignore")
    try:
        import semilearn as semilearn
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise InstallError(
            f"USB (semilearn) does not import here: {first_line(error)}; semilearn-bbam doctor --imports names the "
            "faulty package and the fix"
        ) from error
