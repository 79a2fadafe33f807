"""The first import of USB: without its warnings, without torchaudio where that fails, and with a clear message.

Packages that use USB import this module before it.
"""

from __future__ import annotations

import warnings

from semilearn_bbam.errors import InstallError, first_line
from semilearn_bbam.util.audio import import_audio

with warnings.catch_warnings():
    # USB's own imports warn about timm, aim and torch.cuda.amp; none of it concerns users of this package.
    warnings.simplefilter("ignore")
    import_audio()
    try:
        import semilearn as semilearn
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise InstallError(
            f"USB (semilearn) does not import here: {first_line(error)}; semilearn-bbam doctor --imports names the "
            "faulty package and the fix"
        ) from error
