"""Settings of a run: strict YAML files, the table of options, and their resolution with the command line."""

from __future__ import annotations

from .conflicts import Conflict, stage_conflicts
from .option import Option, nearest
from .options import ARRAYS, OPTIONS
from .resolve import dump_yaml, resolve
from .run_files import default_save_name, written_by_run
from .settings import Settings
from .shipped import config_words
from .yaml_loader import ConfigError, Located, format_yaml, load_yaml, plain_value

__all__ = [
    "ARRAYS",
    "OPTIONS",
    "Conflict",
    "ConfigError",
    "Located",
    "Option",
    "Settings",
    "config_words",
    "default_save_name",
    "dump_yaml",
    "format_yaml",
    "load_yaml",
    "nearest",
    "plain_value",
    "resolve",
    "stage_conflicts",
    "written_by_run",
]
