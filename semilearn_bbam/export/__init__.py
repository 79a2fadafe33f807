"""Trained runs in the formats of other programs, each checked against the run before it is written."""

from semilearn_bbam.util import usb as usb
