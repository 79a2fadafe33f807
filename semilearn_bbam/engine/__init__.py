"""What runs any method: stages, loops, checkpoints, loaders, hooks."""

from __future__ import annotations

from semilearn_bbam.util import usb as usb
