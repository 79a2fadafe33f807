"""The settings that a search chose, as configs of the folder `tuned`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from semilearn_bbam.compare.tuning.search import Search
from semilearn_bbam.config import config_words, format_yaml
from semilearn_bbam.util.files import write_atomically


def tuned_path(search: Search) -> Path:
    """The config of a search's choice, which `config_words` finds before all others."""
    return search.tuning.configs / "tuned" / f"{search.contender.method}_{search.dataset}.yaml"


def tuned_text(search: Search, command: str) -> str:
    """The config of a search's choice: where it is from, and the settings that are not the inherited ones.

    Empty where the choice is what the method has without such a file. command: the one that made the search.
    """
    tuning, contender, best = search.tuning, search.contender, search.best
    if best is None:
        return ""
    start = Path(config_words(tuning.configs, contender.method, search.dataset, tuned=False)[1])
    changed = {name: value for name, value in best.values.items() if value != search.start[name]}
    settings = {**contender.settings, **changed, **(search.stages(best) if "epoch" in changed else {})}
    if not changed and not contender.settings:
        return ""
    seeds = " and ".join(map(str, tuning.seeds))
    scores = ", ".join(f"{score:.3f}" for score in best.scores())
    first = search.by_default
    defaults = f"at its defaults {first.mean:.3f}" if first else "its defaults failed"
    number = len(search.finished)
    lines = [
        f"# {contender.method} on {search.dataset}, with the settings that were chosen by:",
        f"# {command}",
        f"# The best of {number} trials by the last model's mAP on a validation part of the labelled data, never on",
        f"# the test set, mean of seeds {seeds}: {best.mean:.3f} ({scores}), trial {best.number}; {defaults}.",
        f"# {percent(tuning.trained_share)} of the training rows trained, "
        f"{percent(tuning.label_ratio * tuning.val_ratio)} judged.",
    ]
    inherits = Path(os.path.relpath(start, tuned_path(search).parent)).as_posix()
    return "\n".join(lines) + "\n" + format_yaml({"inherits": inherits, "algorithm": contender.method, **settings})


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def write_tuned(search: Search, command: str) -> str:
    """Put the choice of a finished search into its config; returns what was done in words.

    A config of before is replaced, and removed where the choice is what the method has without it.
    """
    path, text = tuned_path(search), tuned_text(search, command)
    if text:
        write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
        return f"wrote {path}"
    path.unlink(missing_ok=True)
    return f"removed {path}: the choice is what {search.contender.method} has without it"
