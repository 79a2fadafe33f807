"""For older tools: all metadata are in pyproject.toml."""

from setuptools import setup

setup()
