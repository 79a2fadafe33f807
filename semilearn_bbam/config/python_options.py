"""Options that Python code gives in a dictionary, by their names on the command line."""

from __future__ import annotations

from collections.abc import Mapping

from semilearn_bbam.errors import FitError

from .options import OPTIONS

PARAMETERS = {"algorithm": "method", "epoch": "epochs", "seed": "random_state", "device": "device"}
# Of these groups of options, which are about files and folders, the following have a use here.
REFUSED_GROUPS = ("run", "data")
USEFUL = {"on_nonfinite", "max_nonfinite", "unknown_labels", "select_on", "val_ratio"}


def command_words(values: Mapping[str, object]) -> list[str]:
    """A command line that sets these options.

    Args:
        values: by name; truth values become true and false.

    Returns:
        A word for each.

    Example:
        >>> command_words({"lr": 1e-3, "amp": True})
        ['--lr=0.001', '--amp=true']
    """
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]


def renamed(line: str) -> str:
    """A message of the command line for Python, where its option is a parameter or in `options`."""
    text = line.removeprefix("command line: ")
    key, space, rest = text.partition(" ")
    if key in PARAMETERS:
        return f"{PARAMETERS[key]}{space}{rest}"
    return text if text == line else f"options: {text}"


def check_option(key: object) -> None:
    """FitError for an option that a parameter sets, or that is about files."""
    name = str(key).replace("-", "_")
    if name in PARAMETERS:
        raise FitError(f"options: {key!r} is the parameter {PARAMETERS[name]} of the estimator; set that")
    group = next((option.group for option in OPTIONS if option.name == name), "")
    if name in ("c", "help", "encoder", "encoder_flip") or (group in REFUSED_GROUPS and name not in USEFUL):
        raise FitError(f"options: {key!r} has no use for arrays in memory; delete it")
